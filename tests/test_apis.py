"""The three lines: what goes in, which protocol runs, what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from ovseg import Segmenter
from ovseg.apis import available_methods, has_own_config, method_config, published_config
from ovseg.datasets import read_image
from ovseg.engine import config_root
from ovseg.errors import SetupError
from ovseg.registry import TRANSFORMS
from ovseg.structures import available_devices, resolve_device

RGB = np.kron(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
WORDS = ["cat", "dog", "grass"]


@pytest.fixture(scope="module")
def model():
    model = Segmenter("nano", "clearclip", short_side=112)
    model.set_vocabulary(WORDS)
    return model


def test_everything_that_is_a_picture(model, tmp_path):
    expected = model.segment(RGB).labels
    Image.fromarray(RGB).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    tensor = torch.from_numpy(RGB.copy())
    inputs = [tmp_path / "a.png", str(tmp_path / "a.png"), data, io.BytesIO(data), Image.fromarray(RGB), RGB / 255]
    for image in [*inputs, tensor, tensor.permute(2, 0, 1)]:
        np.testing.assert_array_equal(model.segment(image).labels, expected)
    np.testing.assert_array_equal(model.segment(RGB[..., ::-1], channel_order="bgr").labels, expected)
    np.testing.assert_array_equal(model.segment(RGB.transpose(2, 0, 1), layout="chw").labels, expected)
    batch = model.segment_batch([RGB, data, Image.fromarray(RGB)])
    assert len(batch) == 3 and all((result.labels == expected).all() for result in batch)
    for result in model.segment_batch(np.stack([RGB, RGB])[..., ::-1], channel_order="bgr"):
        np.testing.assert_array_equal(result.labels, expected)
        np.testing.assert_array_equal(result.image, RGB)
    assert model.segment_batch([]) == []


def test_a_single_picture_is_no_batch(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Image.fromarray(RGB).save(tmp_path / name, "PNG")
    for image in ("ab", Path("ab"), RGB, Image.fromarray(RGB), torch.zeros(3, 9, 9)):
        with pytest.raises(TypeError, match="a batch is a list"):
            model.segment_batch(image)
    with pytest.raises(TypeError, match="is no picture"):
        model.segment(["a", "b"])


@pytest.mark.parametrize("value", [0, -1, 336.0, "abc", "336", True, 10**9, [336]])
def test_short_sides_that_are_none(value, tmp_path):
    with pytest.raises(ValueError, match="short_side is"):
        Segmenter("nano", "clip", short_side=value)
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = ['{config_root()}/sclip/sclip_vitb16_voc21.py']\nshort_side = {value!r}\n"
                    "model = dict(backbone=dict(weights='nano'))\n")  # fmt: skip
    with pytest.raises(ValueError, match="short_side is"):
        Segmenter(config=path)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(method="naclp"), "unknown method 'naclp'; did you mean 'naclip'"),
        (dict(device="gpu"), "no device 'gpu' on this machine; there are: cpu"),
        (dict(device="cuda:7"), "no device 'cuda:7'"),
        (dict(device=""), "no device ''"),
        (dict(device=3.5), "no device '3.5'"),
        (dict(device="meta"), "no device 'meta'"),
        (dict(precision="fp8"), "fp8"),
        (dict(config="nowhere.py"), "nowhere.py does not exist"),
        (dict(config=3), "config is a int"),
        (dict(config=Config(dict(short_side=3))), "no model"),
        (dict(config=Config(dict(model=dict(type="OpenVocabSegmentor", bakbone={})))), "did you mean 'backbone'"),
        (dict(config=Config(dict(shortside=3, model=dict()))), "did you mean 'short_side'"),
        (dict(config=config_root() / "_base_" / "datasets" / "voc21.py"), "no model"),
    ],
)
def test_refusals_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        Segmenter(**options)
    assert "\n" not in str(caught.value)


def test_devices(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu") and resolve_device(torch.device("cpu")).type == "cpu"
    assert resolve_device(None) == torch.device("cpu")  # tests/conftest.py says so
    monkeypatch.delenv("OVSEG_DEVICE")
    assert resolve_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("OVSEG_DEVICE", "tpu")
    with pytest.raises(ValueError, match="no device 'tpu' on this machine"):
        resolve_device("auto")
    assert list(available_devices())[0] == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(
            ValueError, match="there are: cpu. (This PyTorch was built without|PyTorch .* finds no GPU)"
        ):
            resolve_device("cuda")


# ------------------------------------------------------------------------------------------- one meaning per name
@pytest.mark.parametrize("method", available_methods())
def test_a_name_means_the_same_for_all_weights(method):
    """What a method is made of does not depend on the weights, or is told; numbers (windows, thresholds) may."""

    def parts(weights):
        model = method_config(method, weights).model
        kinds = {key: value.type for key, value in model.items() if isinstance(value, dict) and "type" in value}
        kinds.pop("regions", None)  # nano's masks are made, not cached
        return kinds, *([r.type for r in model.get(key, ())] for key in ("refiners", "label_refiners"))

    pair = Config.fromfile(published_config(method)).model.backbone.get("text")
    if pair and not has_own_config(method, "nano"):  # two models that were trained together
        with pytest.raises(SetupError, match="nano is neither"):
            method_config(method, "nano")
        return
    nano, general = parts("nano"), parts(pair or "openai/ViT-B-16")
    assert nano[1:] == general[1:]
    for part in nano[0] | general[0]:
        if nano[0].get(part) != general[0].get(part):
            told = f"{part} ({nano[0].get(part)} for {general[0].get(part)})"
            assert told in method_config(method, "nano").protocol


def test_naclip_with_and_without_pamr():
    for weights in ("nano", "openai/ViT-B-16", "openai/ViT-L-14"):
        assert not method_config("naclip", weights).model.get("refiners")
        assert [r.type for r in method_config("naclip_pamr", weights).model.refiners] == ["PAMR"]


@pytest.mark.parametrize("method", available_methods())
def test_the_quick_path_is_the_published_protocol(method):
    file = published_config(method)
    published = Config.fromfile(file)
    pair = published.model.backbone.get("text")
    weights = "openai/ViT-B-16" if pair is None else pair
    config = method_config(method, weights)
    assert config.get("short_side") == published.get("short_side")
    for part in ("windows", "head", "attention", "stitch", "guide"):
        assert config.model.get(part) == published.model.get(part)
    assert config.model.backbone.get("text", config.model.backbone.weights) == weights
    assert file.name in config.protocol and "words: yours" in config.protocol
    told = f"weights: {weights}, there {published.model.backbone.weights}"
    assert (told in config.protocol) == (weights not in (published.model.backbone.weights, pair))


def test_the_protocol_says_how_it_differs():
    assert Segmenter("nano", "clip").protocol.endswith("short side 336, there photos keep their size")
    assert "short side 112, there" in Segmenter("nano", "clip", short_side=112).protocol
    protocol = method_config("sam_clip", "nano").protocol
    assert "nano's own settings of attention, region_encoder (MaskPooling for MaskedCrop), regions, windows" in protocol
    assert "no texts beside the names" in method_config("itaclip", "openai/ViT-B-16").protocol


# --------------------------------------------------------------------------------------------- the config's own resize
def nano_with(tmp_path, method, base, extra=""):
    """A config of other weights, with nano's in their place."""
    path = tmp_path / "mine.py"
    path.write_text(
        f"_base_ = ['{config_root()}/{base}']\nmodel = dict(backbone=dict(weights='nano'), text_cache=False)\n{extra}"
    )
    model = Segmenter(config=path)
    model.set_vocabulary(WORDS)
    return model


