"""The guide's training: views, where their patches lie, losses that fall, and the way into `load_dino`."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ovseg.nano.export import ASSETS, export
from ovseg.nano.guide_pretrain import GuidePretrainer, ScenePhotos, SceneViews, likeness, locate, sample, stack_views
from ovseg.registry import DATASETS
from ovseg.weights import catalogue, get_card, load_dino
from tests.nano.conftest import FIXTURES

ROOT = Path(__file__).parents[2]
TINY = {"model_cfg": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("guide") / "guide.json"
    path.write_text(json.dumps(TINY))
    return path


def views(**settings):
    photos = dict(type="ScenePhotos", sprites=str(FIXTURES), size=64, length=64, style=dict(edge=(20, 50)))
    return SceneViews(photos, **{"size": 32, "scale": (32, 56), **settings})


def test_photos_have_no_labels():
    photos = ScenePhotos(sprites=str(FIXTURES), size=48)
    item = photos[3]
    assert set(item) == {"inputs"}
    assert item["inputs"].dtype == torch.uint8 and item["inputs"].shape == (3, 48, 48)
    assert torch.equal(item["inputs"], photos[3]["inputs"])


def test_views_ignore_words_and_masks():
    """Whatever else a data set holds cannot reach the training."""

    @DATASETS.register_module(force=True)
    class Labelled:
        def __init__(self, words):
            self.words, self.photos = words, ScenePhotos(sprites=str(FIXTURES), size=64)

        def __len__(self):
            return 4

        def __getitem__(self, index):
            mask = np.full((64, 64), len(self.words))
            return {**self.photos[index], "words": self.words, "masks": mask}

    first, second = (
        SceneViews(dict(type="Labelled", words=words), size=32, scale=(32, 56))[1] for words in ("a", "bc")
    )
    assert set(first) == {"inputs", "boxes"}
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_view_shows_its_box():
    item = views(colour=0.0, grey=0.0, blur=0.0)
    photo = item.photos[5]["inputs"].float()
    sample_ = item[5]
    for view, (left, top, edge, mirrored) in zip(sample_["inputs"], sample_["boxes"], strict=True):
        assert 0 <= left <= 64 - edge + 1e-3 and 0 <= top <= 64 - edge + 1e-3
        x, y = (torch.arange(32) + 0.5) / 32, (torch.arange(32) + 0.5) / 32
        x = left + edge * (1 - x if mirrored else x)
        places = torch.stack(torch.meshgrid(top + edge * y, x, indexing="ij")[::-1], dim=-1) / 32 - 1
        expected = F.grid_sample(photo[None], places[None].float(), padding_mode="reflection", align_corners=False)[0]
        inner = (slice(None), slice(2, -2), slice(2, -2))  # the two ways to reflect differ at the border
        assert (expected - torch.from_numpy(view).float()).abs()[inner].mean() < 1.5


def test_patches_are_found_again_in_the_other_view():
    # The second crop is the right half of the first, mirrored: the first one's right half lies in it.
    boxes = torch.tensor([[[0.0, 0.0, 16.0, 0.0], [8.0, 0.0, 8.0, 1.0]]])
    where = locate(boxes, (2, 4))[0].unflatten(0, (2, 4))
    assert torch.allclose(where[0, :, 0], torch.tensor([1.75, 1.25, 0.75, 0.25]))
    assert torch.allclose(where[:, 0, 1], torch.tensor([0.5, 1.5]))
    same = torch.tensor([[[3.0, 5.0, 20.0, 1.0], [3.0, 5.0, 20.0, 1.0]]])
    features = F.normalize(torch.randn(1, 12, 5), dim=-1)
    assert torch.allclose(sample(features, (3, 4), locate(same, (3, 4))), features, atol=1e-5)


def test_likeness_prefers_what_is_near_and_alike():
    features = F.normalize(torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]]]), dim=-1)
    weights = likeness(features, (1, 4), reach=1.0, sharpness=5.0)[0]
    assert torch.allclose(weights.sum(-1), torch.ones(4))
    assert weights[0, 0] > weights[0, 1] > weights[0, 3] > weights[0, 2]


def test_the_guide_is_read_as_timm_reads_it(config):
    model = GuidePretrainer(str(config), autocast=False).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    normalised = (images - model.mean[:, :, None]) / model.std[:, :, None]
    with torch.no_grad():
        assert torch.allclose(model.encode(model.guide, images), model.guide.forward_features(normalised), atol=1e-4)
    with pytest.raises(ValueError, match="5 x 4 patches, more than the model's 4 x 4"):
        model.encode(model.guide, torch.zeros(1, 3, 40, 32, dtype=torch.uint8))


def test_losses_fall_and_the_guide_follows(config):
    torch.manual_seed(0)
    model = GuidePretrainer(str(config), autocast=False, momentum=0.9)
    batch = stack_views([views()[i] for i in range(8)])
    before = {name: weight.clone() for name, weight in model.guide.named_parameters()}
    optimizer = torch.optim.AdamW(model.student.parameters(), lr=2e-3)
    totals = []
    for _ in range(30):
        losses = model(**batch)
        assert all(torch.isfinite(value) for value in losses.values())
        total = sum(value for name, value in losses.items() if name.startswith("loss"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]
    assert 0.05 < float(losses["spread"]) <= 1  # patches of an image have not become all alike
    assert not any(weight.requires_grad for weight in model.guide.parameters())
    assert not [name for name, weight in model.guide.named_parameters() if torch.equal(weight, before[name])]
    assert not [name for name, weight in model.student.named_parameters() if weight.grad is None]


def test_other_modes_are_refused(config):
    with pytest.raises(ValueError, match="mode must be 'loss'"):
        GuidePretrainer(str(config))(torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, 2, 4), "predict")


def test_config_trains_exports_and_loads(config, tmp_path, monkeypatch):
    """`tools/train.py` on the real config with a tiny model; the export loads through the catalogue."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "tools" / "train.py")
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    options = {
        "model.guide": config,
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.prefetch_factor": None,
        "train_dataloader.dataset.size": 32,
        "train_dataloader.dataset.photos.sprites": FIXTURES,
        "train_cfg.max_iters": 2,
        "default_hooks.checkpoint.interval": 2,
        "default_scope": "ovseg",
    }
    path = ROOT / "configs" / "nano" / "guide_nano_pretrain.py"
    train.main([str(path), "--work-dir", str(tmp_path), "--cfg-options", *(f"{k}={v}" for k, v in options.items())])
    checkpoint = tmp_path / "iter_2.pth"
    out = tmp_path / "guide.safetensors"
    assert export(checkpoint, out, part="guide") == out.stat().st_size
    out.with_suffix(".json").write_text(json.dumps(TINY))
    card = replace(get_card("nano_guide"), name="nano_guide_tiny", packaged=tmp_path / "guide")
    monkeypatch.setitem(catalogue(), card.name, card)
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    for name, value in load_dino(card.name).model.state_dict().items():
        assert torch.equal(value, weights[f"guide.{name}"].half().float()), name


