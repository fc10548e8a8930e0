"""``docs/zoo.md``: every config with its weights, their licences, supervision, published mIoU and proof of parity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config

from ovseg.weights.catalogue import catalogue
from tools.docs.methods import CONFIGS, DOCS, MARK, TITLES, families, goldens_of, page_names, split_name
from tools.fidelity_page import read_rows

NANO = DOCS / "nano_miou.csv"
VARIANTS = {
    ("naclip", "with PAMR"): "naclip_pamr_vitb16",
    ("proxyclip", "DINO B/8"): "proxyclip_vitb16",
    ("trident", "with SAM refinement"): "trident_vitb16",
    ("trident", "ViT-H/14 with SAM refinement"): "trident_vith14",
    ("corrclip", "B, SAM2_32"): "corrclip-sam2_vitb16",
    ("corrclip", "L, SAM2_32"): "corrclip-sam2_vitl14",
    ("clip_dinoiser", "LAION B/16"): "clip_dinoiser_vitb16",
    ("cliptrase", "224 px"): "cliptrase_vitb16",
    ("cliptrase", "336 px"): "cliptrase336_vitb16",
    ("cliper", "no diffusion, no slide"): "cliper_vitb16",
    ("cliper", "no diffusion, slide"): "cliper-slide_vitb16",
    ("resclip", "over NACLIP"): "resclip_vitb16",
    ("resclip", "over SCLIP"): "resclip-sclip_vitb16",
    ("resclip", "over ClearCLIP"): "resclip-clearclip_vitb16",
    ("fcclip", "ConvNeXt-L"): "fcclip_convnext-large",
    ("maft_plus", "ConvNeXt-B"): "maft_plus_convnext-base",
    ("maft_plus", "ConvNeXt-L"): "maft_plus_convnext-large",
    ("ovseg", "Swin-B and ViT-L/14"): "ovseg_swinb-vitl14",
    ("dinotxt", "ViT-L/16"): "dinotxt_vitl16",
}
"""Method and variant of docs/published_miou.csv to the configs that stand for it; without a variant: METHOD_vitb16.

Numbers whose setting no config has (MaskCLIP as another paper ran it, larger models) are on the method's page only.
"""


def weights_in(config: Mapping) -> Iterator[str]:
    """Names of the catalogue that a model config asks for, in order."""
    for name, value in config.items():
        if name in ("weights", "heads", "upsampler") and isinstance(value, str) and value in catalogue():
            yield value
        elif isinstance(value, Mapping):
            yield from weights_in(value)
        elif isinstance(value, (list, tuple)):
            for part in value:
                if isinstance(part, Mapping):
                    yield from weights_in(part)


def supervision(model: Mapping) -> str:
    """What the parts of a model were trained on besides CLIP's image-text pairs, from its weights."""
    if model.get("supervision"):
        return model["supervision"]
    return "; ".join(dict.fromkeys(["CLIP: image-text pairs", *filter(None, map(_supervision, weights_in(model)))]))


def _supervision(name: str) -> str:
    card = catalogue()[name]
    if card.kind == "dino":
        return "DINO: images only"
    if card.kind == "sam":
        return "SAM: masks without classes"
    if card.kind == "masks":
        return (
            f"{card.family.partition(' (')[0]}: masks {'with' if 'with classes' in card.notes else 'without'} classes"
        )
    return ""


def published() -> dict[tuple[str, str], str]:
    """Variant of configs and benchmark to published mIoU."""
    found = {}
    for row in read_rows(DOCS / "published_miou.csv"):
        method, variant = row["method"], row["variant"]
        configs = VARIANTS.get((method, variant), "" if variant else f"{method}_vitb16")
        found[configs, row["benchmark"]] = row["miou"]
    return found


def golden_variants(name: str) -> set[str]:
    """Variants of a method's configs that a golden of the official code went through."""
    from tests.parity.cases import CASES

    return {split_name(Path(CASES[row["golden"]].config).stem)[0] for row in goldens_of(name)}


def licence(name: str) -> str:
    """Weights with their licence and whether it is commercial, for a table cell."""
    card = catalogue()[name]
    return f"`{name}` ({card.licence}; commercial: {card.commercial})"


def variant_row(name: str, variant: str, configs: Mapping[str, Path], numbers: Mapping) -> str:
    """One line: variant, weights, supervision, parity, configs of the benchmarks with published numbers."""
    model = Config.fromfile(configs.get("voc21") or next(iter(configs.values()))).model
    weights = "<br>".join(licence(w) for w in dict.fromkeys(weights_in(model)))
    links = []
    for benchmark, title in TITLES.items():
        if benchmark in configs:
            miou = numbers.get((variant, benchmark))
            path = configs[benchmark].relative_to(CONFIGS.parent).as_posix()
            links.append(f"[{title}](../{path})" + (f" {miou}" if miou else ""))
    parity = "yes" if variant in golden_variants(name) else ""
    return f"| `{variant}` | {weights} | {supervision(model)} | {parity} | {', '.join(links)} |"


def nano_lines() -> list[str]:
    """The figures of the embedded models."""
    rows = read_rows(NANO)
    if not rows:
        return []
    lines = ["| method | configs | mIoU on scenes |", "|---|---|---|"]
    for row in rows:
        path = f"configs/nano/{row['method']}_nano_scenes.py"
        lines.append(f"| {row['method']} | [`{path}`](../{path}) | {row['scenes']} |")
    return lines


def page() -> str:
    """The page."""
    numbers = published()
    lines = [
        "# Model zoo",
        "",
        MARK.replace("from here on ", ""),
        "",
        "Every config for a benchmark, what it needs and what is known of it. `ovseg weights fetch --method NAME` gets "
        "the files of a method; all weights, with hashes and terms: [weights](weights.md). *Commercial* is a reading "
        "aid, no legal advice.",
        "",
        "- Numbers behind benchmarks are **published** ones (mIoU in percent, of the authors' code): "
        "[published_miou.csv](published_miou.csv) names their source. What ovseg itself measured with real weights: "
        "[fidelity](fidelity.md#miou).",
        "- *Parity*: the official code's result with stand-in weights is met by this config ([fidelity](fidelity.md)).",
        "- *Supervision*: what the parts were trained on, as the config says it, else by the kind of their weights.",
        "",
    ]
    for folder in sorted(p for p in CONFIGS.iterdir() if p.is_dir() and p.name not in ("_base_", "nano")):
        variants = families(folder.name)
        if not variants:
            continue
        lines += [f"## {folder.name}", ""]
        if folder.name in page_names():
            lines += [f"[What it does](methods/{folder.name}.md).", ""]
        lines += ["| configs | weights | supervision | parity | benchmarks |", "|---|---|---|---|---|"]
        lines += [variant_row(folder.name, v, configs, numbers) for v, configs in variants.items()]
        lines.append("")
    lines += [
        "## nano",
        "",
        "The embedded models, for smoke tests and learning; **never** to be compared with the benchmarks above. "
        "Measured by `ovseg nano --full` and `--guided` on the 240 images of `scenes`.",
        "",
        *nano_lines(),
        "",
    ]
    return "\n".join(lines)
