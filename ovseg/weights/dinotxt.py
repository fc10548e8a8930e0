"""dino.txt's file: the blocks on top of a frozen DINOv3, and the text tower that was trained with them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from open_clip.transformer import TextTransformer
from timm.models.eva import EvaBlock
from torch import Tensor, nn

HEAD_WIDTH = 64
"""Numbers of one attention head, in both towers."""


class WordTower(nn.Module):
    """A text tower without the image tower it was trained with, as open_clip's ``CustomTextCLIP`` holds it.

    Args:
        text: open_clip's text tower.
    """

    def __init__(self, text: TextTransformer) -> None:
        super().__init__()
        self.text, self.visual = text, nn.Identity()
        self.context_length, self.vocab_size = text.context_length, text.vocab_size

    def encode_text(self, tokens: Tensor) -> Tensor:
        """int64 ``[n, context]`` to embeddings ``[n, D]``, not normalised."""
        return self.text(tokens)

    def encode_image(self, images: Tensor) -> Tensor:
        """What stands in the place of the image tower says what it has to say."""
        return self.visual(images)


class DinoTxtParts(nn.Module):
    """What dino.txt adds to DINOv3 (Jose et al., CVPR 2025, section 3.2; Simeoni et al., DINOv3, 2025, section 8.1).

    Attributes:
        blocks: pre-norm blocks over DINOv3's normed tokens: attention without rotary positions and without bias of
            query, key and value, a gated feed-forward (SwiGLU), layer scale.
        norm: the LayerNorm after them.
        words: the text tower. Its outputs are the *second* half of the published embedding, which was trained together
            with the mean of the patches; the first half belongs to the class token.

    Args:
        width: of a token.
        depth: number of blocks.
        hidden: width of the gated feed-forward.
        text: arguments of open_clip's ``TextTransformer``.
    """

    def __init__(self, width: int, depth: int, hidden: int, text: Mapping[str, int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            EvaBlock(
                width,
                width // HEAD_WIDTH,
                qkv_bias=False,
                mlp_ratio=(hidden + 0.5) / width,  # timm rounds down
                swiglu_mlp=True,
                swiglu_align_to=1,
                init_values=1.0,
                norm_layer=nn.LayerNorm,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.words = WordTower(TextTransformer(**text, output_dim=width))

    @classmethod
    def like(cls, weights: Mapping[str, Tensor]) -> DinoTxtParts:
        """Of the sizes of tensors that :func:`dinotxt_keys` gave.

        Raises:
            KeyError: if a tensor that tells a size is missing.
        """
        (vocabulary, width), positions = weights[_TOKENS].shape, weights["words.text.positional_embedding"]
        text = dict(
            context_length=len(positions),
            vocab_size=vocabulary,
            width=width,
            heads=width // HEAD_WIDTH,
            layers=_depth(weights, "words.text.transformer.resblocks."),
        )
        hidden = len(weights["blocks.0.mlp.fc1_g.weight"])
        return cls(len(weights["norm.weight"]), _depth(weights, "blocks."), hidden, text)


_TOKENS = "words.text.token_embedding.weight"
_IMAGE = {
    r"blocks\.(\d+)\.ls([12])\.gamma": r"blocks.\1.gamma_\2",
    r"blocks\.(\d+)\.mlp\.w1\.": r"blocks.\1.mlp.fc1_g.",
    r"blocks\.(\d+)\.mlp\.w2\.": r"blocks.\1.mlp.fc1_x.",
    r"blocks\.(\d+)\.mlp\.w3\.": r"blocks.\1.mlp.fc2.",
    r"ln_final\.": "norm.",
}
_TEXT = {
    r"(?:backbone|head)\.ln_final\.": "ln_final.",
    r"backbone\.blocks\.(\d+)\.attention_norm\.": r"transformer.resblocks.\1.ln_1.",
    r"backbone\.blocks\.(\d+)\.attention\.qkv\.": r"transformer.resblocks.\1.attn.in_proj_",
    r"backbone\.blocks\.(\d+)\.attention\.proj\.": r"transformer.resblocks.\1.attn.out_proj.",
    r"backbone\.blocks\.(\d+)\.ffn_norm\.": r"transformer.resblocks.\1.ln_2.",
    r"backbone\.blocks\.(\d+)\.feed_forward\.fc1\.": r"transformer.resblocks.\1.mlp.c_fc.",
    r"backbone\.blocks\.(\d+)\.feed_forward\.fc2\.": r"transformer.resblocks.\1.mlp.c_proj.",
    r"backbone\.": "",
}


def dinotxt_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of dino.txt's own file to those of :class:`DinoTxtParts`; those it does not know stay as they are.

    DINOv3 itself, should it lie in the file, and the temperature of the training are left out. Of the projection of
    words only the half that belongs to patches is kept.
    """
    out = {}
    for key, value in weights.items():
        key = key.removeprefix("model.")
        if key.startswith("visual_model.head."):
            key = _renamed(key.removeprefix("visual_model.head."), _IMAGE)
        elif key.startswith("text_model."):
            key = "words.text." + _renamed(key.removeprefix("text_model."), _TEXT)
        elif key.startswith("visual_model.backbone.") or key == "logit_scale":
            continue
        out[key] = value
    projection = out.pop("words.text.head.linear_projection.weight", None)
    if projection is not None and "norm.weight" in out and len(projection) == 2 * len(out["norm.weight"]):
        out["words.text.text_projection"] = projection[len(projection) // 2 :].T.contiguous()
    for key in [key for key in out if key.endswith(".attn.in_proj_weight")]:
        out.setdefault(key.replace("in_proj_weight", "in_proj_bias"), torch.zeros(len(out[key])))
    return out


def _renamed(key: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        key, changed = re.subn(f"^{theirs}", ours, key)
        if changed:
            return key
    return key


def _depth(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].partition(".")[0] for key in weights if key.startswith(prefix)})
