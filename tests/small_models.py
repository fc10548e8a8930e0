"""Small random models in open_clip's own classes, shared by the tests."""

from __future__ import annotations

import timm
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from ovseg.weights.hybrid import build_clip


def small_clip(seed: int = 0, layers: int = 3, patch: int = 16, grid: int = 4, quick_gelu: bool = False) -> CLIP:
    """A random CLIP: ViT of width 64 with 2 heads, text tower of width 32; positions far from zero."""
    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=32,
        vision_cfg=dict(image_size=grid * patch, layers=layers, width=64, head_width=32, patch_size=patch),
        text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2),
        quick_gelu=quick_gelu,
    )
    return _shake(model)


def small_hybrid_clip(seed: int = 0, layers: int = 3, grid: int = 4) -> CLIP:
    """A random CLIP over EfficientNet-Lite0, whose statistics are not those of a fresh network."""
    torch.manual_seed(seed)
    model = build_clip(
        {
            "embed_dim": 32,
            "vision_cfg": {
                "stem": "tf_efficientnet_lite0",
                "image_size": grid * 16,
                "layers": layers,
                "width": 64,
                "head_width": 32,
                "patch_size": 16,
            },
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        }
    )
    return _shake(model)


def small_convnext_clip(seed: int = 0) -> CLIP:
    """A random CLIP with timm's smallest ConvNeXt; text tower of width 32."""
    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=32,
        vision_cfg=dict(image_size=64, timm_model_name="convnext_atto", timm_pool="", timm_proj="linear"),
        text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2),
    )
    return _shake(model)


def small_siglip_trunk() -> nn.Module:
    """SigLIP's ViT, small: no CLS token, MAP pooling."""
    torch.manual_seed(1)
    trunk = timm.models.vision_transformer.VisionTransformer(
        img_size=64, embed_dim=64, depth=3, num_heads=2, class_token=False, global_pool="map", num_classes=0
    )
    return _shake(trunk)


def small_eva_trunk(qkv_fused: bool, dynamic: bool = True) -> nn.Module:
    """EVA-02's ViT, small: rotary positions, SwiGLU with norm, CLS token."""
    torch.manual_seed(2)
    trunk = timm.models.eva.Eva(
        img_size=64,
        embed_dim=64,
        depth=3,
        num_heads=2,
        qkv_fused=qkv_fused,
        swiglu_mlp=True,
        scale_mlp=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
        global_pool="token",
        num_classes=32,
        dynamic_img_size=dynamic,
    )
    return _shake(trunk)


def _shake(model: nn.Module) -> nn.Module:
    """Make every parameter matter: open_clip starts some at zero."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model.eval().requires_grad_(False)


def images(*shape: int, seed: int = 0) -> Tensor:
    """Normal noise ``[B, 3, H, W]``."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
