"""SAM-CLIP's recipe at nano's scale through tools/train.py, and its file read back."""

from pathlib import Path

import torch
from mmengine.config import Config

from ovseg.cli import door
from ovseg.registry import MODELS
from tests.nano.conftest import FIXTURES
from tools.publish_decoder import publish, read_training

CONFIG = Path(__file__).parents[2] / "configs" / "nano" / "sam_clip_merged_nano_train.py"


def test_the_recipe_trains_both_sides_and_its_file_is_read(tmp_path):
    options = [
        f"train_dataloader.dataset.first.sprites={FIXTURES}",
        f"train_dataloader.dataset.second.sprites={FIXTURES}",
        "train_dataloader.batch_size=2",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "val_dataloader=None",
        "val_cfg=None",
        "val_evaluator=None",
        "train_cfg.max_iters=3",
        "default_hooks.checkpoint.interval=1",
        "default_hooks.checkpoint.max_keep_ckpts=3",
        "default_hooks.logger.interval=1",
    ]
    assert not door("train", [str(CONFIG), "--work-dir", str(tmp_path), "--cfg-options", *options])
    first, last = (read_training(tmp_path / f"iter_{i}.pth") for i in (1, 3))
    moved = {name for name in last if not torch.equal(first[name], last[name])}
    model = MODELS.build(Config.fromfile(CONFIG).model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained >= moved and len(moved) > 0.9 * len(trained)
    publish(CONFIG, tmp_path / "iter_3.pth", tmp_path / "out.safetensors", "training")
    student = Config.fromfile(CONFIG).model.student
    student.backbone.update(weights="sam_clip_merged/vitb16", checkpoint=str(tmp_path / "out.safetensors"))
    student.update(vocabulary=["cat", "dog"], templates="plain")
    segmentor = MODELS.build(student)
    for part in ("sam", "head"):
        for name, value in getattr(segmentor.backbone, part).state_dict().items():
            assert torch.equal(value, last[f"{part}.{name}"]), name
    photo = segmentor.prepare(torch.randint(0, 256, (3, 112, 150), dtype=torch.uint8), (112, 150))
    assert segmentor.predict([photo])[0].shape == (112, 150)