def test_shipped_guide_is_small_and_tells_objects_from_ground():
    loaded = load_dino("nano_guide")
    assert (ASSETS / "guide.safetensors").stat().st_size <= 15_000_000
    assert all(value.dtype == torch.float16 for value in load_file(ASSETS / "guide.safetensors").values())
    assert loaded.model.patch_embed.patch_size == (8, 8) and loaded.model.patch_embed.grid_size == (14, 14)
    # A disc with stripes on a chequered ground: nothing of the training.
    y, x = np.mgrid[0:112, 0:112]
    disc = (y - 60) ** 2 + (x - 50) ** 2 < 30**2
    ground = np.where((y // 8 + x // 8) % 2, 90, 140)[..., None] * np.array([0.6, 1.0, 0.5])
    image = np.where(disc[..., None], np.where(x // 6 % 2, 230, 180)[..., None] * np.array([1.0, 0.4, 0.3]), ground)
    mean, std = (torch.tensor(t).view(3, 1, 1) for t in (loaded.mean, loaded.std))
    with torch.no_grad():
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        tokens = F.normalize(loaded.model.forward_features(((pixels - mean) / std)[None])[0, 1:], dim=-1)
    share = F.avg_pool2d(torch.from_numpy(disc).float()[None], 8).flatten()
    inner, outer = tokens[share == 1], tokens[share == 0]
    within, across = (inner @ inner.T).mean(), (inner @ outer.T).mean()
    assert within > across + 0.2
