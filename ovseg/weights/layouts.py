"""Checkpoints of trained segmenters: one file with a CLIP and a decoder, told apart by their keys.

A layout says which keys belong to which, and renames them: to open_clip's for the CLIP, to those of the module in
:mod:`ovseg.decoders` for the decoder. What belongs to neither is left for the error message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .mask_layouts import FCCLIP, MAFT_PLUS, OVSEG
from .renaming import Renaming

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """The keys of one family of checkpoints.

    Attributes:
        clip: all tensors of a file to those of open_clip's model.
        decoder: all tensors of a file to those of the decoder.
        joined: tensors of open_clip's model and of the decoder to those of a file.
        name: a key of the decoder to that of a file, for messages; as it is, where nothing else is said.
    """

    clip: Callable[[Mapping[str, Tensor]], Weights]
    decoder: Callable[[Mapping[str, Tensor]], Weights]
    joined: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Weights]
    name: Callable[[str], str] = str


_PREDICTOR = "sem_seg_head.predictor."
_CLIP, _AGGREGATOR = _PREDICTOR + "clip_model.", _PREDICTOR + "transformer."
_PROJECTION = re.compile(r"(.*\.attn\.)([qkv])_proj_weight")


def _catseg_clip(weights: Mapping[str, Tensor]) -> Weights:
    return joint_projections({k.removeprefix(_CLIP): v for k, v in weights.items() if k.startswith(_CLIP)})


def _catseg_decoder(weights: Mapping[str, Tensor]) -> Weights:
    mask = ".swin_block.block_2.attn_mask"  # a constant of the architecture
    return {
        k.removeprefix(_AGGREGATOR): v for k, v in weights.items() if not k.startswith(_CLIP) and not k.endswith(mask)
    }


def _catseg_joined(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    out = {_CLIP + key: value for key, value in separate_projections(clip).items()}
    for key, value in decoder.items():
        out[key if key.startswith(("upsample1.", "upsample2.")) else _AGGREGATOR + key] = value
    return out


_SAN_CLIP = {"clip_visual_extractor.": "visual.", "clip_rec_head.": "visual.", "ov_classifier.": ""}
_SAN_DECODER = {"side_adapter_network.": "network.", "ov_classifier.bg_embed": "bg_embed"}
_SAN_CONSTANTS = ("criterion.empty_weight", "ov_classifier.attn_mask")
_RESBLOCK = re.compile(r"(clip_visual_extractor|clip_rec_head)\.resblocks\.(\d+)\.(.+)")


def _san_clip(weights: Mapping[str, Tensor]) -> Weights:
    """SAN splits CLIP's image tower in two, the second part numbered from 0 again, and keeps the text tower apart."""
    blocks = [match for match in map(_RESBLOCK.fullmatch, weights) if match]
    first = 1 + max((int(m[2]) for m in blocks if m[1] == "clip_visual_extractor"), default=-1)
    out: Weights = {}
    for key, value in weights.items():
        match = _RESBLOCK.fullmatch(key)
        if match:
            index = int(match[2]) + (first if match[1] == "clip_rec_head" else 0)
            out[f"visual.transformer.resblocks.{index}.{match[3]}"] = value
        elif key not in _SAN_CONSTANTS and key not in _SAN_DECODER:
            for theirs, ours in _SAN_CLIP.items():
                if key.startswith(theirs):
                    out[ours + key.removeprefix(theirs)] = value
    return out


def _san_decoder(weights: Mapping[str, Tensor]) -> Weights:
    out: Weights = {}
    for key, value in weights.items():
        names = [ours + key.removeprefix(theirs) for theirs, ours in _SAN_DECODER.items() if key.startswith(theirs)]
        if names:
            out[names[0]] = value
        elif key not in _SAN_CONSTANTS and not key.startswith(tuple(_SAN_CLIP)):
            out[key] = value
    return out


