"""Every method on a GPU gives the labels that it gives on the CPU; run by ``tools/gpu_check.py``.

Nano's configs cover every attention, guide, stitch, refiner, region source and decoder that has a nano; methods on the
official architectures are compared with their goldens by ``OVSEG_PARITY_DEVICE=cuda pytest tests/parity``.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ovseg import Segmenter
from ovseg.engine import set_short_side
from ovseg.registry import DATASETS, MODELS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
NANO = Path(__file__).parent.parent / "configs" / "nano"
CONFIGS = sorted(path.name for path in NANO.glob("*_scenes.py")) + sorted(
    path.name for path in NANO.glob("*_photos.py")
)
PHOTOS = 2


@pytest.mark.parametrize("name", CONFIGS)
def test_labels_are_those_of_the_cpu(name):
    init_default_scope("ovseg")
    config = Config.fromfile(NANO / name)
    set_short_side(config)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    model = MODELS.build(config.model).eval()
    item = dataset[0]

    def labels(device: str, precision: str) -> torch.Tensor:
        model.to(device)
        for part in model.modules():
            if hasattr(part, "precision"):
                part.precision = precision
        given = [None if item.get(key) is None else item[key].to(device) for key in ("inputs", "original", "regions")]
        photo = model.prepare(given[0], tuple(item["data_samples"].ori_shape[:2]), *given[1:])
        return model.predict([photo])[0].cpu()

    expected = labels("cpu", "fp32")
    assert (labels("cuda", "fp32") == expected).float().mean() > 0.998
    assert (labels("cuda", "auto") == expected).float().mean() > 0.95


def test_the_api_on_a_gpu():
    """A photo in, everything out; encoded once, asked twice; confidence and instances."""
    photo = torch.randint(0, 255, (3, 120, 160), dtype=torch.uint8)
    on = {device: Segmenter("nano", method="naclip", device=device) for device in ("cpu", "cuda")}
    for segmenter in on.values():
        segmenter.set_vocabulary(["cat", "sky; cloud"])
    results = {d: s.segment(photo, confidence=True, top=2) for d, s in on.items()}
    assert (results["cpu"].labels == results["cuda"].labels).mean() > 0.99
    assert abs(results["cpu"].confidence - results["cuda"].confidence).max() < 0.02
    encoded = on["cuda"].encode(photo)
    assert (encoded.segment(["cat", "sky; cloud"]).labels == results["cuda"].labels).all()
    assert len(results["cuda"].instances()) == len(results["cpu"].instances())
