"""Small random DINO, SAM and CLIP-DINOiser heads in the classes of the real ones, and a way to put them in place."""

from __future__ import annotations

import timm
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

from ovseg.attention.dinoiser import new_heads
from ovseg.weights import Loaded, get_card
from ovseg.weights.dinotxt import DinoTxtParts
from ovseg.weights.radio import AdaptorHead
from ovseg.weights.simfeatup import JointBilateralUpsampler
from ovseg.weights.text_map import TextMap

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def small_dino(patch: int = 8) -> nn.Module:
    """DINO's ViT, small: width 48, 2 blocks, images of any size."""
    torch.manual_seed(3)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=64, patch_size=patch, embed_dim=48, depth=2, num_heads=3, num_classes=0, dynamic_img_size=True
    )
    return shake(model, 0.05)


def small_dinov2() -> nn.Module:
    """DINOv2's ViT with registers, small: width 48, 2 blocks, 4 registers without positions, layer scale."""
    torch.manual_seed(6)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=70,
        patch_size=14,
        embed_dim=48,
        depth=2,
        num_heads=3,
        num_classes=0,
        init_values=1.0,
        reg_tokens=4,
        no_embed_class=True,
        dynamic_img_size=True,
    )
    return shake(model, 0.05)


def small_text_map(text: int = 32) -> TextMap:
    """A map into :func:`small_dinov2`'s space."""
    torch.manual_seed(7)
    return shake(TextMap(text, 40, 48), 0.3)


def small_dinotxt(width: int = 64) -> DinoTxtParts:
    """Blocks for tokens of :func:`small_dinov3` and a small text tower."""
    torch.manual_seed(8)
    text = dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=2)
    return shake(DinoTxtParts(width, 2, 96, text), 0.05)


def small_radio(img_size: int = 128) -> nn.Module:
    """RADIO's ViT, small: width 64, 2 blocks, 8 tokens without positions before the patches, no last LayerNorm."""
    torch.manual_seed(9)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=img_size,
        patch_size=16,
        embed_dim=64,
        depth=2,
        num_heads=2,
        num_classes=0,
        init_values=1.0,
        reg_tokens=7,
        no_embed_class=True,
        final_norm=False,
        dynamic_img_size=True,
    )
    return shake(model, 0.05)


def small_language_head(out: int = 32) -> AdaptorHead:
    """RADIO's head from :func:`small_radio` to the words of a small CLIP."""
    torch.manual_seed(10)
    return shake(AdaptorHead(64, 48, out, 2), 0.1)


def small_sam_adaptor(out: int = 32) -> AdaptorHead:
    """RADIO's head from :func:`small_radio` to the cells of :func:`small_sam`, before its neck."""
    torch.manual_seed(11)
    return shake(AdaptorHead(64, 40, out, 1), 0.1)


def small_dinov3() -> nn.Module:
    """DINOv3's ViT, small: rotary positions in halves, registers, no absolute positions, layer scale."""
    torch.manual_seed(4)
    model = timm.models.eva.Eva(
        img_size=64,
        patch_size=16,
        embed_dim=64,
        depth=2,
        num_heads=2,
        qkv_bias=False,
        init_values=1.0,
        rope_type="dinov3",
        rope_temperature=100,
        rope_rotate_half=True,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        num_reg_tokens=4,
        use_fc_norm=False,
        num_classes=0,
        dynamic_img_size=True,
    )
    return shake(model, 0.05)


def small_sam(side: int = 128) -> Sam:
    """SAM of segment_anything's own classes: 3 blocks of width 32 (windows, then global), grid of ``side / 16``."""
    torch.manual_seed(5)
    grid = side // 16
    encoder = ImageEncoderViT(
        img_size=side,
        embed_dim=32,
        depth=3,
        num_heads=2,
        out_chans=32,
        use_rel_pos=True,
        window_size=3,
        global_attn_indexes=(1, 2),
    )
    prompts = PromptEncoder(
        embed_dim=32, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2)
    decoder = MaskDecoder(transformer_dim=32, transformer=transformer, iou_head_hidden_dim=32)
    return shake(Sam(encoder, prompts, decoder), 0.1)


def shake(model: nn.Module, size: float) -> nn.Module:
    """Make every parameter matter: many start at zero."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn_like(p))
    return model.eval().requires_grad_(False)


def use_small_guides(monkeypatch, width: int = 64) -> None:
    """The catalogue's DINO, SAM and heads resolve to small random ones; unknown names still fail."""

    def loader(build):
        def load(name="clip_dinoiser/last", checkpoint=None):
            return Loaded(build(name), MEAN, STD, get_card(name), "0" * 64)

        return load

    def trunk(name):
        return small_radio() if name.startswith("radio/") else small_dino(8 if name.endswith("8") else 16)

    monkeypatch.setattr("ovseg.backbones.dino.load_dino", loader(trunk))
    monkeypatch.setattr("ovseg.backbones.text_map.load_dino", loader(lambda n: small_dinov2()))
    monkeypatch.setattr("ovseg.backbones.dinotxt.load_dino", loader(lambda n: small_dinov3()))
    monkeypatch.setattr("ovseg.backbones.dinotxt.load_heads", loader(lambda n: small_dinotxt()))
    monkeypatch.setattr("ovseg.backbones.radio.load_dino", loader(lambda n: small_radio()))
    monkeypatch.setattr("ovseg.backbones.radio.load_heads", loader(lambda n: small_language_head()))
    monkeypatch.setattr("ovseg.backbones.text_map.load_heads", loader(lambda n: small_text_map()))
    monkeypatch.setattr("ovseg.backbones.radio_sam.load_heads", loader(lambda n: small_sam_adaptor()))
    monkeypatch.setattr("ovseg.backbones.radio_sam.load_sam", loader(lambda n: small_sam()))
    monkeypatch.setattr("ovseg.backbones.sam.load_sam", loader(lambda n: small_sam()))
    monkeypatch.setattr("ovseg.backbones.sam_clip.load_sam", loader(lambda n: small_sam()))
    monkeypatch.setattr(
        "ovseg.stitches.upsampled.load_heads", loader(lambda n: shake(JointBilateralUpsampler(32), 0.05))
    )
    monkeypatch.setattr("ovseg.attention.dinoiser.load_heads", loader(lambda n: shake(new_heads(width), 0.05)))
