"""The catalogue is complete and consistent with the libraries whose models it names."""

import re
from pathlib import Path

import open_clip
import pytest
import timm
from segment_anything import sam_model_registry

from ovseg.weights import catalogue, get_card
from ovseg.weights.docs import render
from ovseg.weights.layouts import LAYOUTS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "weights.md"
CARDS = tuple(catalogue().values())
HEADS = ("clip_dinoiser", "jbu_one", "text_map", "dinotxt", "radio_head", "radio_sam_head")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_is_usable(card):
    known = {
        "clip": lambda: card.arch in open_clip.list_models(),
        "dino": lambda: timm.is_model(card.arch),
        "sam": lambda: card.arch in sam_model_registry,
        "heads": lambda: card.arch in HEADS,
        "decoder": lambda: card.arch in (*open_clip.list_models(), *sam_model_registry) and card.layout in LAYOUTS,
        "masks": lambda: card.hub_model == card.name and not card.sources,
    }
    assert card.packaged is not None or known[card.kind]()  # packaged ones bring their sizes along
    assert catalogue()[card.name] is card
    assert all(0 <= m <= 1 for m in card.mean) and all(0 < s <= 1 for s in card.std)
    assert card.licence and card.commercial in ("yes", "no", "ask")
    assert card.packaged or card.home.startswith("https://")
    for source in card.sources:
        assert source.url.startswith("https://")
        assert source.suffix in (".pt", ".pth", ".bin", ".safetensors")
        assert source.sha256 is None or re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", source.sha256)


def test_files_of_the_cache_do_not_collide():
    filenames = [card.filename for card in CARDS]
    assert len(set(filenames)) == len(filenames)


@pytest.mark.parametrize(
    "name",
    [
        *(f"openai/ViT-{size}" for size in ("B-32", "B-16", "L-14", "L-14-336")),
        *("laion2b_s34b_b88k/ViT-B-16", "laion2b_s32b_b82k/ViT-L-14", "laion2b_s32b_b79k/ViT-H-14"),
        *("datacomp_xl_s13b_b90k/ViT-B-16", "datacomp_xl_s13b_b90k/ViT-L-14", "metaclip_fullcc/ViT-B-16"),
        *("dfn2b/ViT-B-16", "merged2b_s8b_b131k/EVA02-B-16", "webli/ViT-B-16-SigLIP", "webli/ViT-B-16-SigLIP2"),
        *("dino/vits16", "dino/vitb16", "dino/vitb8", "dinov2/vitb14", "dinov2/vitb14_reg", "dinov3/vitb16"),
        *("sam/vit_b", "sam/vit_l", "sam/vit_h", "clip_dinoiser/last", "nano", "nano_sam"),
        *("nano_guide", "nano_dinoiser"),
    ],
)
def test_the_names_that_configs_use(name):
    assert get_card(name).name == name


def test_facts_that_change_results():
    openai = get_card("openai/ViT-B-16")
    assert openai.arch == "ViT-B-16-quickgelu" and openai.quickgelu
    assert openai.sources[0].sha256 == "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
    laion = get_card("laion2b_s34b_b88k/ViT-B-16")
    assert laion.arch == "ViT-B-16" and not laion.quickgelu
    assert get_card("metaclip_fullcc/ViT-B-16").arch == "ViT-B-16-quickgelu"
    assert get_card("openai/ViT-L-14-336").image_size == 336
    assert get_card("laion2b_s32b_b82k/ViT-L-14").mean == (0.5, 0.5, 0.5)  # unlike its siblings
    assert get_card("dinov2/vitb14").image_size == 518
    assert not get_card("metaclip_fullcc/ViT-B-16").commercial == "yes"


def test_the_page_in_docs_is_current():
    assert DOCS.read_text(encoding="utf-8") == render(), "run: ovseg weights docs --output docs/weights.md"
