"""Training of CLIP-DINOiser's heads: only they learn, and they learn what the teacher says."""

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ovseg.apis import config_root
from ovseg.registry import MODELS
from ovseg.weights import LoadedClip, get_card
from tests.small_guides import use_small_guides
from tests.small_models import small_clip


@pytest.fixture
def trainer(monkeypatch):
    use_small_guides(monkeypatch)

    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(layers=4), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type="DinoiserTrainer",
            student=dict(
                type="OpenVocabSegmentor",
                backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
                attention=dict(type="DinoiserAttention", heads=None, width=64),
                probability_scale=100,
                head=dict(type="MaxQueryHead", softmax=False),
                text_cache=False,
            ),
            teacher=dict(type="DinoBackbone", weights="dino/vitb16", feature="v"),
        )
    )


def photos(count=4):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)


def test_the_heads_learn_and_nothing_else_does(trainer):
    frozen = {n: p.clone() for part in trainer._parts for n, p in part.named_parameters() if "heads" not in n}
    names = [n for n, p in trainer.named_parameters()]
    assert sorted(names) == ["bkg_decoder.bias", "bkg_decoder.weight", "obj_proj.bias", "obj_proj.weight"]
    optimiser = torch.optim.Adam(trainer.parameters(), lr=1e-2)
    trainer.train()
    totals = []
    for _ in range(25):
        losses = trainer(list(photos()), mode="loss")
        total = sum(v for k, v in losses.items() if k.startswith("loss"))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.7 * totals[0]
    now = {n: p for part in trainer._parts for n, p in part.named_parameters() if "heads" not in n}
    assert all(torch.equal(frozen[n], now[n]) for n in frozen)


def test_checkpoint_is_the_official_layout(trainer, tmp_path):
    from ovseg.weights.convert import dinoiser_heads

    state = trainer.state_dict()
    assert set(state) == {"obj_proj.weight", "obj_proj.bias", "bkg_decoder.weight", "bkg_decoder.bias"}
    assert set(dinoiser_heads(dict(state))) == set(state)
    assert trainer.student.attention.heads["obj_proj"].weight is trainer.obj_proj.weight


def test_student_predicts_during_training(trainer):
    from mmseg.structures import SegDataSample

    trainer.student.set_vocabulary(["cat", "dog"])
    sample = SegDataSample(metainfo=dict(ori_shape=(64, 64)))
    out = trainer.val_step(dict(inputs=[photos(1)[0]], data_samples=[sample]))
    assert out[0].pred_sem_seg.data.shape == (1, 64, 64)
    with pytest.raises(ValueError, match="mode 'tensor'"):
        trainer([], mode="tensor")


def test_the_config_trains_validates_saves_and_resumes(monkeypatch, tmp_path):
    """`tools/train.py` on the real config with small models: curve, checkpoint, resume, published heads."""
    from PIL import Image

    from ovseg.weights import load_state_dict

    use_small_guides(monkeypatch)

    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(layers=4), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    rng = np.random.default_rng(0)
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(tmp_path / folder / f"{i}.jpg")
    for i in range(4):
        Image.fromarray(rng.integers(0, 21, (80, 100), dtype=np.uint8)).save(tmp_path / "val" / f"{i}.png")

    def config(iterations, resume):
        config = Config.fromfile(config_root() / "clip_dinoiser" / "clip_dinoiser_vitb16_train.py")
        config.work_dir, config.resume = str(tmp_path / "work"), resume
        config.model.student.attention.width = 64
        config.model.student.update(text_cache=False, templates="plain")
        config.model.student.windows.update(crop=64, stride=32)
        for loader in (config.train_dataloader, config.val_dataloader):
            loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        config.train_dataloader.dataset.update(data_root=str(tmp_path / "train"), img_suffix=".jpg")
        config.train_dataloader.dataset.pipeline[1].size = 64
        config.val_dataloader.dataset.update(
            data_root=str(tmp_path), img_dir="val", mask_dir="val", split=None, img_suffix=".jpg", mask_suffix=".png"
        )
        config.train_cfg.update(max_iters=iterations, val_interval=2)
        config.default_hooks.checkpoint.interval = 2
        return config

    runner = Runner.from_cfg(config(2, resume=False))
    metrics = runner.train() and runner.message_hub.log_scalars
    assert any("mIoU" in key for key in metrics), list(metrics)
    weight = runner.model.obj_proj.weight.clone()
    again = Runner.from_cfg(config(4, resume=True))
    again.load_or_resume()
    assert again.iter == 2 and torch.equal(again.model.obj_proj.weight, weight)
    again.train()
    published = next((tmp_path / "work").glob("iter_4-*.pth"))
    assert set(load_state_dict(published)) == {
        "obj_proj.weight",
        "obj_proj.bias",
        "bkg_decoder.weight",
        "bkg_decoder.bias",
    }
