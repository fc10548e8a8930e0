from pathlib import Path

import pytest
from mmengine.config import Config

from tests.datasets.fixtures import build

CONFIGS = Path(__file__).parents[2] / "configs" / "_base_"


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    """Writes a config of the brightness model on a small copy of a benchmark; returns its path."""

    def write(name: str = "voc21", **model) -> Path:
        build(tmp_path / "data", name)
        monkeypatch.setenv("OVSEG_DATA", str(tmp_path / "data"))
        classes = Config.fromfile(CONFIGS / "datasets" / f"{name}.py").num_classes
        path = tmp_path / f"brightness_{name}.py"
        path.write_text(
            f"_base_ = ['{CONFIGS}/datasets/{name}.py', '{CONFIGS}/runtime/eval.py']\n"
            "custom_imports = dict(imports=['tests.engine.fake_model'], allow_failed_imports=False)\n"
            "short_side = 32\n"
            f"model = dict(type='BrightnessModel', **{dict(num_classes=classes, **model)!r})\n"
            "test_dataloader = dict(num_workers=0)\n"
        )
        return path

    return write
