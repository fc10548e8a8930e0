"""RADIO: one network taught by several, whose language head brings patches to a text tower's words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from ovseg.backbones.towers import TimmTower
from ovseg.backbones.two_towers import TwoTowerBackbone
from ovseg.registry import BACKBONES
from ovseg.text.causal import text_tower
from ovseg.weights import load_clip, load_dino, load_heads
from ovseg.weights.catalogue import CLIP_MEAN, CLIP_STD


@BACKBONES.register_module()
class RadioBackbone(TwoTowerBackbone):
    """A RADIO with the words of one of its teachers (Heinrich et al., RADIOv2.5, CVPR 2025).

    The head that was trained to turn RADIO's summary token into the teacher's image embedding is applied to patches,
    which are then compared with the words of the teacher's text tower (RADSeg). Windows are normalised with CLIP's mean
    and standard deviation.

    Args:
        weights: of the image encoder: a RADIO of the catalogue, e.g. ``'radio/vitb16'``.
        checkpoint: file to read instead of the catalogue's.
        language: the head, of the catalogue.
        language_checkpoint: file to read instead of the catalogue's.
        text: the teacher, whose text tower reads the words.
        text_checkpoint: file to read instead of the catalogue's.
        pos_embed: how positions are resized, see :meth:`ovseg.backbones.towers.VisionTower.positions`.
        precision: as for :class:`ovseg.backbones.ClipBackbone`.

    Raises:
        ValueError: unknown ``precision`` or ``pos_embed``, or a head between other widths than the two towers have.
    """

    weights_argument = {"weights": "checkpoint", "language": "language_checkpoint", "text": "text_checkpoint"}

    def __init__(
        self,
        weights: str = "radio/vitb16",
        checkpoint: str | Path | None = None,
        language: str = "radio/siglip2_vitb16",
        language_checkpoint: str | Path | None = None,
        text: str = "webli/ViT-gopt-16-SigLIP2-384",
        text_checkpoint: str | Path | None = None,
        pos_embed: str = "square_corners",
        precision: str | None = None,
    ) -> None:
        trunk = load_dino(weights, checkpoint=checkpoint)
        head = load_heads(language, checkpoint=language_checkpoint)
        first, last = ([m for m in head.model.modules() if hasattr(m, "in_features")][i] for i in (0, -1))
        if first.in_features != trunk.model.embed_dim:
            raise ValueError(
                f"language {language!r} is for patches of {first.in_features} numbers, but those of {weights} have "
                f"{trunk.model.embed_dim}: choose the head that was trained with it"
            )
        clip = load_clip(text, checkpoint=text_checkpoint)
        projection = text_tower(clip.model).text_projection
        words = getattr(projection, "out_features", None) or projection.shape[-1]
        if last.out_features != words:
            raise ValueError(
                f"language {language!r} gives {last.out_features} numbers, but the words of {text} have {words}: "
                "choose the teacher that the head was trained for"
            )
        super().__init__(
            f"{weights} + {language} + {text}",
            f"{trunk.sha256} {head.sha256} {clip.sha256}",
            TimmTower(SimpleNamespace(trunk=trunk.model, head=head.model)),
            clip.model,
            clip.tokenizer,
            CLIP_MEAN,
            CLIP_STD,
            pos_embed,
            precision,
        )
