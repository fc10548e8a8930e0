"""ovseg's installer; tested versions of the dependencies stand in ``constraints.txt``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "ovseg" / "__init__.py").read_text()).group(1)

setup(
    name="ovseg",
    version=VERSION,
    description="Open-vocabulary semantic segmentation: every method in one place, comparable, fast and tested",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["ovseg", "ovseg.*"]), "ovseg.configs"],
    package_dir={"ovseg.configs": "configs"},  # configs/ stands beside the package and travels inside the wheel
    package_data={
        "ovseg": [
            "assets/**/*",
            "text/vocabularies/*.txt",
            "text/definitions/*",
            "datasets/classes/*.txt",
            "ops/cuda/*",
            "nano/*.tsv",
            "nano/*.txt",
        ],
        "ovseg.configs": ["**/*.py"],
    },
    entry_points={"console_scripts": ["ovseg=ovseg.cli:main"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.26",
        # the maintained forks of OpenMMLab; they keep the import names mmengine, mmcv, mmseg.
        # Do not install the original packages beside them: they own the same files.
        "onedl-mmengine>=0.10.12",
        "onedl-mmcv>=2.3.6",
        "onedl-mmsegmentation>=1.4.2",
        "open_clip_torch>=3.0",
        "timm>=1.0.15",
        "segment-anything>=1.0",
        "opencv-python>=4.9",
        "pillow>=10.1",
        "pycocotools>=2.0.8",
        "safetensors>=0.4.3",
        "filelock",
        "huggingface_hub",
        "scipy>=1.11",
        "scikit-learn>=1.3",
        "rich>=13",
        "ftfy>=6.1",
        "regex",
    ],
    extras_require={
        "cuda": ["cupy-cuda13x>=14"],
        "sam": ["segment-anything>=1.0", "transformers>=4.56"],
        "crf": ["pydensecrf2>=1.1"],  # built from source: needs a C++ compiler, takes minutes
        "demo": ["gradio>=5"],
        "scale": ["faiss-cpu>=1.9", "onnx>=1.17", "onnxruntime>=1.20"],
        "test": ["pytest>=8", "hypothesis>=6.100", "pytest-xdist>=3.5", "ruff>=0.12"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
