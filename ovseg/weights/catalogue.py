"""What ovseg knows about published weights: one table per family, the single source for everything else.

Urls, Hugging Face repositories, mean, std and image sizes of CLIP models come from open_clip's own tables, those of
DINO models from timm's, so that they are written down once. A hash is stated only where it is known: OpenAI and
open_clip have it in their urls, SAM's are on record in many places; for files of the Hugging Face hub the download
compares with the hash that the hub states.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

import open_clip
import timm

from .errors import UnknownWeights

ASSETS = Path(__file__).resolve().parent.parent / "assets"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Source:
    """One place a weights file can be had from.

    Attributes:
        url: Direct download.
        sha256: SHA-256 of the file in hex, whole or its first digits; None where it is not known.
    """

    url: str
    sha256: str | None = None

    @property
    def filename(self) -> str:
        """The publisher's name of the file."""
        return PurePosixPath(self.url).name

    @property
    def suffix(self) -> str:
        """Ending of the file's name, e.g. ``.pt``."""
        return PurePosixPath(self.url).suffix

    @property
    def hub_repo(self) -> str | None:
        """Repository on the Hugging Face hub, None for other hosts."""
        match = re.match(r"https://huggingface\.co/([^/]+/[^/]+)/resolve/", self.url)
        return match[1] if match else None


@dataclass(frozen=True)
class WeightCard:
    """Facts about one set of weights.

    Attributes:
        name: Name in ovseg, e.g. ``openai/ViT-B-16``.
        kind: Which loader reads it; ``decoder``: a CLIP and a trained decoder in one file, read by the loaders of both;
            ``masks``: transformers does, from the hub's cache.
        family: Heading of the table it belongs to.
        arch: Name of the architecture in open_clip, timm, or segment_anything.
        sources: Where to download it, best first. Empty: comes with ovseg, or cannot be downloaded directly.
        licence: Licence of the weights, as an SPDX identifier where there is one.
        commercial: Whether the licence lets a company use it: yes, no, or ask (conditions: read it).
        image_size: Side of the square training image, in pixels; None where the model states it itself.
        mean, std: Normalisation of the RGB image in 0..1.
        quickgelu: Whether the model was trained with x * sigmoid(1.702 x) in place of the exact GELU.
        packaged: For weights that come with ovseg: their path without the ending; ``.json`` is the configuration.
        size: Size of the file at the first source in bytes, None where unknown.
        hub_model: For models that transformers loads: their repository on the Hugging Face hub.
        layout: For trained segmenters: how the keys of their file are told apart, a name of
            :data:`ovseg.weights.layouts.LAYOUTS`.
        base: For files that hold changes of another CLIP: that one's name.
        home: Page to read about the weights and to get them by hand.
        notes: Anything else a user should know.
    """

    name: str
    kind: Literal["clip", "dino", "sam", "heads", "decoder", "masks"]
    family: str
    arch: str
    sources: tuple[Source, ...]
    licence: str
    commercial: Literal["yes", "no", "ask"]
    image_size: int | None
    mean: Triple
    std: Triple
    quickgelu: bool = False
    packaged: Path | None = None
    size: int | None = None
    hub_model: str = ""
    layout: str = ""
    base: str = ""
    home: str = ""
    notes: str = field(default="", repr=False)

    @property
    def filename(self) -> str:
        """Where the file lies, relative to ovseg's cache directory: the name with the ending of the first source."""
        return self.name + (self.sources[0].suffix if self.sources else ".pt")


def get_card(name: str) -> WeightCard:
    """Card of a name of the catalogue.

    Raises:
        UnknownWeights: No such name; the message has the closest ones.
    """
    cards = catalogue()
    if name not in cards:
        close = difflib.get_close_matches(name, cards, n=4, cutoff=0.5)
        hint = f"Did you mean {', '.join(close)}?" if close else "`ovseg weights list` shows all names."
        raise UnknownWeights(f"no weights named {name!r} in the catalogue. {hint}")
    return cards[name]


