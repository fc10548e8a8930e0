"""Builds models of the catalogue from files in their official formats.

Every loader takes a name of the catalogue and, optionally, a file to read instead of the one the name resolves to. It
gives an fp32 model on the CPU in evaluation mode, together with its preprocessing and the hash of the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import open_clip
import timm
from open_clip.model import CustomTextCLIP
from segment_anything import sam_model_registry
from timm.models import VisionTransformer
from torch import Tensor, nn

from .assemble import assemble, skip_initialisation
from .catalogue import WeightCard, get_card
from .convert import dino_backbone, dinoiser_heads, eva_clip, is_eva_clip, transformers_clip
from .dinotxt import DinoTxtParts, dinotxt_keys
from .errors import CheckpointError, WeightsError, WeightsNotFound
from .hashes import file_sha256
from .hybrid import build_clip
from .identity import check_identity, check_openai_layout
from .layouts import LAYOUTS, laid_over
from .radio import PARTS, build_head, head_keys, radio_backbone
from .reading import check_format, load_state_dict, load_weights
from .resolve import resolve
from .sam_model import build_sam
from .signatures import describe
from .simfeatup import JointBilateralUpsampler, upsampler_keys
from .text_map import TextMap
from .words import LearnedWords, read_words

Checkpoint = str | PathLike[str] | None


@dataclass(frozen=True)
class Loaded:
    """A model with what is needed to use it.

    Attributes:
        model: fp32, on the CPU, in evaluation mode.
        mean, std: Normalisation of the RGB image in 0..1.
        card: Its entry in the catalogue.
        sha256: Of the file the weights were read from.
    """

    model: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    card: WeightCard
    sha256: str


@dataclass(frozen=True)
class LoadedClip(Loaded):
    """A CLIP model, as :class:`Loaded`; ``model`` is open_clip's ``CLIP`` or ``CustomTextCLIP``.

    Attributes:
        tokenizer: Strings to an int64 tensor [n, context length].
        words: What the model has learned, where a list of it lies beside the weights.
    """

    tokenizer: Callable[[str | list[str]], Tensor]
    words: LearnedWords | None = None


def load_clip(name: str, checkpoint: Checkpoint = None) -> LoadedClip:
    """Loads a CLIP model.

    Reads OpenAI's TorchScript archives and plain state dicts, open_clip's .safetensors, .bin and .pt files including
    training checkpoints, EVA-CLIP's own files, and ``CLIPModel`` files of Hugging Face transformers.

    Args:
        name: A CLIP entry of the catalogue, e.g. ``openai/ViT-B-16``, or ``nano``; or a trained segmenter, whose
            (finetuned) CLIP is read.
        checkpoint: File to read instead of the resolved one.

    Raises:
        UnknownWeights: No such name.
        WeightsNotFound: The file, or the tokenizer of the model, is not here and could not be downloaded.
        CheckpointError: The file is damaged, unsafe, or of another model.
    """
    card, path = _find(name, "clip", checkpoint, "decoder")
    config = _clip_config(card)
    preprocess = config.get("preprocess_cfg", {})
    return LoadedClip(
        model=_build_clip(card, path),
        mean=tuple(preprocess.get("mean", card.mean)),
        std=tuple(preprocess.get("std", card.std)),
        card=card,
        sha256=file_sha256(path),
        tokenizer=_tokenizer(card, config, path),
        words=read_words(resolve(card.base) if card.base else path),
    )


def load_dino(name: str, checkpoint: Checkpoint = None) -> Loaded:
    """Loads a DINO, DINOv2, DINOv3 or RADIO backbone as timm's model without head, for images of any size.

    Reads facebookresearch's backbone files and training checkpoints (the teacher), NVIDIA's files of RADIO and timm's
    own files. LayerNorm's epsilon is 1e-6 for DINO, DINOv2 and RADIO, 1e-5 for DINOv3, as in their own code.

    Args:
        name: A DINO entry of the catalogue, e.g. ``dino/vitb8``.
        checkpoint: File to read instead of the resolved one.

    Raises:
        UnknownWeights, WeightsNotFound, CheckpointError: As :func:`load_clip`.
    """
    return _load(name, "dino", checkpoint)


def load_sam(name: str, checkpoint: Checkpoint = None) -> Loaded:
    """Loads a SAM; ``model`` is segment_anything's ``Sam``, which expects pixels in 0..255 and normalises itself.

    Args:
        name: A SAM entry of the catalogue, e.g. ``sam/vit_b``.
        checkpoint: File to read instead of the resolved one.

    Raises:
        UnknownWeights, WeightsNotFound, CheckpointError: As :func:`load_clip`.
    """
    return _load(name, "sam", checkpoint)


def load_heads(name: str = "clip_dinoiser/last", checkpoint: Checkpoint = None) -> Loaded:
    """Loads small trained parts that work on another model's features.

    CLIP-DINOiser (Wysoczanska et al., 2024):
    ``model`` is an ``nn.ModuleDict`` of two convolutions on a map of CLIP's features [B, width, h, w], width 768 for
    the official heads: ``obj_proj`` (3x3, 256 channels, replicate padding) and ``bkg_decoder`` (1x1, one channel).
    SegEarth-OV (Li et al., CVPR 2025): a :class:`ovseg.weights.simfeatup.JointBilateralUpsampler`.
    Talk2DINO (Barsellotti et al., ICCV 2025): a :class:`ovseg.weights.text_map.TextMap`.
    dino.txt (Jose et al., CVPR 2025): a :class:`ovseg.weights.dinotxt.DinoTxtParts`.
    RADIO's head for a teacher: a :class:`ovseg.weights.radio.AdaptorHead`, or a linear layer.

    Args:
        name: An entry of the catalogue.
        checkpoint: File to read instead of the resolved one.

    Raises:
        UnknownWeights, WeightsNotFound, CheckpointError: As :func:`load_clip`.
    """
    return _load(name, "heads", checkpoint)


def load_decoder(name: str, decoder: nn.Module, checkpoint: Checkpoint = None) -> str:
    """Loads the decoder of a trained segmenter into a module, strictly, as fp32.

    Args:
        name: A trained segmenter of the catalogue, e.g. ``catseg/base``.
        decoder: The module; becomes the owner of the tensors.
        checkpoint: File to read instead of the resolved one.

    Returns:
        SHA-256 of the file.

    Raises:
        UnknownWeights, WeightsNotFound, CheckpointError: As :func:`load_clip`.
    """
    card, path = _find(name, "decoder", checkpoint)
    whole = load_state_dict(path)
    expected = f"the decoder of {card.name} ({type(decoder).__name__})"
    layout = LAYOUTS[card.layout]
    assemble(decoder, layout.decoder(whole), path, expected, whole=whole, name=layout.name)
    return file_sha256(path)


def build_model(card: WeightCard, path: Path) -> nn.Module:
    """The model of a card with the weights of a file. Raises :class:`CheckpointError`."""
    return _BUILDERS[card.kind](card, path)


def _load(name: str, kind: str, checkpoint: Checkpoint) -> Loaded:
    card, path = _find(name, kind, checkpoint)
    return Loaded(build_model(card, path), card.mean, card.std, card, file_sha256(path))


def _find(name: str, kind: str, checkpoint: Checkpoint, *others: str) -> tuple[WeightCard, Path]:
    card = get_card(name)
    if card.kind not in (kind, *others):
        raise WeightsError(f"{name!r} belongs to {card.family}: load it with load_{card.kind}, not load_{kind}")
    if card.kind not in _BUILDERS:
        raise WeightsError(f"{name!r} belongs to {card.family} and is loaded by transformers, see ovseg.regions")
    path = resolve(name, checkpoint)
    if checkpoint is not None or card.packaged is None:
        check_format(path)  # before the file is read through for its hash
        check_identity(card.name, path)
    return card, path


def _build_clip(card: WeightCard, path: Path) -> nn.Module:
    whole, openai = load_weights(path)
    weights = whole
    if openai:
        check_openai_layout(card, path)
    if card.layout:
        weights = LAYOUTS[card.layout].clip(weights)
    if card.base:
        weights = laid_over(load_state_dict(resolve(card.base)), weights)
    if any(key.startswith("vision_model.") for key in weights):
        weights = transformers_clip(weights)
    if is_eva_clip(weights):
        weights = eva_clip(weights)
    model_config = dict(_clip_config(card)["model_cfg"])
    custom_text = model_config.pop("custom_text", False)
    with skip_initialisation():
        model = CustomTextCLIP(**model_config) if custom_text else build_clip(model_config)
    for key in ("logit_scale", "logit_bias"):  # a scalar in some files, a vector of one in others
        if key in weights and getattr(model, key) is not None and weights[key].numel() == 1:
            weights[key] = weights[key].reshape(getattr(model, key).shape)
    causal_masks = [key for key in weights if key.endswith("attn_mask")]  # a constant that old exports contain
    return assemble(model, weights, path, f"{card.name} (open_clip {card.arch})", causal_masks, whole)


def _build_dino(card: WeightCard, path: Path) -> nn.Module:
    weights = load_state_dict(path)
    classifier = weights.get("head.weight")
    if classifier is not None and classifier.ndim == 2:
        raise CheckpointError(
            path,
            f"is a classifier of {len(classifier)} classes (head.weight), trained with labels; {card.name} is trained "
            "on images only, and its keys are the same",
            "Give the self-supervised backbone",
        )
    sizes = {}
    if "radio" in card.arch:
        weights = radio_backbone(weights)
        if "pos_embed" in weights:  # 128 x 128 positions in NVIDIA's files, 32 x 32 in timm's
            sizes["img_size"] = 16 * round(weights["pos_embed"].shape[1] ** 0.5)
    else:
        weights = dino_backbone(weights)
    with skip_initialisation():
        if card.packaged is not None:
            model = build_packaged_vit(_packaged_config(card))
        else:
            model = timm.create_model(card.arch, pretrained=False, num_classes=0, dynamic_img_size=True, **sizes)
    return assemble(model, weights, path, f"{card.name} (timm {card.arch})")


def build_packaged_vit(config: dict[str, Any]) -> VisionTransformer:
    """An untrained ViT of sizes that timm has no name for.

    Args:
        config: of a packaged DINO; ``model_cfg`` holds arguments of timm's ``VisionTransformer``.
    """
    return VisionTransformer(**config["model_cfg"], num_classes=0, dynamic_img_size=True)


def _build_sam(card: WeightCard, path: Path) -> nn.Module:
    weights = load_state_dict(path)
    with skip_initialisation():
        packaged = card.packaged is not None
        model = build_sam(_packaged_config(card)) if packaged else sam_model_registry[card.arch]()
    return assemble(model, weights, path, f"{card.name} (segment_anything {card.arch})")


def _build_heads(card: WeightCard, path: Path) -> nn.Module:
    if card.arch == "jbu_one":
        return _build_upsampler(card, path)
    if card.arch == "text_map":
        return _build_text_map(card, path)
    if card.arch == "dinotxt":
        return _build_dinotxt(card, path)
    if card.arch in _RADIO_HEADS:
        return _build_radio_head(card, path)
    weights = dinoiser_heads(load_state_dict(path))
    width = 768 if card.packaged is None else _packaged_config(card)["width"]
    with skip_initialisation():
        model = nn.ModuleDict(
            {
                "obj_proj": nn.Conv2d(width, 256, 3, padding=1, padding_mode="replicate"),
                "bkg_decoder": nn.Conv2d(width, 1, 1),
            }
        )
    return assemble(model, weights, path, f"{card.name} (the two heads of CLIP-DINOiser)")


def _build_upsampler(card: WeightCard, path: Path) -> nn.Module:
    weights = upsampler_keys(load_state_dict(path))
    last = weights.get("fixup_proj.1.weight")
    with skip_initialisation():
        model = JointBilateralUpsampler(512 if last is None else len(last))
    return assemble(model, weights, path, f"{card.name} (SimFeatUp's jbu_one)")


def _build_text_map(card: WeightCard, path: Path) -> nn.Module:
    weights = load_state_dict(path)
    first, last = weights.get("linear_layer.weight"), weights.get("hidden_layers.0.weight")
    shapes = [tuple(w.shape) if w is not None and w.ndim == 2 else None for w in (first, last)]
    if None in shapes or shapes[0][0] != shapes[1][1]:
        raise CheckpointError(
            path,
            f"holds {describe(weights)}, not Talk2DINO's map of words (linear_layer, hidden_layers.0)",
            "Give the file of the map",
        )
    with skip_initialisation():
        model = TextMap(shapes[0][1], shapes[0][0], shapes[1][0])
    return assemble(model, weights, path, f"{card.name} (Talk2DINO's map of words)")


def _build_dinotxt(card: WeightCard, path: Path) -> nn.Module:
    whole = load_state_dict(path)
    weights = dinotxt_keys(whole)
    try:
        with skip_initialisation():
            model = DinoTxtParts.like(weights)
    except KeyError as error:
        raise CheckpointError(
            path,
            f"holds {describe(whole)}, not dino.txt's blocks and text tower (no {error.args[0]})",
            "Give the file of the vision head and the text encoder",
        ) from None
    return assemble(model, weights, path, f"{card.name} (dino.txt's blocks and text tower)", whole=whole)


_RADIO_HEADS = {"radio_head": ("siglip2", "summary"), "radio_sam_head": ("sam", "features")}
"""Teacher and part of its output that a head of RADIO stands for."""


def _build_radio_head(card: WeightCard, path: Path) -> nn.Module:
    whole = load_state_dict(path)
    teacher, part = _RADIO_HEADS[card.arch]
    weights = head_keys(whole, teacher, part)
    try:
        with skip_initialisation():
            model = build_head(weights)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            path,
            f"holds {describe(whole)}, not one head of RADIO for the {part} of its teacher {teacher} ({error})",
            f"Give a file with the teacher's {PARTS[part][0]} (fc1, blocks, final), or with weight and bias of a "
            "linear layer",
        ) from None
    return assemble(model, weights, path, f"{card.name} (RADIO's head for the {part} of {teacher})", whole=whole)


_BUILDERS: dict[str, Callable[[WeightCard, Path], nn.Module]] = {
    "clip": _build_clip,
    "dino": _build_dino,
    "sam": _build_sam,
    "heads": _build_heads,
    "decoder": _build_clip,
}


def _clip_config(card: WeightCard) -> dict[str, Any]:
    """open_clip's configuration: ``model_cfg`` and, for packaged models that have one, ``preprocess_cfg``."""
    if card.packaged is None:
        return {"model_cfg": open_clip.get_model_config(card.arch)}
    config = _packaged_config(card)
    return config if "model_cfg" in config else {"model_cfg": config}


