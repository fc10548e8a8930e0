"""SAM-CLIP's encoder: SAM's own blocks at any size, a head over them, a file of a training read back."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ovseg.backbones import SamClipBackbone
from ovseg.registry import MODELS
from ovseg.weights import CheckpointError, LoadedClip, get_card
from tests.small_guides import use_small_guides
from tests.small_models import small_clip


@pytest.fixture
def small(monkeypatch):
    use_small_guides(monkeypatch)

    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.sam_clip.load_clip", load)


def attended(block, x):
    """One pre-norm block of one image, head by head."""
    q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, dim=1)
    size, mixed = q.shape[1] // block.attn.num_heads, []
    for head in range(block.attn.num_heads):
        part = slice(head * size, (head + 1) * size)
        mixed.append((q[:, part] @ k[:, part].T / size**0.5).softmax(1) @ v[:, part])
    x = x + block.attn.proj(torch.cat(mixed, dim=1))
    return x + block.mlp(block.norm2(x))


@torch.no_grad()
@pytest.mark.parametrize("size", [(128, 128), (64, 96)])
def test_embeddings_are_those_of_the_equations(small, size):
    torch.manual_seed(0)
    backbone = SamClipBackbone(head=dict(depth=2))
    for parameter in backbone.head.parameters():  # weights that begin as 0 or 1 would hide a fault
        parameter.data += 0.05 * torch.randn_like(parameter)
    images, encoder, head = torch.randn(2, 3, *size), backbone.sam.image_encoder, backbone.head
    got = backbone.tower.photos(images)
    for image, found in zip(images, got, strict=True):
        table = encoder.pos_embed.permute(0, 3, 1, 2)
        if size != (128, 128):
            table = F.interpolate(table, size=(size[0] // 16, size[1] // 16), mode="bicubic", align_corners=False)
        x = (encoder.patch_embed.proj(image[None]) + table).permute(0, 2, 3, 1)
        for block in encoder.blocks:
            x = block(x)
        x = x[0].flatten(0, 1)
        for block in head.blocks:
            x = attended(block, x)
        patches = head.norm(x) @ head.projection.weight.T
        torch.testing.assert_close(found, patches.mean(0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_at_sams_own_size_the_tokens_are_those_its_neck_gets(small):
    backbone = SamClipBackbone()
    images, seen = torch.randn(1, 3, 128, 128), []
    backbone.sam.image_encoder.neck.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    backbone.sam.image_encoder(images)
    torch.testing.assert_close(backbone.tower.embed(images), seen[0].flatten(2).transpose(1, 2))


@torch.no_grad()
def test_patches_are_compared_with_words_and_a_photo_does_not_depend_on_the_batch(small):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="OpenVocabSegmentor",
            backbone=dict(type="SamClipBackbone"),
            attention=dict(type="PlainAttention"),
            windows=dict(crop=64, stride=64),
            vocabulary=["cat", "dog"],
            templates="plain",
            text_cache=False,
        )
    )
    photos = [model.prepare(torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8), (64, 64)) for _ in range(3)]
    together = model.score(photos)
    backbone = model.backbone
    for photo, scores in zip(photos, together, strict=True):
        torch.testing.assert_close(model.score([photo])[0].cells, scores.cells, rtol=1e-4, atol=1e-5)
        x = backbone.tower.embed(photo.image[None])
        for block in backbone.head.blocks:
            x = block(x)
        unit = F.normalize(backbone.head.projection(backbone.head.norm(x)), dim=-1)[0]
        expected = (model.text @ unit.T).unflatten(1, (4, 4))
        torch.testing.assert_close(scores.cells, expected, rtol=1e-4, atol=1e-5)


def test_a_file_of_a_training_is_read_strictly(small, tmp_path):
    torch.manual_seed(0)
    trained = SamClipBackbone()
    state = {f"{part}.{k}": v for part in ("sam", "head") for k, v in getattr(trained, part).state_dict().items()}
    state["sam.image_encoder.neck.0.weight"] = state["sam.image_encoder.neck.0.weight"] + 1
    save_file({f"decoder.{key}": value.contiguous() for key, value in state.items()}, tmp_path / "whole.safetensors")
    torch.manual_seed(1)
    read = SamClipBackbone("sam_clip_merged/vitb16", tmp_path / "whole.safetensors")
    for part in ("sam", "head"):
        for key, value in getattr(read, part).state_dict().items():
            assert torch.equal(value, state[f"{part}.{key}"]), key
    assert torch.equal(read.tower.head.norm.weight, read.head.norm.weight) and "sam_clip_merged" in read.weights
    del state["head.norm.bias"]
    torch.save({"state_dict": state}, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match=r"norm\.bias"):
        SamClipBackbone("sam_clip_merged/vitb16", tmp_path / "short.pth")


def test_what_does_not_fit_is_said(small):
    with pytest.raises(ValueError, match="name the format in `weights` too"):
        SamClipBackbone(checkpoint="file.pth")
    with pytest.raises(ValueError, match="depth is 0"):
        SamClipBackbone(head=dict(depth=0))
