"""Nothing piles up over an evaluation: hooks, caches and memory of the guided methods on nano (slow)."""

import gc
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg import Segmenter
from ovseg.apis import method_config
from ovseg.cli.nano import GUIDED
from ovseg.engine.memory import keep_freed_memory

IMAGES, WARM_UP = 200, 50
STATM = Path("/proc/self/statm")


def hooks(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def resident() -> float:
    gc.collect()
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from Linux' /proc")
@pytest.mark.parametrize("method", GUIDED)
def test_hooks_and_memory_are_flat_over_200_images(method, tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    keep_freed_memory()
    model = Segmenter.from_config(method_config(method, "nano"), short_side=112)
    model.set_vocabulary(["cat", "tree", "sky"])
    generator = np.random.default_rng(0)
    before = hooks(model.model)
    start = 0.0
    for index in range(IMAGES):
        if index == WARM_UP:
            start = resident()
        size = (112, int(generator.integers(112, 160)), 3)
        model.segment(generator.integers(0, 255, size, dtype=np.uint8))
    growth = resident() - start
    print(f"{method}: {growth:+.1f} MiB over {IMAGES - WARM_UP} images, {before} hooks")
    assert hooks(model.model) == before
    assert growth < 24
