"""State dicts are recognised by their keys and shapes."""

import open_clip
import pytest
import timm
import torch
from segment_anything import sam_model_registry

from ovseg.weights.signatures import describe


def clip(arch):
    config = open_clip.get_model_config(arch)
    kind = open_clip.model.CustomTextCLIP if config.pop("custom_text", False) else open_clip.model.CLIP
    return kind(**config)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: clip("ViT-B-16-quickgelu"), "a CLIP ViT-B/16, 12 blocks, 224 pixels (OpenAI or open_clip format)"),
        (lambda: clip("ViT-L-14-336"), "a CLIP ViT-L/14, 24 blocks, 336 pixels (OpenAI or open_clip format)"),
        (lambda: clip("RN50"), "a CLIP ResNet"),
        (lambda: clip("EVA02-B-16"), "an EVA-CLIP ViT-B/16, 12 blocks, 224 pixels"),
        (lambda: clip("ViT-B-16-SigLIP-384"), "a SigLIP ViT-B/16, 12 blocks, 384 pixels"),
        (
            lambda: timm.create_model("vit_base_patch8_224.dino", num_classes=0),
            "a DINO or timm ViT-B/8, 12 blocks, 224",
        ),
        (
            lambda: timm.create_model("vit_small_patch14_reg4_dinov2"),
            "a DINOv2 ViT-S/14, 12 blocks, 518 pixels with reg",
        ),
        (lambda: timm.create_model("vit_small_patch16_dinov3"), "a DINOv3 ViT-S/16, 12 blocks with registers"),
        (lambda: sam_model_registry["vit_l"](), "a SAM ViT-L/16, 24 blocks"),
        (lambda: torch.nn.Linear(2, 2), "no model ovseg knows (first keys: weight, bias)"),
    ],
)
def test_describe(build, text):
    with torch.device("meta"):
        weights = build().state_dict()
    assert describe(weights).startswith(text)


def test_describe_other_formats():
    assert describe({"vision_model.embeddings.x": torch.zeros(1)}).endswith("Hugging Face transformers")
    assert describe({"obj_proj.weight": torch.zeros(1), "bkg_decoder.weight": torch.zeros(1)}).startswith(
        "the heads of"
    )
    assert describe({}) == "no model ovseg knows (first keys: none)"
