"""The mask decoder with projections moved to the tokens, against segment_anything's."""

import pytest
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from ovseg.backbones import sam_decoder
from ovseg.backbones.sam_decoder import ImageDecoder
from ovseg.weights.sam_model import build_sam

SIZES = dict(
    image_size=80, patch_size=16, width=8, depth=1, heads=2, window_size=0, global_blocks=[0], dim=32, mask_channels=8,
    decoder_depth=2, decoder_heads=4, decoder_mlp=48, iou_hidden=24, mean=[0.5] * 3, std=[0.5] * 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    made = build_sam(SIZES).eval().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.dim() > 1 else 1.0)  # biases too
    return made


def prompts(count: int, boxes: bool) -> dict:
    g = torch.Generator().manual_seed(count)
    points = torch.rand(count, 2, 2, generator=g) * 80
    labels = torch.randint(0, 2, (count, 2), generator=g)
    return dict(points=(points, labels), boxes=torch.rand(count, 4, generator=g) * 80 if boxes else None)


def official(sam: Sam, embedding: Tensor, sparse: Tensor, dense: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
    return sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask)


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("masks", ["none", "one", "each", "unbatched"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("count", [1, 5])
def test_decoder_is_segment_anythings(sam, monkeypatch, count, chunk, masks, multimask):
    monkeypatch.setattr(sam_decoder, "CHUNK_BYTES", chunk * 32 * 25 * 4)
    monkeypatch.setattr(sam_decoder, "UPSCALED_CELLS", 9)  # parts end in the middle of rows
    embedding = torch.randn(1, 32, 5, 5)
    shapes = {"none": None, "one": (1, 1, 20, 20), "each": (count, 1, 20, 20), "unbatched": (1, 20, 20)}
    mask = None if shapes[masks] is None else torch.randn(shapes[masks])
    sparse, dense = sam.prompt_encoder(masks=mask, **prompts(count, boxes=multimask))
    logits, quality = ImageDecoder(sam, embedding)(sparse, dense, multimask)
    expected, expected_quality = official(sam, embedding, sparse, dense, multimask)
    assert logits.shape == expected.shape and quality.shape == expected_quality.shape
    torch.testing.assert_close(logits, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)
    torch.testing.assert_close(quality, expected_quality, atol=1e-4 * expected_quality.abs().max().item(), rtol=0)


def test_prompts_do_not_see_each_other_and_the_image_is_left_alone(sam):
    embedding = torch.randn(1, 32, 5, 5)
    before = embedding.clone()
    decoder = ImageDecoder(sam, embedding)
    sparse, dense = sam.prompt_encoder(masks=None, **prompts(6, boxes=True))
    together, quality = decoder(sparse, dense)
    for i in range(6):
        alone, own = decoder(sparse[i : i + 1], dense[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=2e-4, rtol=0)
        torch.testing.assert_close(own[0], quality[i], atol=2e-4, rtol=0)
    assert torch.equal(embedding, before)


def test_no_prompts_give_no_masks(sam):
    sparse, dense = sam.prompt_encoder(masks=None, **prompts(1, boxes=False))
    logits, quality = ImageDecoder(sam, torch.randn(1, 32, 5, 5))(sparse[:0], dense[:0], multimask=True)
    assert logits.shape == (0, 3, 20, 20) and quality.shape == (0, 3)