@cache
def catalogue() -> dict[str, WeightCard]:
    """All cards by name, in the order of the tables. Put a card of your own into it to load other weights by name."""
    tables = (_nano, _nano_photo, _openai, _open_clip, _metaclip, _dfn, _eva, _declip, _siglip, _dino, _dinov2, _dinov3)
    tables += (_radio, _sam, _heads, _decoders, _masks)
    return {card.name: card for table in tables for card in table()}


# --------------------------------------------------------------------------------------------------------- CLIP
CLIP_MEAN, CLIP_STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
_CLIP_NORM = dict(mean=CLIP_MEAN, std=CLIP_STD)


def _nano() -> Iterable[WeightCard]:
    yield WeightCard(
        name="nano",
        kind="clip",
        family="nano (comes with ovseg)",
        arch="nano",
        sources=(),
        licence="as ovseg; see its model card",
        commercial="ask",
        image_size=112,
        **_CLIP_NORM,
        packaged=ASSETS / "nano" / "clip",
        notes="Small, for smoke tests, CI and learning; its figures say nothing about those of real weights. A small "
        "part of its training images were ImageNet photos (non-commercial research).",
    )
    yield WeightCard(
        name="nano_sam",
        kind="sam",
        family="nano (comes with ovseg)",
        arch="nano_sam",
        sources=(),
        licence="as ovseg; see its model card",
        commercial="ask",
        image_size=256,
        **_CLIP_NORM,
        packaged=ASSETS / "nano" / "sam",
        notes="`nano_sam` is trained on the masks of composed scenes, from nano's image tower.",
    )
    yield WeightCard(
        name="nano_guide",
        kind="dino",
        family="nano (comes with ovseg)",
        arch="nano_guide",
        sources=(),
        licence="as ovseg; see its model card",
        commercial="yes",
        image_size=112,
        **_CLIP_NORM,
        packaged=ASSETS / "nano" / "guide",
        notes="`nano_guide` is a ViT of patch size 8, trained from scratch on composed scenes without words or masks.",
    )
    yield WeightCard(
        name="nano_dinoiser",
        kind="heads",
        family="nano (comes with ovseg)",
        arch="clip_dinoiser",
        sources=(),
        licence="as ovseg; see its model card",
        commercial="ask",
        image_size=112,
        **_CLIP_NORM,
        packaged=ASSETS / "nano" / "dinoiser",
        notes="`nano_dinoiser`: heads for `nano`, taught by `nano_guide`.",
    )


def _nano_photo() -> Iterable[WeightCard]:
    yield WeightCard(
        name="nano-photo",
        kind="clip",
        family="nano-photo (comes with ovseg)",
        arch="nano-photo",
        sources=(),
        licence="as ovseg; see its model card",
        commercial="ask",
        image_size=256,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        packaged=ASSETS / "nano_photo" / "clip",
        notes="Small, for the first photo a newcomer tries. Its stem (EfficientNet-Lite0, Apache-2.0) and the rest "
        "were trained on ImageNet photos (non-commercial research) among others.",
    )


def _clip_card(
    arch: str, tag: str, family: str, licence: str, commercial: Literal["yes", "no", "ask"], home: str, notes: str = ""
) -> WeightCard:
    """Card of one of open_clip's pretrained models."""
    cfg = open_clip.get_pretrained_cfg(arch, tag)
    quickgelu = bool(cfg.get("quick_gelu", False))
    sources = []
    if cfg["url"]:
        sources.append(Source(cfg["url"], sha256=_hash_in_url(cfg["url"])))
    repo = cfg["hf_hub"].rstrip("/")
    for filename in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin") if repo else ():
        sources.append(Source(f"https://huggingface.co/{repo}/resolve/main/{filename}"))
    return WeightCard(
        name=f"{tag}/{arch}",
        kind="clip",
        family=family,
        arch=f"{arch}-quickgelu" if quickgelu and not arch.endswith("-quickgelu") else arch,
        sources=tuple(sources),
        licence=licence,
        commercial=commercial,
        image_size=open_clip.get_model_config(arch)["vision_cfg"]["image_size"],
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        quickgelu=quickgelu,
        home=home or f"https://huggingface.co/{repo}",
        notes=notes,
    )