def _packaged_config(card: WeightCard) -> dict[str, Any]:
    """The json file beside weights that come with ovseg."""
    path = card.packaged.with_suffix(".json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem = f"the model's configuration cannot be read ({error})"
        raise CheckpointError(path, problem, "Install ovseg again") from None


def _tokenizer(card: WeightCard, config: dict[str, Any], path: Path) -> Callable[[str | list[str]], Tensor]:
    text = config["model_cfg"]["text_cfg"]
    if "hf_tokenizer_name" not in text:
        return open_clip.SimpleTokenizer(context_length=text["context_length"], **text.get("tokenizer_kwargs", {}))
    # SigLIP's tokenizers are files of the Hugging Face hub; a copy of them may lie beside the weights.
    local = path.parent if (path.parent / "tokenizer.json").is_file() else None
    try:
        return open_clip.tokenizer.HFTokenizer(
            str(local or text["hf_tokenizer_name"]),
            context_length=text["context_length"],
            **text.get("tokenizer_kwargs", {}),
        )
    except ImportError:
        problem = f"the tokenizer of {card.name!r} needs the package transformers: pip install transformers"
        raise WeightsError(problem) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsNotFound(
            f"the tokenizer of {card.name!r} could not be had ({reason}). Put tokenizer.json and tokenizer_config.json "
            f"of https://huggingface.co/{text['hf_tokenizer_name']} beside {path}"
        ) from None