def prepared(model, image, monkeypatch):
    seen = []
    inner = model.model.prepare
    monkeypatch.setattr(model.model, "prepare", lambda *args: seen.append(args) or inner(*args))
    result = model.segment(image)
    assert result.labels.shape == read_image(image).shape[:2] if isinstance(image, Path) else image.shape[:2]
    return seen[0][0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("slide", ["cliper", "cliper-slide"])
def test_multiples_of_16_by_pillow(tmp_path, monkeypatch, slide):
    extra = "short_side = 112\n" + ("" if slide == "cliper" else "model.update(stitch=dict(slide=112, stride=48))\n")
    model = nano_with(tmp_path, "cliper", f"cliper/{slide}_vitb16_voc21.py", extra)
    photo = np.ascontiguousarray(RGB[:77, :100])
    expected = TRANSFORMS.build(dict(type="ResizePIL", short_side=112, multiple_of=16)).transform(dict(image=photo))
    np.testing.assert_array_equal(prepared(model, photo, monkeypatch), expected["image"])
    assert expected["image"].shape[:2] == (112, 144) and model.short_side == 112


def test_a_square_of_the_config_becomes_the_whole_photo(tmp_path, monkeypatch):
    model = nano_with(tmp_path, "cliptrase", "cliptrase/cliptrase_vitb16_voc21.py")
    photo = np.ascontiguousarray(RGB[:77, :100])
    expected = np.asarray(Image.fromarray(photo).resize((int(224 * 100 / 77), 224), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(prepared(model, photo, monkeypatch), expected)
    assert "the whole photo, there a central square" in model.protocol


def test_max_long_of_the_config_is_kept(tmp_path, monkeypatch):
    extra = "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImage'), dict(type='LoadMask'), "
    extra += "dict(type='ResizeShortSide', short_side=64, max_long=80), dict(type='PackInputs')]))\nshort_side = 64\n"
    model = nano_with(tmp_path, "sclip", "sclip/sclip_vitb16_voc21.py", extra)
    assert prepared(model, RGB[:80, :112].copy(), monkeypatch).shape[:2] == (57, 80)
    np.testing.assert_array_equal(model.segment(RGB).labels.shape, RGB.shape[:2])


def test_region_maps_of_a_config_need_the_photos_name(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", np.arange(RGB[..., 0].size).reshape(RGB.shape[:2]) // 1000)
    extra = "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImage'), "
    extra += f"dict(type='LoadRegions', folder={str(tmp_path)!r}), dict(type='PackInputs')]))\nshort_side = None\n"
    model = nano_with(tmp_path, "clearclip", "clearclip/clearclip_vitb16_voc21.py", extra)
    assert model.segment(tmp_path / "a.png").labels.shape == RGB.shape[:2]
    with pytest.raises(SetupError, match="LoadRegions.*give the photo as a path"):
        model.segment(RGB)


@pytest.mark.parametrize("method", ["proxyclip", "trident", "corrclip", "sam_clip", "clip_dinoiser"])
def test_guided_methods_take_the_same(method):
    model = Segmenter("nano", method, short_side=80)
    model.set_vocabulary(WORDS)
    tensor = torch.from_numpy(RGB.copy()).permute(2, 0, 1)
    expected = model.segment(RGB).labels
    assert expected.shape == RGB.shape[:2]
    for image in (Image.fromarray(RGB), tensor / 255):
        np.testing.assert_array_equal(model.segment(image).labels, expected)
    with pytest.raises(TypeError, match="a batch is a list"):
        model.segment_batch(RGB)
