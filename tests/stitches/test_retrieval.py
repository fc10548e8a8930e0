"""CorrCLIPv2's retrieval on nano, written out with whole maps."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.apis import Segmenter
from ovseg.region_maps import resize_regions
from ovseg.retrieval import BankWriter, MemoryBank
from ovseg.stitches import RetrievalStitch

WORDS = ["cat", "dog; puppy", "grass", "car"]
SIZE = (150, 190)


@pytest.fixture(scope="module")
def model():
    built = Segmenter("nano", "corrclipv2", short_side=112)
    built.set_vocabulary(WORDS)
    return built.model


@pytest.fixture
def bank(tmp_path):
    g = torch.Generator().manual_seed(0)
    writer = BankWriter(tmp_path, 192, dict(main=256, aux=256), {})
    for photo in range(3):
        keys = torch.randn(10, 192, generator=g)
        writer.add(str(photo), keys, {n: torch.randn(10, 256, generator=g) for n in ("main", "aux")})
    writer.flush()
    return tmp_path


def photo_of(model):
    g = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, 112, 142), generator=g, dtype=torch.uint8)
    original = torch.randint(0, 256, (3, *SIZE), generator=g, dtype=torch.uint8)
    regions = torch.arange(SIZE[0])[:, None] // 60 * 5 + torch.arange(SIZE[1]) // 70
    return model.prepare(image, SIZE, original, regions)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_scores_are_half_windows_half_regions(model, bank, auxiliary):
    photo = photo_of(model)
    other = dict(store="aux", backbone=dict(type="ClipBackbone", weights="nano")) if auxiliary else None
    own = model.score([photo])[0]
    plain, model.stitch = model.stitch, RetrievalStitch(bank, neighbours=4, auxiliary=other)
    got = model.score([photo])[0]
    labels = model.predict([photo])[0]
    model.stitch = plain
    assert labels.shape == SIZE and labels.max() < len(WORDS)

    ids = resize_regions(photo.regions, (112, 142))
    memory, text = MemoryBank(bank), model.text
    full = F.interpolate(photo.dense[None], size=(112, 142), mode="bilinear", align_corners=False)[0]
    full, support = F.normalize(full, dim=0), torch.zeros(len(text), 112, 142)
    for i in ids.unique():
        query = F.normalize(full[:, ids == i].mean(1), dim=0)
        rows = memory.search(query[None], 4).rows[0]
        stores = ("main", "aux") if auxiliary else ("main",)
        cosines = [F.normalize(memory.values(s, rows).mean(0), dim=0) @ text.T for s in stores]
        support[:, ids == i] = (sum(cosines) / len(stores))[:, None]
    layout = model.encoder.layout(photo)
    encoded = model.encode([photo])[0]
    windows = plain.merge(plain.score(encoded.features, model.encoder, model.queries), layout, _at(photo, (112, 142)))
    fused = 0.5 * windows.block() + 0.5 * support
    want = F.interpolate(fused[None], size=SIZE, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(got.block(), want, atol=1e-4, rtol=1e-4)
    assert (got.block() - own.block()).abs().max() > 1e-2


def _at(photo, size):
    from dataclasses import replace

    return replace(photo, size=size)


def test_needs_regions_and_a_guide_of_the_photo(model, bank):
    photo = photo_of(model)
    stitch, layout, encoder = RetrievalStitch(bank), model.encoder.layout(photo), model.encoder
    photo.regions = None
    with pytest.raises(ValueError, match="PhotoGuide"):
        stitch.gather({}, layout, photo, encoder)
    for options in (dict(share=2), dict(neighbours=0)):
        with pytest.raises(ValueError, match="share"):
            RetrievalStitch(bank, **options)