def _hash_in_url(url: str) -> str | None:
    """OpenAI's urls have the SHA-256 as a folder, open_clip's own releases end in its first eight digits."""
    match = re.search(r"/([0-9a-f]{64})/", url) or re.search(r"/mlfoundations/.*-([0-9a-f]{8})\.\w+$", url)
    return match[1] if match else None


def _openai() -> Iterable[WeightCard]:
    for arch in ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"):
        yield _clip_card(
            arch,
            "openai",
            "OpenAI CLIP",
            "MIT",
            "yes",
            "https://github.com/openai/CLIP",
            "TorchScript archive in half precision; read without being executed. The model card calls deployed use "
            "without testing for the task out of scope.",
        )


def _open_clip() -> Iterable[WeightCard]:
    laion = "LAION and DataComp (open_clip)"
    for arch, tag in (
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-16", "laion2b_s34b_b88k"),
        ("ViT-B-16", "laion400m_e32"),
        ("ViT-L-14", "laion2b_s32b_b82k"),
        ("ViT-L-14", "laion400m_e32"),
        ("ViT-H-14", "laion2b_s32b_b79k"),
        ("ViT-B-32", "datacomp_xl_s13b_b90k"),
        ("ViT-B-16", "datacomp_xl_s13b_b90k"),
        ("ViT-L-14", "datacomp_xl_s13b_b90k"),
    ):
        yield _clip_card(arch, tag, laion, "MIT", "yes", "", "Exact GELU.")
    for arch, tag in (
        ("convnext_base_w_320", "laion_aesthetic_s13b_b82k"),
        ("convnext_base_w_320", "laion_aesthetic_s13b_b82k_augreg"),
        ("convnext_large_d_320", "laion2b_s29b_b131k_ft_soup"),
    ):
        yield _clip_card(
            arch, tag, "ConvNeXt CLIP (open_clip)", "MIT", "yes", "", "For ConvNextClip, not ClipBackbone."
        )


def _metaclip() -> Iterable[WeightCard]:
    home = "https://github.com/facebookresearch/MetaCLIP"
    for arch, tag in (
        ("ViT-B-32", "metaclip_fullcc"),
        ("ViT-B-16", "metaclip_400m"),
        ("ViT-B-16", "metaclip_fullcc"),
        ("ViT-L-14", "metaclip_400m"),
        ("ViT-L-14", "metaclip_fullcc"),
        ("ViT-H-14", "metaclip_fullcc"),
    ):
        yield _clip_card(arch, tag, "MetaCLIP", "CC-BY-NC-4.0", "no", home)


def _dfn() -> Iterable[WeightCard]:
    note = "Apple Machine Learning Research Model licence: research use only."
    for arch, tag in (("ViT-B-16", "dfn2b"), ("ViT-L-14", "dfn2b"), ("ViT-H-14", "dfn5b"), ("ViT-H-14-378", "dfn5b")):
        yield _clip_card(arch, tag, "DFN", "apple-amlr", "no", "", note)


def _eva() -> Iterable[WeightCard]:
    note = "Image tower from timm (rotary position embedding), so modified attentions need an EVA block."
    for arch, tag in (
        ("EVA02-B-16", "merged2b_s8b_b131k"),
        ("EVA02-L-14", "merged2b_s4b_b131k"),
        ("EVA02-L-14-336", "merged2b_s6b_b61k"),
    ):
        yield _clip_card(arch, tag, "EVA-CLIP", "MIT", "yes", "", note)


