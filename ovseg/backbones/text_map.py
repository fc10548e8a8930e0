"""DINOv2 as the encoder that words are compared with: a small map brings CLIP's words into its space."""

from __future__ import annotations

from pathlib import Path

from ovseg.backbones.dino import trunk_tower
from ovseg.backbones.two_towers import TwoTowerBackbone
from ovseg.registry import BACKBONES
from ovseg.text.causal import text_tower
from ovseg.weights import load_clip, load_dino, load_heads


@BACKBONES.register_module()
class TextMappedBackbone(TwoTowerBackbone):
    """A self-supervised ViT with CLIP's text tower (Barsellotti et al., Talk2DINO, ICCV 2025, section 3.2).

    Windows are normalised with DINOv2's mean and standard deviation and their patches stay in its space. A word is the
    mean of the text tower's outputs over the templates, none of them normalised, sent through the map.

    Args:
        weights: of the image encoder: a DINO of the catalogue, e.g. ``'dinov2/vitb14_reg'``.
        checkpoint: file to read instead of the catalogue's.
        text: the CLIP whose text tower reads the words.
        text_checkpoint: file to read instead of the catalogue's.
        text_map: name of the map in the catalogue.
        map_checkpoint: file to read instead of the catalogue's.
        pos_embed: how positions are resized, see :meth:`ovseg.backbones.towers.VisionTower.positions`.
        precision: as for :class:`ovseg.backbones.ClipBackbone`.

    Attributes:
        text_map: the map, ``[n, D_text] -> [n, D]``.

    Raises:
        ValueError: unknown ``precision`` or ``pos_embed``, or a map between other widths than the two towers have.
    """

    weights_argument = {"weights": "checkpoint", "text": "text_checkpoint", "text_map": "map_checkpoint"}

    def __init__(
        self,
        weights: str = "dinov2/vitb14_reg",
        checkpoint: str | Path | None = None,
        text: str = "openai/ViT-B-16",
        text_checkpoint: str | Path | None = None,
        text_map: str = "talk2dino/vitb14_reg",
        map_checkpoint: str | Path | None = None,
        pos_embed: str = "antialias",
        precision: str | None = None,
    ) -> None:
        trunk = load_dino(weights, checkpoint=checkpoint)
        clip = load_clip(text, checkpoint=text_checkpoint)
        heads = load_heads(text_map, checkpoint=map_checkpoint)
        super().__init__(
            f"{weights} + {text} + {text_map}",
            f"{trunk.sha256} {clip.sha256} {heads.sha256}",
            trunk_tower(trunk.model),
            clip.model,
            clip.tokenizer,
            trunk.mean,
            trunk.std,
            pos_embed,
            precision,
        )
        self.text_map = heads.model.eval().requires_grad_(False)
        widths = self.text_map.linear_layer.in_features, self.text_map.hidden_layers[-1].out_features
        wanted = text_tower(self.clip).text_projection.shape[-1], self.tower.embed_dim
        if widths != wanted:
            raise ValueError(
                f"text_map {text_map!r} goes from {widths[0]} to {widths[1]} numbers, but the words of {text} have "
                f"{wanted[0]} and the patches of {weights} {wanted[1]}: choose a map that was trained between the two"
            )
