"""Write what a training made as a file that `weights` and `checkpoint` of a config read.

    python tools/publish_decoder.py CONFIG CHECKPOINT OUT.safetensors
    python tools/publish_decoder.py CONFIG CHECKPOINT OUT.safetensors --share 0.5     # WiSE
    python tools/publish_decoder.py CONFIG CHECKPOINT OUT.safetensors --layout overlay --half

CONFIG and CHECKPOINT are those of the training: of a segmentor with a decoder, of a student that learned from pseudo
labels, of DeCLIP's or OVSeg's CLIP, of SAM-CLIP (``--layout training``). With ``--share`` below 1 CLIP's weights lie so
far on the straight line from those that the training began with to the trained ones (Wortsman et al., WiSE-FT, CVPR
2022): finetuning gains on its own classes and forgets others, and in between both are often kept. Decoders, mask
prompts and SAM-CLIP are the trained ones.

Layout ``catseg`` is the official one, whole; ``overlay`` holds the decoder or prompts and only what changed of CLIP.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import get_torch_safe_globals
from safetensors.torch import save_file
from torch import Tensor, nn

from ovseg import projections
from ovseg.engine import SetupError, load_config
from ovseg.regions.mask_prompts import KEY as MASK_PROMPTS
from ovseg.registry import MODELS
from ovseg.segmentors import (
    DeclipTrainer,
    DecoderSegmentor,
    MaskAdaptationTrainer,
    PseudoLabelTrainer,
    SamClipTrainer,
)
from ovseg.weights import CheckpointError, get_card, load_clip
from ovseg.weights.layouts import LAYOUTS, changes_from, joint_projections


@dataclass(frozen=True)
class Trained:
    """What a training changes, by the keys of its checkpoints.

    Attributes:
        clip: the CLIP as it was before the training.
        weights: its name in the catalogue.
        prefix: what its keys in a checkpoint begin with.
        decoder: keys of the file to write to those of a checkpoint, for what is no CLIP.
        low_rank: factor of CLIP's LoRA terms, which are added to its weights.
    """

    clip: Mapping[str, Tensor]
    weights: str
    prefix: str
    decoder: Mapping[str, str]
    low_rank: float = 1.0


def parts_of(model: nn.Module) -> Trained:
    """What a model that was just built from the config of a training trains.

    Raises:
        SetupError: for a model that trains something else.
    """
    if isinstance(model, DeclipTrainer):
        return Trained(model.clip.state_dict(), model.student.backbone.weights, "clip.", {})
    if isinstance(model, MaskAdaptationTrainer):
        prompts = {MASK_PROMPTS: "mask_embedding"} if len(model.mask_embedding) else {}
        return Trained(model.backbone.clip.state_dict(), model.backbone.weights, "backbone.clip.", prompts)
    if isinstance(model, SamClipTrainer):  # an encoder of its own: its words' CLIP did not train
        return Trained({}, "", "", {key: key for key in model.state_dict()})
    prefix, owner = ("student.", model.student) if isinstance(model, PseudoLabelTrainer) else ("", model)
    if not isinstance(owner, DecoderSegmentor):
        raise SetupError(f"{type(model).__name__} is no training whose weights can be published: give a *_train.py")
    keys = {key: f"{prefix}decoder.{key}" for key in owner.decoder.state_dict()}
    clip = owner.backbone.clip
    return Trained(
        clip.state_dict(), owner.backbone.weights, f"{prefix}backbone.clip.", keys, projections.low_rank_scale(clip)
    )


def interpolated(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """``start + share (end - start)`` of every floating tensor; others are ``end``'s.

    Raises:
        ValueError: for a share outside 0..1, or tensors of other names or shapes.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie between 0 (as before the training) and 1 (as trained)")
    for key in [*start, *end]:
        if key not in start or key not in end or start[key].shape != end[key].shape:
            raise ValueError(f"{key}: not in both, or of another shape; both must be the same architecture")
    return {
        key: torch.lerp(start[key].float(), value.float(), share) if value.is_floating_point() else value
        for key, value in end.items()
    }


def read_training(path: Path) -> dict[str, Tensor]:
    """The model's tensors in a checkpoint of tools/train.py; only tensors and MMEngine's own records are unpickled."""
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


def publish(config: Path, checkpoint: Path, out: Path, layout: str, share: float = 1.0, half: bool = False) -> None:
    """Write the file.

    Raises:
        CheckpointError: if the checkpoint is not of this config.
        SetupError: for a config that is none of a training.
    """
    init_default_scope("ovseg")
    model = MODELS.build(load_config(config).model)
    trained = read_training(checkpoint)
    parts = parts_of(model)
    needed = [*(parts.prefix + key for key in parts.clip), *parts.decoder.values()]
    missing = [key for key in needed if key not in trained]
    if missing:
        raise CheckpointError(checkpoint, f"lacks {missing[0]}", f"Give a checkpoint of {config}")
    start, end = parts.clip, {key: trained[parts.prefix + key] for key in parts.clip}
    decoder = {key: trained[theirs] for key, theirs in parts.decoder.items()}
    plain = (projections.without_low_rank(clip, parts.low_rank) for clip in (start, end))
    start, end = (joint_projections(clip) for clip in plain)
    clip = interpolated(start, end, share)
    if layout == "overlay":
        base = get_card(parts.weights).base  # the training may have begun with an overlay itself
        clip = changes_from(load_clip(base).model.state_dict() if base else start, clip)
    weights = LAYOUTS[layout].joined(clip, decoder)
    dtype = torch.float16 if half else torch.float32
    weights = {k: v.to(dtype).contiguous() if v.is_floating_point() else v for k, v in weights.items()}
    save_file(weights, out)
    print(f"{out}: {len(weights)} tensors, {out.stat().st_size:,} bytes, share {share:g}")


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layout", choices=list(LAYOUTS), default="catseg")
    parser.add_argument("--share", type=float, default=1.0, help="of the way from CLIP before to after (default: 1)")
    parser.add_argument("--half", action="store_true", help="half precision")
    args = parser.parse_args(argv)
    publish(args.config, args.checkpoint, args.out, args.layout, args.share, args.half)
    return 0


if __name__ == "__main__":
    sys.exit(main())