def _declip() -> Iterable[WeightCard]:
    for name, arch, published in (
        ("EVA02-B-16", "EVA02-B-16", "merged2b_s8b_b131k"),
        ("EVA02-L-14-336", "EVA02-L-14-336", "merged2b_s6b_b61k"),
        ("ViT-B-16", "ViT-B-16-quickgelu", "openai"),
        ("ViT-L-14-336", "ViT-L-14-336-quickgelu", "openai"),
    ):
        cfg = open_clip.get_pretrained_cfg(name, published)
        yield WeightCard(
            name=f"declip/{name}",
            kind="clip",
            family="DeCLIP",
            arch=arch,
            sources=(),
            licence="not stated (the code is Apache-2.0)",
            commercial="ask",
            image_size=open_clip.get_model_config(name)["vision_cfg"]["image_size"],
            mean=tuple(cfg["mean"]),
            std=tuple(cfg["std"]),
            quickgelu=arch.endswith("-quickgelu"),
            home="https://github.com/xiaomoguhz/DeCLIP",
            notes=f"{published}/{name} with dense features tuned by DeCLIP (CVPR 2025); not known to be published. "
            "Trained by configs/declip; files of its own code are read, too. For `DeclipAttention`.",
        )


def _siglip() -> Iterable[WeightCard]:
    note = "No class token; the image embedding comes from an attention pool, dense features are its value path."
    for version, sizes in (
        ("SigLIP", ("B-16-{}", "B-16-{}-256", "B-16-{}-384", "B-16-{}-512", "L-16-{}-384", "SO400M-14-{}-384")),
        ("SigLIP2", ("B-16-{}", "B-16-{}-256", "B-16-{}-384", "B-16-{}-512", "L-16-{}-384", "SO400M-16-{}-384")),
        ("SigLIP2", ("gopt-16-{}-384",)),
    ):
        for size in sizes:
            yield _clip_card("ViT-" + size.format(version), "webli", version, "Apache-2.0", "yes", "", note)


