"""Between zero-shot and trained weights, files that configs read, and refusals."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from ovseg.engine import SetupError
from ovseg.registry import MODELS
from ovseg.weights import CheckpointError, load_clip, load_state_dict
from tools.publish_decoder import interpolated, parts_of, publish

NANO = Path(__file__).parents[2] / "configs" / "nano"


def test_weights_lie_on_the_line_between():
    start, end = {"a": torch.zeros(3), "n": torch.tensor(1)}, {"a": torch.full((3,), 4.0), "n": torch.tensor(2)}
    assert interpolated(start, end, 0.25)["a"].tolist() == [1.0] * 3
    assert torch.equal(interpolated(start, end, 1.0)["a"], end["a"])
    assert torch.equal(interpolated(start, end, 0.0)["a"], start["a"])
    assert interpolated(start, end, 0.5)["n"] == 2


@pytest.mark.parametrize(
    ("end", "share", "message"),
    [
        ({"a": torch.zeros(3)}, 1.5, "share is 1.5"),
        ({"b": torch.zeros(3)}, 0.5, "a: not in both"),
        ({"a": torch.zeros(4)}, 0.5, "a: not in both, or of another shape"),
    ],
)
def test_what_cannot_be_mixed_is_named(end, share, message):
    with pytest.raises(ValueError, match=message):
        interpolated({"a": torch.zeros(3)}, end, share)


def training(tmp_path, name, **options):
    """A config of a training at nano's scale, and a checkpoint of it in which everything has moved by 0.5."""
    path, checkpoint = tmp_path / "config.py", tmp_path / "iter_1.pth"
    own = Config()
    own.merge_from_dict(options)
    path.write_text(f"_base_ = {str(NANO / name)!r}\nmodel = {own.to_dict().get('model', {})!r}\n")
    config = Config.fromfile(path)
    model = MODELS.build(config.model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    state = {name: value + 0.5 if name in trained else value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state}, checkpoint)
    return path, checkpoint, {name: (model.state_dict()[name], state[name]) for name in trained}


def test_declips_clip_lies_on_the_line_and_is_read_back(tmp_path):
    config, checkpoint, trained = training(tmp_path, "declip_nano_train.py")
    publish(config, checkpoint, tmp_path / "out.safetensors", "overlay", share=0.25)
    found = load_clip("nano_declip", tmp_path / "out.safetensors").model.state_dict()
    for name, (before, _) in trained.items():
        assert torch.allclose(found[name.removeprefix("clip.")], before + 0.125, atol=1e-6), name
    untouched = load_clip("nano").model.state_dict()
    changed = {name.removeprefix("clip.") for name in trained}
    assert all(torch.equal(found[key], value) for key, value in untouched.items() if key not in changed)


def test_mask_prompts_lie_beside_the_clip_they_were_trained_with(tmp_path):
    config, checkpoint, trained = training(
        tmp_path, "ovseg_mpt_nano_train.py", **{"model.backbone.checkpoint": None, "model.backbone.weights": "nano"}
    )
    assert "mask_embedding" in trained
    publish(config, checkpoint, tmp_path / "out.safetensors", "overlay")
    weights = load_state_dict(tmp_path / "out.safetensors")
    assert torch.equal(weights["decoder.visual.mask_embedding"], trained["mask_embedding"][1])
    assert set(weights) == {"decoder.visual.mask_embedding", "clip.logit_scale"}


def test_an_overlay_that_was_trained_on_keeps_what_it_had(tmp_path):
    adapted = load_clip("nano").model.state_dict()["visual.ln_post.bias"] + 1
    save_file({"clip.visual.ln_post.bias": adapted}, tmp_path / "adapted.safetensors")
    config, checkpoint, _ = training(
        tmp_path, "ovseg_mpt_nano_train.py", **{"model.backbone.checkpoint": str(tmp_path / "adapted.safetensors")}
    )
    publish(config, checkpoint, tmp_path / "out.safetensors", "overlay")
    weights = load_state_dict(tmp_path / "out.safetensors")
    assert torch.equal(weights["clip.visual.ln_post.bias"], adapted)
    assert set(weights) == {"decoder.visual.mask_embedding", "clip.logit_scale", "clip.visual.ln_post.bias"}


def test_a_student_is_published_without_its_teacher(tmp_path):
    options = {"model.student.decoder.network_checkpoint": None}
    config, checkpoint, trained = training(tmp_path, "maskclip_plus_nano_train.py", **options)
    publish(config, checkpoint, tmp_path / "out.safetensors", "overlay", half=True)
    weights = load_state_dict(tmp_path / "out.safetensors")
    assert all(key.startswith("decoder.") for key in weights)
    name = "student.decoder.aspp.0.0.weight"
    assert torch.equal(weights[name.removeprefix("student.")], trained[name][1].half())


def test_lora_terms_are_added_to_the_clip_they_belong_to(tmp_path):
    options = {"model.vocabulary": ["cat"], "model.templates": "plain", "model.text_cache": False}
    config, checkpoint, trained = training(tmp_path, "../finetune/clip_folder_photo.py", **options)
    publish(config, checkpoint, tmp_path / "out.safetensors", "clip")
    found = load_clip("nano-photo", tmp_path / "out.safetensors").model.state_dict()
    before = load_clip("nano-photo").model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], found[key])}
    assert changed == {f"visual.transformer.resblocks.{i}.attn.in_proj_weight" for i in range(3)}
    stem = "backbone.clip.visual.transformer.resblocks.0.attn.parametrizations"
    key, term = "visual.transformer.resblocks.0.attn.in_proj_weight", f"{stem}.q_proj_weight.0."
    gain = (trained[term + "up"][1] @ trained[term + "down"][1], 0 * before[key].chunk(3)[1])
    for part, (new, old) in enumerate(zip(found[key].chunk(3)[:2], before[key].chunk(3)[:2], strict=True)):
        torch.testing.assert_close(new, old + gain[part])


def test_what_is_no_training_is_refused(tmp_path):
    with pytest.raises(SetupError, match=r"OpenVocabSegmentor is no training .* give a \*_train.py"):
        parts_of(MODELS.build(Config.fromfile(NANO / "sclip_nano_scenes.py").model))
    config, checkpoint, _ = training(tmp_path, "declip_nano_train.py")
    torch.save({"state_dict": {}}, checkpoint)
    with pytest.raises(CheckpointError, match=r"lacks clip\."):
        publish(config, checkpoint, tmp_path / "out.safetensors", "overlay")
