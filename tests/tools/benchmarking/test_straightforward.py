"""The straightforward forms of whole methods give the pipeline's labels: that is what makes a comparison fair."""

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config

from ovseg.apis import config_root
from ovseg.registry import MODELS
from ovseg.retrieval import BankWriter
from ovseg.weights import LoadedClip, get_card
from tests.small_guides import use_small_guides
from tests.small_models import small_clip
from tools.benchmarking.clock import Clock
from tools.benchmarking.speed import FORMS
from tools.benchmarking.stages import STAGES, Tracer, steps_of

WORDS = ["sky; wall", "cat", "dog; puppy", "grass"]
VARIANTS = {
    "maskclip": [{}],
    "sclip": [{}, dict(head=dict(threshold=0.2625, area_threshold=0.3))],
    "naclip_pamr": [{}, dict(windows=dict(crop=None, stride=None), head=dict(threshold=0.22))],
    "proxyclip": [{}, dict(windows=dict(crop=72, stride=40, pad_multiple=56), head=dict(threshold=0.2501))],
    "corrclip": [{}, dict(windows=dict(crop=72, stride=40, pad_multiple=56))],
    "trident": [
        {},
        dict(label_refiners=[]),
        dict(label_refiners=[], photo_encoder=dict(tiles=(1, 2)), stitch=dict(keep_negative=False, cos_factor=3.0)),
    ],
    "scclip": [{}, dict(head=dict(threshold=0.26, area_threshold=0.1), windows=dict(crop=80, stride=40))],
    "lposs": [{}, dict(stitch=dict(neighbours=20, sigma=0.05), windows=dict(crop=64, stride=48))],
    "sfp": [{}, dict(head=dict(threshold=0.26, area_threshold=0.1), windows=dict(crop=80, stride=40))],
    "resclip": [
        {},
        dict(windows=dict(crop=None, stride=None), stitch=dict(threshold=0.2501), head=dict(threshold=0.2501)),
    ],
    "resclip-sclip": [dict(attention=dict(std=0, terms=("q", "k"), residual=True, ffn=True))],
    "corrclipv2": [{}, dict(windows=dict(crop=72, stride=40, pad_multiple=56), head=dict(threshold=0.2501))],
    "corrclipv2-bank": [dict(stitch=dict(type="RetrievalStitch", neighbours=3))],
    "dinotxt": [{}, dict(windows=dict(crop=72, stride=40))],
    "vip": [
        dict(stitch=dict(scale=10.0), head=dict(threshold=0.28)),
        dict(windows=dict(crop=72, stride=40), stitch=dict(tau=6, temperature=5.0)),
    ],
    "talk2dino": [
        dict(windows=dict(crop=98, stride=42)),
        dict(windows=dict(crop=98, stride=42), attention=dict(weight=0.2), head=dict(threshold=0.5)),
    ],
    "radseg": [
        dict(windows=dict(stride=48, fit_multiple=48), head=dict(peak_threshold=0.3)),
        dict(windows=dict(crop=64, stride=32, fit_multiple=32), head=dict(peak_threshold=0.0)),
    ],
    "segearth": [{}, dict(windows=dict(crop=72, stride=40))],
    "sclip-photo": [dict(attention=dict(scope="photo")), dict(attention=dict(scope="photo"), windows=dict(crop=64))],
    "proxyclip-photo": [
        dict(attention=dict(scope="photo")),
        dict(attention=dict(scope="photo"), windows=dict(crop=72, stride=40, pad_multiple=56)),
    ],
}
REGIONS = ("corrclip", "corrclipv2", "corrclipv2-bank")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A bank of 12 random regions."""
    folder = tmp_path_factory.mktemp("bank")
    draw = torch.Generator().manual_seed(2)
    writer = BankWriter(folder, 48, {"main": 32}, {"made_of": "noise"})
    writer.add("all", torch.randn(12, 48, generator=draw), {"main": torch.randn(12, 32, generator=draw)})
    writer.flush()
    return str(folder)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_guides(monkeypatch)

    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(layers=8, grid=4), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    for module in ("clip", "text_map", "radio"):
        monkeypatch.setattr(f"ovseg.backbones.{module}.load_clip", load)


def build(method, changes, bank=None):
    base = method if method == "naclip_pamr" else method.split("-")[0]
    config = Config.fromfile(config_root() / "_base_" / "models" / f"{base}.py").model
    config.update(templates="plain", text_cache=False, regions=None)
    config.windows.update(crop=96, stride=64 if method == "trident" else 48)
    if method == "trident":
        config.label_refiners[0].update(min_area=4, iou_threshold=0.0, coarse_threshold=0.1)
    for part, settings in changes.items():
        config[part] = {**config.get(part, {}), **settings} if isinstance(settings, dict) else settings
    if method == "corrclipv2-bank":
        config["stitch"]["bank"] = bank
    model = MODELS.build(config).eval()
    words = torch.randn(6, model.backbone.tower.embed_dim, generator=torch.Generator().manual_seed(3))
    model.set_vocabulary(WORDS, torch.nn.functional.normalize(words, dim=-1))
    return model


def photo(height=100, width=150):
    rng = np.random.default_rng(1)
    image = np.kron(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), np.ones((40, 40, 1), np.uint8))
    return torch.from_numpy(image[:height, :width]).permute(2, 0, 1)


def region_ids(height=130, width=190):
    rows, columns = torch.arange(height)[:, None] // 33, torch.arange(width) // 40
    return (rows * 10 + columns).int()


@pytest.mark.parametrize(("method", "index"), [(m, i) for m in VARIANTS for i in range(len(VARIANTS[m]))])
def test_same_labels_as_the_pipeline(method, index, bank):
    model = build(method, VARIANTS[method][index], bank)
    image, size = photo(), (130, 190)
    original = torch.from_numpy(np.kron(photo().numpy(), np.ones((1, 2, 2), np.uint8))[:, : size[0], : size[1]].copy())
    regions = region_ids() if method in REGIONS else None
    ours = model.predict([model.prepare(image, size, original, regions)])[0]
    theirs = FORMS[method](model)(image, size, original, regions)
    assert theirs.shape == ours.shape == size
    assert len(ours.unique()) > 1, "one label everywhere proves nothing"
    # Trident's prompts start at the most probable pixel: on a plateau rounding chooses it, and SAM draws another mask
    least = 0.99 if method == "trident" and model.label_refiners else 0.999
    assert (ours == theirs).float().mean() > least


@pytest.mark.parametrize("method", VARIANTS)
def test_it_runs_under_autocast(method, bank):
    model = build(method, VARIANTS[method][0], bank)
    regions = region_ids() if method in REGIONS else None
    slow = FORMS[method](model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        labels = slow(photo(), (130, 190), photo(130, 190), regions)
    assert labels.shape == (130, 190)


@pytest.mark.parametrize("method", ["sfp", "corrclipv2-bank", "vip", "talk2dino", "radseg", "segearth", "sclip-photo"])
def test_stages_of_both_sides(method, bank):
    """What is compared stage by stage: both sides say where their time goes, and no method stays wrapped."""
    model = build(method, VARIANTS[method][0], bank)
    regions = region_ids() if method in REGIONS else None
    slow = FORMS[method](model)
    for side, run in (
        (model, lambda: model.predict([model.prepare(photo(), (130, 190), photo(130, 190), regions)])),
        (slow, lambda: slow(photo(), (130, 190), photo(130, 190), regions)),
    ):
        tracer = Tracer(Clock())
        with tracer.attached(side):
            seconds = tracer.run(run).seconds
        assert {"CLIP", "attention", "stitch", "argmax"} <= set(seconds)
        assert ("guide" in seconds) == (method == "corrclipv2-bank")
        assert set(seconds) <= set(STAGES)
    assert not any(name in vars(slow) for _, name, _ in steps_of(slow))


def test_a_changed_setting_changes_labels():
    """The comparison above can fail: another temperature or neighbourhood is seen."""
    model = build("naclip_pamr", {})
    image, size = photo(), (130, 190)
    ours = model.predict([model.prepare(image, size)])[0]
    model.attention.std = 0.5
    theirs = FORMS["naclip_pamr"](model)(image, size)
    assert (ours == theirs).float().mean() < 0.999