# --------------------------------------------------------------------------------------------------------- DINO
def _timm_card(
    name: str,
    arch: str,
    family: str,
    licence: str,
    commercial: Literal["yes", "no", "ask"],
    home: str = "",
    notes: str = "",
) -> WeightCard:
    """Card of one of timm's pretrained models."""
    cfg = timm.get_pretrained_cfg(arch)
    sources = [Source(cfg.url)] if cfg.url else []
    sources.append(Source(f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/model.safetensors"))
    return WeightCard(
        name=name,
        kind="dino",
        family=family,
        arch=arch,
        sources=tuple(sources),
        licence=licence,
        commercial=commercial,
        image_size=cfg.input_size[-1],
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        home=home or f"https://huggingface.co/{cfg.hf_hub_id}",
        notes=notes,
    )


def _dino() -> Iterable[WeightCard]:
    for short, arch in (
        ("vits16", "vit_small_patch16_224.dino"),
        ("vits8", "vit_small_patch8_224.dino"),
        ("vitb16", "vit_base_patch16_224.dino"),
        ("vitb8", "vit_base_patch8_224.dino"),
    ):
        yield _timm_card(
            f"dino/{short}",
            arch,
            "DINO",
            "Apache-2.0",
            "yes",
            "https://github.com/facebookresearch/dino",
            notes="Backbone files, full training checkpoints (teacher) and timm's files are read.",
        )


def _dinov2() -> Iterable[WeightCard]:
    for short, size in (("vits14", "small"), ("vitb14", "base"), ("vitl14", "large")):
        for suffix, registers in (("", ""), ("_reg", "_reg4")):
            yield _timm_card(
                f"dinov2/{short}{suffix}",
                f"vit_{size}_patch14{registers}_dinov2.lvd142m",
                "DINOv2",
                "Apache-2.0",
                "yes",
                "https://github.com/facebookresearch/dinov2",
                notes="Four register tokens." if registers else "",
            )


def _dinov3() -> Iterable[WeightCard]:
    for short, size in (("vits16", "small"), ("vitb16", "base"), ("vitl16", "large")):
        yield _timm_card(
            f"dinov3/{short}",
            f"vit_{size}_patch16_dinov3.lvd1689m",
            "DINOv3",
            "dinov3-license",
            "ask",
            notes="timm's files and Meta's own are read; Meta gives its own out after consent at "
            "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/. timm keeps the periods of the "
            "rotary embedding in fp32, Meta in bf16.",
        )


def _radio() -> Iterable[WeightCard]:
    for short, size, name in (("vitb16", "base", "B"), ("vitl16", "large", "L")):
        yield WeightCard(
            name=f"radio/{short}",
            kind="dino",
            family="C-RADIOv3",
            arch=f"vit_{size}_patch16_radio_v3",
            sources=(Source(f"https://huggingface.co/nvidia/C-RADIOv3-{name}/resolve/main/model.safetensors"),),
            licence="nvidia-open-model-license",
            commercial="ask",
            image_size=512,
            **_CLIP_NORM,
            home=f"https://huggingface.co/nvidia/C-RADIOv3-{name}",
            notes="NVIDIA's files, which hold positions of 128 x 128 patches; timm's, which hold 32 x 32 and are exact "
            "at 512 pixels only, are read, too.",
        )
    for short in ("vitb16", "vitl16"):
        yield WeightCard(
            name=f"radio/siglip2_{short}",
            kind="heads",
            family="C-RADIOv3",
            arch="radio_head",
            sources=(),
            licence="nvidia-open-model-license",
            commercial="ask",
            image_size=512,
            **_CLIP_NORM,
            home="https://github.com/NVlabs/RADIO",
            notes=f"The head of radio/{short} that was trained for the summary of SigLIP 2 "
            "(webli/ViT-gopt-16-SigLIP2-384): part of the files of its adaptors.",
        )
        yield WeightCard(
            name=f"radio/sam_{short}",
            kind="heads",
            family="C-RADIOv3",
            arch="radio_sam_head",
            sources=(),
            licence="nvidia-open-model-license",
            commercial="ask",
            image_size=1024,
            **_CLIP_NORM,
            home="https://github.com/NVlabs/RADIO",
            notes=f"The head of radio/{short} that was trained for the patches of SAM ViT-H: part of the files of its "
            "adaptors.",
        )


# ---------------------------------------------------------------------------------------------- SAM and heads
_SAM_FILES = (  # the six digits in the file names are of the MD5; these are SHA-256
    ("vit_b", "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
    ("vit_l", "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
    ("vit_h", "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
)
_SAM_SIZES = {"vit_b": 375_042_383, "vit_h": 2_564_550_879}


def _sam() -> Iterable[WeightCard]:
    for arch, filename, sha256 in _SAM_FILES:
        yield WeightCard(
            name=f"sam/{arch}",
            kind="sam",
            family="SAM",
            arch=arch,
            sources=(Source(f"https://dl.fbaipublicfiles.com/segment_anything/{filename}", sha256),),
            licence="Apache-2.0",
            commercial="yes",
            image_size=1024,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            size=_SAM_SIZES.get(arch),
            home="https://github.com/facebookresearch/segment-anything",
        )


def _heads() -> Iterable[WeightCard]:
    yield WeightCard(
        name="clip_dinoiser/last",
        kind="heads",
        family="CLIP-DINOiser heads",
        arch="clip_dinoiser",
        sources=(),
        licence="see its page",
        commercial="ask",
        image_size=448,
        **_CLIP_NORM,
        home="https://github.com/wysoczanska/clip_dinoiser",
        notes="Trained on features of laion2b_s34b_b88k/ViT-B-16. The file is checkpoints/last.pt of the project.",
    )
    yield WeightCard(
        name="segearth/jbu_one",
        kind="heads",
        family="SimFeatUp (SegEarth-OV)",
        arch="jbu_one",
        sources=(),
        licence="not stated",
        commercial="ask",
        image_size=224,
        **_CLIP_NORM,
        home="https://github.com/likyoo/SegEarth-OV",
        notes="Upsampler for features of openai/ViT-B-16; the file is xclip_jbu_one_million_aid.ckpt of the project.",
    )
    yield WeightCard(
        name="talk2dino/vitb14_reg",
        kind="heads",
        family="text map (Talk2DINO)",
        arch="text_map",
        sources=(),
        licence="not stated",
        commercial="ask",
        image_size=448,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        home="https://github.com/lorebianchi98/Talk2DINO",
        notes="Brings words of openai/ViT-B-16 into the space of dinov2/vitb14_reg. A map for another pair of models "
        "has the same layout: give it as `map_checkpoint`.",
    )
    yield WeightCard(
        name="dinotxt/vitl16",
        kind="heads",
        family="dino.txt",
        arch="dinotxt",
        sources=(),
        licence="dinov3-license",
        commercial="ask",
        image_size=512,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        home="https://github.com/facebookresearch/dinov3",
        notes="Blocks on top of dinov3/vitl16 and their text tower: the file of the vision head and the text encoder, "
        "which Meta gives out after consent at https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/.",
    )


# ------------------------------------------------------------------------------------------ trained segmenters
_MASKS_SEEN = "43 of the 172 object words never occurred in a mask."


def _decoders() -> Iterable[WeightCard]:
    for method, kind, title, changes in (
        ("catseg", "decoder", "CAT-Seg", _MASKS_SEEN),
        ("san", "decoder", "SAN", _MASKS_SEEN),
        ("ovseg_mpt", "clip", "OVSeg's mask-adapted CLIP and mask prompts", _MASKS_SEEN),
        (
            "declip",
            "clip",
            "DeCLIP",
            "scenes without words and masks, and without 43 of the 172 object words, taught it.",
        ),
        (
            "maskclip_plus",
            "decoder",
            "MaskCLIP+",
            "scenes without masks, and without 43 of the 172 object words, labelled by SCLIP; it begins with "
            "EfficientNet-Lite0 (ImageNet-1k, Apache-2.0).",
        ),
    ):
        yield WeightCard(
            name=f"nano_{method}",
            kind=kind,
            family="nano (comes with ovseg)",
            arch="nano",
            sources=(),
            licence="as ovseg; see its model card",
            commercial="ask",
            image_size=112,
            **_CLIP_NORM,
            packaged=ASSETS / "nano" / method,
            layout="overlay",
            base="nano",
            notes=f"`nano_{method}`: {title} at nano's scale, and what its training changed of `nano`; {changes}",
        )
    for size, arch, filename, image_size in (
        ("base", "ViT-B-16-quickgelu", "model_base.pth", 224),
        ("large", "ViT-L-14-336-quickgelu", "model_large.pth", 336),
    ):
        yield WeightCard(
            name=f"catseg/{size}",
            kind="decoder",
            family="CAT-Seg",
            arch=arch,
            sources=(Source(f"https://huggingface.co/hamacojr/CAT-Seg-weights/resolve/main/{filename}"),),
            licence="not stated (the code is MIT)",
            commercial="ask",
            image_size=image_size,
            **_CLIP_NORM,
            quickgelu=True,
            layout="catseg",
            home="https://huggingface.co/hamacojr/CAT-Seg-weights",
            notes="OpenAI's CLIP, finetuned, with the cost aggregation of CAT-Seg (CVPR 2024), in one file; trained on "
            "the masks of COCO-Stuff. Checkpoints of CAT-Seg v1 have another layout.",
        )

    yield WeightCard(
        name="maskclip_plus/resnet101",
        kind="decoder",
        family="MaskCLIP+",
        arch="ViT-B-16-quickgelu",
        sources=(),
        licence="yours: you train it",
        commercial="ask",
        image_size=224,
        **_CLIP_NORM,
        quickgelu=True,
        layout="student",
        home="https://github.com/chongzhou96/MaskCLIP",
        notes="What tools/publish_decoder.py makes of configs/maskclip_plus/*_train.py. The authors' files, of another "
        "code, are not read.",
    )
    for method, title, paper in (("zegclip", "ZegCLIP", "2212.03588"), ("cascade_clip", "Cascade-CLIP", "2406.00670")):
        for data in ("voc20", "context59", "coco_stuff"):
            yield WeightCard(
                name=f"{method}/{data}",
                kind="decoder",
                family=title,
                arch="ViT-B-16-quickgelu",
                sources=(),
                licence="yours: you train it",
                commercial="ask",
                image_size=224,
                **_CLIP_NORM,
                quickgelu=True,
                layout="training",
                home=f"https://arxiv.org/abs/{paper}",
                notes=f"What tools/publish_decoder.py makes of configs/{method}/{method}_vitb16_{data}_train.py. The "
                "authors' files, of another code, are not read.",
            )
    yield WeightCard(
        name="denseclip/ade20k",
        kind="decoder",
        family="DenseCLIP",
        arch="ViT-B-16-quickgelu",
        sources=(),
        licence="yours: you train it",
        commercial="ask",
        image_size=224,
        **_CLIP_NORM,
        quickgelu=True,
        layout="training",
        home="https://arxiv.org/abs/2112.01518",
        notes="CLIP and decoder of configs/denseclip/denseclip_vitb16_ade20k_train.py. The authors' files, of another "
        "code, are not read.",
    )
    yield WeightCard(
        name="sam_clip_merged/vitb16",
        kind="decoder",
        family="SAM-CLIP",
        arch="vit_b",
        sources=(),
        licence="yours: you train it",
        commercial="ask",
        image_size=1024,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        layout="training",
        home="https://arxiv.org/abs/2310.15308",
        notes="SAM and CLIP head of configs/sam_clip_merged/*_train.py. The authors published neither.",
    )
    yield WeightCard(
        name="segclip/vitb16",
        kind="decoder",
        family="SegCLIP",
        arch="ViT-B-16-quickgelu",
        sources=(),
        licence="yours: you train it",
        commercial="ask",
        image_size=224,
        **_CLIP_NORM,
        quickgelu=True,
        layout="training",
        home="https://arxiv.org/abs/2211.14813",
        notes="CLIP and decoder of configs/segclip/segclip_vitb16_train.py. The authors' file, of another code and "
        "without a licence, is not read.",
    )
    for size, arch in (("base", "convnext_base_w_320"), ("large", "convnext_large_d_320")):
        yield WeightCard(
            name=f"sed/{size}",
            kind="decoder",
            family="SED",
            arch=arch,
            sources=(),
            licence="not stated (the code is Apache-2.0)",
            commercial="ask",
            image_size=320,
            **_CLIP_NORM,
            layout="sed",
            home="https://github.com/xb534/SED",
            notes="LAION's ConvNeXt CLIP, finetuned, with the decoder of SED (CVPR 2024), in one file on Google Drive, "
            "linked from its page; trained on the masks of COCO-Stuff.",
        )
    for size, arch, image_size in (
        ("b_16", "ViT-B-16-quickgelu", 224),
        ("large_14", "ViT-L-14-336-quickgelu", 336),
    ):
        yield WeightCard(
            name=f"san/vit_{size}",
            kind="decoder",
            family="SAN",
            arch=arch,
            sources=(Source(f"https://huggingface.co/Mendel192/san/resolve/main/san_vit_{size}.pth"),),
            licence="not stated (the code is MIT)",
            commercial="ask",
            image_size=image_size,
            **_CLIP_NORM,
            quickgelu=True,
            layout="san",
            home="https://huggingface.co/Mendel192/san",
            notes="OpenAI's CLIP with the side adapter network of SAN (CVPR 2023), in one file; trained on the masks "
            "of COCO-Stuff.",
        )

    for name, filename, prompts in (
        ("ovseg/swinb_vitl14", "swinbase_vitL14_ft_mpt (MD5 begins with 526080)", "finetuned, with mask prompts"),
        ("ovseg/swinb_vitl14_mpt", "swinbase_vitL14_mpt_only (MD5 begins with 2dd495)", "OpenAI's, with mask prompts"),
    ):
        yield WeightCard(
            name=name,
            kind="decoder",
            family="OVSeg",
            arch="ViT-L-14-quickgelu",
            sources=(),
            licence="CC-BY-NC-4.0",
            commercial="no",
            image_size=224,
            **_CLIP_NORM,
            quickgelu=True,
            layout="ovseg",
            home="https://github.com/facebookresearch/ov-seg",
            notes=f"{filename}: a Swin-B MaskFormer trained on the masks of COCO-Stuff, and CLIP ({prompts}; Liang et "
            "al., CVPR 2023), which may be loaded alone. Get the file by hand (Google Drive, see its page); 531 M "
            "parameters, 2.1 GB in fp32.",
        )
    for name, arch, licence, home, notes in (
        (
            *("fcclip/convnext_large", "convnext_large_d_320", "not stated (the code is Apache-2.0)"),
            "https://github.com/bytedance/fc-clip",
            "LAION's CLIP with the masks of FC-CLIP (NeurIPS 2023), trained on COCO panoptic; 372 M parameters, "
            "1.5 GB in fp32.",
        ),
        (
            *("maft_plus/base", "convnext_base_w_320", "not stated (the code is MIT)"),
            "https://github.com/jiaosiyu1999/MAFT-Plus",
            "MAFT+ (ECCV 2024): FC-CLIP's network with a finetuned CLIP, trained on the masks of COCO-Stuff; 202 M "
            "parameters, 1.5 GB in fp32 with the untouched CLIP that the file also holds.",
        ),
        (
            *("maft_plus/large", "convnext_large_d_320", "not stated (the code is MIT)"),
            "https://github.com/jiaosiyu1999/MAFT-Plus",
            "As `maft_plus/base` with ConvNeXt-L: 375 M parameters, 2.9 GB in fp32.",
        ),
    ):
        yield WeightCard(
            name=name,
            kind="decoder",
            family="FC-CLIP and MAFT+",
            arch=arch,
            sources=(),
            licence=licence,
            commercial="ask",
            image_size=320,
            **_CLIP_NORM,
            layout=name.split("/")[0],
            home=home,
            notes=f"{notes} Get the file by hand (Google Drive, see its page).",
        )


# ------------------------------------------------------------------------- masks of models in transformers
def _masks() -> Iterable[WeightCard]:
    note = "Loaded by transformers (`pip install 'ovseg[sam]'`) from the hub's own cache; the model brings its sizes."
    classes = " Trained on masks with classes, which a result has to say."
    for repo, family, arch, licence, commercial, more in (
        ("facebook/sam2-hiera-large", "SAM 2 (transformers)", "Sam2Model", "Apache-2.0", "yes", ""),
        ("facebook/sam2-hiera-base-plus", "SAM 2 (transformers)", "Sam2Model", "Apache-2.0", "yes", ""),
        ("facebook/sam2-hiera-small", "SAM 2 (transformers)", "Sam2Model", "Apache-2.0", "yes", ""),
        ("facebook/sam2-hiera-tiny", "SAM 2 (transformers)", "Sam2Model", "Apache-2.0", "yes", ""),
        (
            *("facebook/mask2former-swin-base-coco-panoptic", "Mask2Former (transformers)"),
            *("Mask2FormerForUniversalSegmentation", "not stated", "ask", classes),
        ),
        (
            *("tue-mps/coco_panoptic_eomt_large_640", "EoMT (transformers)"),
            *("EomtForUniversalSegmentation", "not stated", "ask", classes),
        ),
    ):
        yield WeightCard(
            name=repo,
            kind="masks",
            family=family,
            arch=arch,
            sources=(),
            licence=licence,
            commercial=commercial,
            image_size=None,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            hub_model=repo,
            home=f"https://huggingface.co/{repo}",
            notes=note + more,
        )
