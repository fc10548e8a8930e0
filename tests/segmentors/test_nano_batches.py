"""Labels of nano's guided methods do not depend on how photos and windows are batched (slow: five models)."""

import pytest
import torch

from ovseg import Segmenter
from ovseg.apis import config_root, method_config
from ovseg.cli.nano import GUIDED

SCENES = config_root().parent / "data" / "scenes" / "scenes" / "images"
WORDS = ["cat", "tree", "castle", "umbrella", "grass", "sky", "brick wall"]


@pytest.mark.slow
@pytest.mark.parametrize("method", GUIDED)
def test_labels_are_identical_for_any_batch_size(method, tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    photos = sorted(SCENES.glob("*.jpg"))[:5]
    assert len(photos) == 5, f"no embedded scenes in {SCENES}"

    def labels(windows: int, photos_at_once: int) -> list[torch.Tensor]:
        config = method_config(method, "nano")
        config.model.windows.batch = windows
        model = Segmenter.from_config(config)
        model.set_vocabulary(WORDS)
        found = []
        for start in range(0, len(photos), photos_at_once):
            found += [
                torch.as_tensor(r.labels).int() for r in model.segment_batch(photos[start : start + photos_at_once])
            ]
        return found

    expected = labels(windows=1, photos_at_once=1)
    assert len({int(i) for m in expected for i in m.unique()}) > 1
    for windows, photos_at_once in ((3, 2), (32, 5)):
        for i, (found, alone) in enumerate(zip(labels(windows, photos_at_once), expected, strict=True)):
            assert found.shape == alone.shape
            differing = (found != alone).sum().item()
            assert differing == 0, f"{photos[i].name}: {differing} pixels differ at {windows} windows a batch"
