"""``ovseg methods``: what it reads from the configs, and that it is said once only."""

import pytest

from ovseg.apis import available_methods, config_root
from ovseg.cli import main
from ovseg.cli.methods import describe_method, encoder_gflop, head_comment


@pytest.mark.parametrize("name", available_methods())
def test_every_method_says_where_it_is_from(name):
    found = describe_method(name)
    assert (
        len(found.about) > 30
        and found.about.endswith(".")
        and found.config.startswith(name.removesuffix("_pamr").removesuffix("_plus"))
    )
    assert found.weights and found.windows >= 1 and found.side >= 224
    assert "attention" in found.parts and found.commercial in ("yes", "no", "ask")


def test_cost_is_that_of_the_protocol():
    sclip, trident = describe_method("sclip"), describe_method("trident")
    assert (sclip.windows, sclip.side) == (6, 224), "448 x 336 pixels in windows of 224, 112 apart"
    assert [card.name for card in trident.weights] == ["openai/ViT-B-16", "dino/vitb16", "sam/vit_b"]
    assert trident.parts["refiners"] == "SamPromptRefiner" and trident.embedded == ("nano", "nano-photo")
    assert describe_method("clip_dinoiser").embedded == ("nano",)


def test_cost_of_an_encoder_that_is_no_clip():
    found, tokens = describe_method("talk2dino"), 1 + 4 + 32 * 32
    assert found.windows == 2 and found.side == 448 and found.embedded == ()
    want = 2 * 12 * (24 * tokens * 768**2 + 4 * tokens**2 * 768) / 1e9
    assert found.gflop == pytest.approx(want) and found.commercial == "ask"


def test_the_strictest_licence_counts():
    found = describe_method("corrclip")
    answers = {card.commercial for card in found.weights}
    assert found.commercial == ("no" if "no" in answers else "ask" if "ask" in answers else "yes")
    assert all(card.licence in found.licences for card in found.weights)


def test_what_is_printed(capsys):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in available_methods()) and "SCLIP (Wang et al., ECCV 2024)" in out
    assert main(["methods", "cliper"]) == 0
    out = capsys.readouterr().out
    assert "FusedAttention" in out and "early layers" in out
    assert main(["methods", "naclp"]) == 2
    assert "did you mean 'naclip'" in capsys.readouterr().err


def test_head_comment(tmp_path):
    (tmp_path / "a.py").write_text("# One\n# two.\nmodel = 1\n# three\n")
    assert head_comment(tmp_path / "a.py") == "One two."
    assert head_comment(config_root() / "_base_" / "models" / "naclip_pamr.py").startswith("NACLIP as published")


def test_operations_of_clip_are_those_that_torch_counts():
    """ViT-B/16 itself (random), one window; torch counts the patch embedding, too, and the formula does not."""
    import open_clip
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = open_clip.create_model("ViT-B-16", pretrained=None).visual
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), torch.device("meta"):
        model.to("meta")(torch.zeros(1, 3, 224, 224))
    assert encoder_gflop("ViT-B-16", (224, 224)) == pytest.approx(counter.get_total_flops() / 1e9, rel=0.02)
    sclip, itaclip = describe_method("sclip"), describe_method("itaclip")
    assert sclip.gflop == pytest.approx(6 * encoder_gflop("ViT-B-16", (224, 224)))
    assert itaclip.gflop == pytest.approx(5 * itaclip.windows * encoder_gflop("ViT-B-16", (224, 224))), "five views"
