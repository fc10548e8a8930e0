"""RADSeg+: RADIO in the place of SAM's image encoder, the refinement on it, and the method as a whole."""

import copy

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ovseg import Segmenter
from ovseg.backbones import RadioSamBackbone
from ovseg.refiners import SamPromptRefiner
from ovseg.weights import CheckpointError, Loaded, LoadedClip, get_card, load_heads
from ovseg.weights.radio import AdaptorHead
from tests.small_guides import MEAN, STD, small_radio, small_sam, small_sam_adaptor, use_small_guides
from tests.small_models import small_clip


@pytest.fixture(autouse=True)
def small(monkeypatch):
    def load(name, checkpoint=None):
        return LoadedClip(small_clip(), MEAN, STD, get_card(name), "1", tokenizer=open_clip.tokenize)

    use_small_guides(monkeypatch)
    monkeypatch.setattr("ovseg.backbones.radio.load_clip", load)


def use_adaptor(monkeypatch, head: nn.Module) -> None:
    loaded = Loaded(head, MEAN, STD, get_card("radio/sam_vitb16"), "0")
    monkeypatch.setattr("ovseg.backbones.radio_sam.load_heads", lambda name, checkpoint=None: loaded)


def radio_patches(image: torch.Tensor) -> torch.Tensor:
    """``[N, C]`` by timm's own layers; positions are the corner of a square table with aligned corners."""
    trunk = small_radio()
    x = trunk.patch_embed.proj(image[None])
    gh, gw = x.shape[2:]
    table = trunk.pos_embed[0].T.unflatten(1, (8, 8))[None]
    if (gh, gw) != (8, 8):
        table = F.interpolate(table, size=(max(gh, gw),) * 2, mode="bilinear", align_corners=True)[..., :gh, :gw]
    x = (x + table).flatten(2).transpose(1, 2)
    x = torch.cat([trunk.cls_token, trunk.reg_token, x], 1)
    for block in trunk.blocks:
        x = block(x)
    return x[0, 8:]