def _san_joined(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    """SAN's split lies after three quarters of the blocks: 9 of 12, 18 of 24."""
    block = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.(.+)")
    split = 3 * (1 + max(int(m[1]) for m in map(block.fullmatch, clip) if m)) // 4
    out: Weights = {}
    for key, value in clip.items():
        match = block.fullmatch(key)
        if match:
            index = int(match[1])
            part = "clip_visual_extractor" if index < split else "clip_rec_head"
            out[f"{part}.resblocks.{index - split * (index >= split)}.{match[2]}"] = value
        elif not key.startswith("visual."):
            out["ov_classifier." + key] = value
        else:
            name = key.removeprefix("visual.")
            last = name.startswith(("ln_post.", "proj"))
            out[("clip_rec_head." if last else "clip_visual_extractor.") + name] = value
    for key, value in decoder.items():
        out[("ov_classifier." + key) if key == "bg_embed" else "side_adapter_" + key] = value
    return out


_SED_NAMES = {
    ".cnext.dwconv.": ".cnext.conv_dw.",
    ".cnext.pwconv1.": ".cnext.mlp.fc1.",
    ".cnext.pwconv2.": ".cnext.mlp.fc2.",
}
_SED_UP = re.compile(r"(decoder\d\.)(up\.|conv\.)")


def _sed_clip(weights: Mapping[str, Tensor]) -> Weights:
    return {k.removeprefix(_CLIP): v for k, v in weights.items() if k.startswith(_CLIP)}


def _sed_decoder(weights: Mapping[str, Tensor]) -> Weights:
    own = {k.removeprefix(_AGGREGATOR): v for k, v in weights.items() if not k.startswith(_CLIP)}
    return {_SED_UP.sub(r"\1enlarge.\2", _renamed(k, _SED_NAMES)): v for k, v in own.items()}


def _sed_joined(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    back = {ours: theirs for theirs, ours in _SED_NAMES.items()} | {".enlarge.": "."}
    out = {_CLIP + key: value for key, value in clip.items()}
    return out | {_AGGREGATOR + _renamed(key, back): value for key, value in decoder.items()}


def _renamed(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        key = key.replace(old, new)
    return key


def joint_projections(weights: Mapping[str, Tensor]) -> Weights:
    """``attn.{q,k,v}_proj_weight`` to ``attn.in_proj_weight``; other keys pass."""
    out: Weights = {}
    for key, value in weights.items():
        match = _PROJECTION.fullmatch(key)
        parts = [weights.get(f"{match[1]}{part}_proj_weight") for part in "qkv"] if match else []
        if not match or any(part is None for part in parts):
            out[key] = value
        elif match[2] == "q":
            out[f"{match[1]}in_proj_weight"] = torch.cat(parts)
    return out


def separate_projections(weights: Mapping[str, Tensor]) -> Weights:
    """``attn.in_proj_weight`` to ``attn.{q,k,v}_proj_weight``; other keys pass."""
    out: Weights = {}
    for key, value in weights.items():
        if key.endswith(".attn.in_proj_weight"):
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                out[key.replace("in_proj_weight", f"{part}_proj_weight")] = rows.clone()
        else:
            out[key] = value
    return out


def _mask_layout(clip: str, renaming: Renaming, dropped: Callable[[str], bool]) -> Layout:
    """Of FC-CLIP and its kin.

    Args:
        clip: what the keys of the CLIP begin with.
        renaming: the decoder's names.
        dropped: keys of a file that are neither's: constants and what only the training uses.
    """

    def ours(key: str) -> bool:
        return key.startswith(clip) and not key.endswith(_PROMPTS)

    def of_clip(weights: Mapping[str, Tensor]) -> Weights:
        return {key.removeprefix(clip): value for key, value in weights.items() if ours(key)}

    def of_decoder(weights: Mapping[str, Tensor]) -> Weights:
        return renaming.ours({k: v for k, v in weights.items() if not ours(k) and not dropped(k)})

    def joined(tower: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
        return {**{clip + key: value for key, value in tower.items()}, **renaming.theirs(decoder)}

    return Layout(of_clip, of_decoder, joined, renaming.their_name)


_PROMPTS = "visual.mask_embedding"


def _training_only(key: str) -> bool:
    return key.startswith(("criterion.", "backbone_t."))


def _constant(key: str) -> bool:
    return _training_only(key) or key.endswith((".relative_position_index", "clip_adapter.pixel_mean", "pixel_std"))


def _overlay(part: str) -> Callable[[Mapping[str, Tensor]], Weights]:
    other = {"clip": "decoder", "decoder": "clip"}[part]

    def take(weights: Mapping[str, Tensor]) -> Weights:
        return {k.removeprefix(f"{part}."): v for k, v in weights.items() if not k.startswith(f"{other}.")}

    return take


def _overlay_joined(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    return {f"clip.{k}": v for k, v in clip.items()} | {f"decoder.{k}": v for k, v in decoder.items()}


def laid_over(base: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> Weights:
    """open_clip's tensors with some replaced; query, key and value projections may be replaced one by one."""
    return joint_projections({**separate_projections(base), **separate_projections(changes)})


def changes_from(base: Mapping[str, Tensor], clip: Mapping[str, Tensor]) -> Weights:
    """The tensors of ``clip`` that are not those of ``base``, projections one by one: see :func:`laid_over`."""
    base, clip = separate_projections(base), separate_projections(clip)
    return {key: value for key, value in clip.items() if key not in base or not torch.equal(value, base[key])}


_STUDENT = "student.decoder."


def _student_decoder(weights: Mapping[str, Tensor]) -> Weights:
    """A checkpoint of ``PseudoLabelTrainer``: its student's decoder alone, whose CLIP is a published one."""
    own = {k.removeprefix(_STUDENT): v for k, v in weights.items() if k.startswith(_STUDENT)}
    return own or dict(weights)


def _student_joined(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    return {f"student.backbone.clip.{k}": v for k, v in clip.items()} | {_STUDENT + k: v for k, v in decoder.items()}


def _student_clip(weights: Mapping[str, Tensor]) -> Weights:
    prefix = "student.backbone.clip."
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


_TRAINED_CLIP = "backbone.clip."


def _part_of_training(prefix: str) -> Callable[[Mapping[str, Tensor]], Weights]:
    """Of a checkpoint of ``DecoderSegmentor``, or of a file that holds the part alone."""

    def take(weights: Mapping[str, Tensor]) -> Weights:
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        return own or dict(weights)

    return take


def _training_joined(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    return {_TRAINED_CLIP + k: v for k, v in clip.items()} | {f"decoder.{k}": v for k, v in decoder.items()}


def _clip_alone(clip: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> Weights:
    return dict(clip)


LAYOUTS: dict[str, Layout] = {
    # open_clip's own: for the training-free methods, where a training changed CLIP and nothing else
    "clip": Layout(dict, lambda weights: {}, _clip_alone),
    "catseg": Layout(_catseg_clip, _catseg_decoder, _catseg_joined),
    "student": Layout(_student_clip, _student_decoder, _student_joined),
    "training": Layout(_part_of_training(_TRAINED_CLIP), _part_of_training("decoder."), _training_joined),
    "sed": Layout(_sed_clip, _sed_decoder, _sed_joined),
    "san": Layout(_san_clip, _san_decoder, _san_joined),
    "fcclip": _mask_layout("backbone.clip_model.", FCCLIP, _training_only),
    "maft_plus": _mask_layout("backbone.clip_model.", MAFT_PLUS, _training_only),
    "ovseg": _mask_layout("clip_adapter.clip_model.", OVSEG, _constant),
    # ovseg's own: a decoder, and what its training changed of the CLIP that the card names as `base`
    "overlay": Layout(_overlay("clip"), _overlay("decoder"), _overlay_joined),
}
"""Layouts by the name that a card of the catalogue gives in ``layout``."""
