"""Training recipes: the model builds, trains what the paper trains, and the pipeline gives what its loss wants."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose

from ovseg.registry import MODELS, TRANSFORMS
from ovseg.weights import LoadedClip, get_card
from tests.small_guides import use_small_guides
from tests.small_models import small_clip

ROOT = Path(__file__).parent.parent / "configs"
RECIPES = [
    "san/san_vitb16_train.py",
    "declip/declip_vitb16_train.py",
    "maskclip_plus/maskclip_plus_resnet101_voc20_train.py",
    "maskclip_plus/maskclip_plus_resnet101_context59_train.py",
    "maskclip_plus/maskclip_plus_resnet101_coco_stuff_train.py",
    "denseclip/denseclip_vitb16_ade20k_train.py",
    "segclip/segclip_vitb16_train.py",
    *(f"sam_clip_merged/sam_clip_merged_vitb16_stage{stage}_train.py" for stage in (1, 2, 3)),
    *(
        f"{method}/{method}_vitb16_{data}_{kind}.py"
        for method in ("zegclip", "cascade_clip")
        for data in ("voc20", "context59", "coco_stuff")
        for kind in ("train", "transductive_train")
    ),
]


@pytest.fixture
def small_weights(monkeypatch):
    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(layers=12), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    monkeypatch.setattr("ovseg.backbones.sam_clip.load_clip", load)
    use_small_guides(monkeypatch)


def smaller(config):
    """The recipe at a size that a test can build: short prompts, a small ResNet, a small side network."""
    for part in (config.model, *(config.model[k] for k in ("student", "teacher") if k in config.model)):
        if part.type in ("DecoderSegmentor", "DenseClipSegmentor", "SegClipSegmentor", "OpenVocabSegmentor"):
            part.templates, part.text_cache = "plain", False
        decoder = part.get("decoder")
        if decoder and decoder.type == "DeepLabDecoder":
            decoder.network = "resnet10t"
        if decoder and decoder.type == "SideAdapterDecoder":
            decoder.network = dict(width=24, num_heads=2, queries=20)
            config.model.loss.points = 64
        if decoder and decoder.type == "SegClipDecoder":
            decoder.groups = 4  # of the small CLIP's 64 channels
    return config


def sample(dataset):
    """A photo of noise with what a training tells of it, through the recipe's own pipeline but for reading of files."""
    if dataset.type == "PairedDataset":
        return sample(dataset.first) | {f"prompted_{k}": v for k, v in sample(dataset.second).items()}
    pipeline = dataset.datasets[0].pipeline if "datasets" in dataset else dataset.pipeline
    generator = np.random.default_rng(0)
    results = dict(image=generator.integers(0, 256, (60, 80, 3)).astype(np.uint8), ignore_index=255, ori_shape=(60, 80))
    if any("captions" in s.get("keys", ()) for s in pipeline):
        results["captions"] = "a photo of a cat."
    if any(s["type"] == "LoadMask" for s in pipeline):
        results["labels"] = generator.integers(0, 3, (60, 80)).astype(np.int32)
    steps = [s for s in pipeline if s["type"] not in ("LoadImage", "LoadMask")]
    for step in steps:
        step.update({k: 64 for k in ("size", "crop", "short_side", "side") if k in step})
    return Compose([TRANSFORMS.build(step) for step in steps])(results)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_a_step(recipe, small_weights):
    torch.manual_seed(0)
    np.random.seed(0)
    config = smaller(Config.fromfile(ROOT / recipe))
    model = MODELS.build(config.model).train()
    items = [sample(config.train_dataloader.dataset) for _ in range(2)]
    batch = {key: [item[key] for item in items] for key in items[0]}
    losses = model(**batch, mode="loss")
    total = sum(value for name, value in losses.items() if "loss" in name)
    assert torch.isfinite(total)
    total.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    without = [name for name, p in trained.items() if p.grad is None]
    assert trained and not without, without[:5]
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert frozen and all(p.grad is None for p in frozen)