@pytest.mark.parametrize(("size", "seen"), [((70, 91), (112, 128)), ((90, 40), (128, 64)), ((33, 33), (128, 128))])
@pytest.mark.parametrize("after_neck", [False, True])
def test_sams_decoder_reads_radios_patches(monkeypatch, size, seen, after_neck):
    torch.manual_seed(0)
    sam = small_sam()
    if after_neck:  # SAM's blocks are of another width than its embedding, so that the widths tell
        encoder = sam.image_encoder
        encoder.neck[0] = nn.Conv2d(48, 32, 1, bias=False)
        monkeypatch.setattr(
            "ovseg.backbones.radio_sam.load_sam",
            lambda name, checkpoint=None: Loaded(copy.deepcopy(sam), MEAN, STD, get_card(name), "0"),
        )
    backbone, photo = RadioSamBackbone(), torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    assert backbone.input_size(size) == seen
    encoding = backbone(photo)
    (tile,) = encoding.tiles
    mean, std = (torch.tensor(t).view(3, 1, 1) for t in (MEAN, STD))
    image = F.interpolate(((photo / 255 - mean) / std)[None], size=seen, mode="bilinear", align_corners=False)[0]
    grid = (seen[0] // 16, seen[1] // 16)
    cells = small_sam_adaptor()(radio_patches(image)).T.unflatten(1, grid)[None]
    want = torch.zeros(1, 32, 8, 8)
    want[..., : grid[0], : grid[1]] = cells if after_neck else sam.image_encoder.neck(cells)
    torch.testing.assert_close(tile.embedding, want, atol=1e-4, rtol=1e-3)
    assert encoding.layout == (1, 1) and encoding.size == tile.size == tile.framed == size and tile.grid == grid
    points, labels = torch.tensor([[[20.0, 30.0]], [[50.0, 10.0]]]), torch.ones(2, 1)
    low, iou = tile.predict(points, labels)
    sparse, dense = sam.prompt_encoder((points, labels), None, None)
    masks, quality = sam.mask_decoder(want, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)
    torch.testing.assert_close(low, masks, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(iou, quality, atol=1e-4, rtol=1e-3)
    up = F.interpolate(masks, size=(128, 128), mode="bilinear", align_corners=False)[..., : seen[0], : seen[1]]
    up = F.interpolate(up, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(tile.upscale(masks), up)


def test_sams_own_blocks_are_dropped_and_aggregation_is_refused():
    backbone = RadioSamBackbone()
    assert not any(name.startswith("sam.image_encoder.blocks") for name in backbone.state_dict())
    facts = backbone.describe()
    assert facts["weights"] == "radio/vitb16 + radio/sam_vitb16 + sam/vit_h" and len(facts["sha256"].split()) == 3
    encoding = backbone(torch.zeros(3, 40, 50, dtype=torch.uint8))
    with pytest.raises(ValueError, match="PromptTile has no attention of SAM's image encoder.*SamBackbone"):
        encoding.aggregate(torch.zeros(4, 2, 3), 1.2, 0.9, True)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (AdaptorHead(48, 8, 32, 1), "is for patches of 48 numbers, but those of radio/vitb16 have 64"),
        (AdaptorHead(64, 8, 33, 1), "gives 33 numbers, but the cells of sam/vit_h have 32 before its neck and 32"),
    ],
)
def test_a_head_that_does_not_fit_is_told(monkeypatch, head, told):
    use_adaptor(monkeypatch, head)
    with pytest.raises(ValueError, match=told):
        RadioSamBackbone()


def test_the_head_for_sams_patches_is_found_in_the_file_of_all(tmp_path):
    head, path = small_sam_adaptor(), tmp_path / "adaptors.pth"
    x, own = torch.randn(3, 64), head.state_dict()
    file = {}
    for teacher, of_summary, of_patches in (("sam", 1, 0), ("siglip2-g", 2, 3), ("dino_v2", 4, 5)):
        prefix = f"radio_model.adaptors.{teacher}."
        file |= {f"{prefix}head_mlp.{k}": v + of_summary for k, v in own.items()}
        file |= {f"{prefix}feat_mlp.{k}": v + of_patches for k, v in own.items()}
    torch.save(file, path)
    torch.testing.assert_close(load_heads("radio/sam_vitb16", checkpoint=path).model(x), head(x))
    assert not torch.allclose(load_heads("radio/siglip2_vitb16", checkpoint=path).model(x), head(x))
    torch.save({k: v for k, v in file.items() if ".sam." not in k}, path)
    with pytest.raises(CheckpointError, match="not one head of RADIO for the features of its teacher sam"):
        load_heads("radio/sam_vitb16", checkpoint=path)


def test_the_method_as_a_whole():
    """The labels are RADSeg's, redrawn by the refiner on RADIO's own embedding."""
    model = Segmenter("radio/vitb16", "radseg_plus", short_side=112)
    own = model.model
    assert isinstance(own.photo_encoder, RadioSamBackbone) and "radio/sam_vitb16" in str(own.describe())
    assert "SA-1B masks (no classes)" in own.describe()["supervision"]
    model.set_vocabulary(["cat", "dog", "grass"])
    own.windows.crop, own.windows.stride, own.windows.fit_multiple = 64, 32, 32
    own.head.peak_threshold = 0.0
    own.label_refiners = []
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 70, 91), dtype=torch.uint8)
    photo = own.prepare(image, (70, 91), image)
    labels = own.predict([photo])[0]
    refiner = SamPromptRefiner(coarse_threshold=0.0, iou_threshold=0.0, min_area=1)
    with torch.no_grad():
        evidence = own.evidence(own.score([photo])[0])
    probability, (tile,) = evidence.probabilities(), photo.encoding.tiles
    asked = []
    answer = tile.predict
    tile.predict = lambda *a, **k: asked.append((a, answer(*a, **k))) or asked[-1][1]
    refined = refiner(labels, photo, evidence)
    best, want = torch.zeros(70, 91), labels.clone()
    maps = dict(refiner.refined_maps(labels, evidence, tile))
    for index, values in maps.items():
        (_, (low, iou)) = asked[len(asked) - len(maps) + list(maps).index(index)]
        passed = low[iou[:, 0] > 0]
        if len(passed):
            logits = tile.upscale(passed)[:, 0].amax(0)
            mask = probability[index] * logits.sigmoid() * (logits > 0)
            more = values > mask + 1e-5  # components whose mask failed keep their probability
            assert (values >= mask - 1e-5).all()
            torch.testing.assert_close(values[more], probability[index][more], atol=1e-5, rtol=0)
        want[values > best] = index
        best = torch.maximum(best, values)
    assert maps and torch.equal(refined, want)
