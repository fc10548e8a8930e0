"""Layouts of trained segmenters' files: there and back, and what is said of files that are not what they should be."""

from types import SimpleNamespace

import pytest
import torch

from ovseg.backbones.towers import build_tower
from ovseg.decoders import GradualFusionDecoder, SideAdapterDecoder
from ovseg.weights import CheckpointError, load_decoder
from ovseg.weights.layouts import LAYOUTS
from tests.small_models import small_clip

NETWORK = dict(width=24, depth=4, num_heads=2, queries=5, image_size=64)


def san():
    torch.manual_seed(0)
    clip = small_clip(layers=4)
    decoder = SideAdapterDecoder(
        build_tower(clip.visual), split=3, fusion=((0, 0), (1, 1), (3, 3)), network=NETWORK, supervised=(3, 4)
    )
    return clip, decoder


def sed():
    torch.manual_seed(0)
    return small_clip(), GradualFusionDecoder(SimpleNamespace(channels=(8, 16, 24, 32)), templates=3)


MAKERS = {"san": ("san/vit_b_16", san), "sed": ("sed/base", sed)}
MARKS = {
    "san": {
        "clip_visual_extractor.resblocks.2.attn.in_proj_weight",
        "clip_rec_head.resblocks.0.mlp.c_fc.bias",
        "clip_rec_head.proj",
        "ov_classifier.text_projection",
        "ov_classifier.bg_embed",
        "side_adapter_network.vit_model.blocks.3.attn.qkv.weight",
        "side_adapter_network.mask_decoder.bias_scaling.weight",
        "side_adapter_network.fusion_layers.layer_1.input_proj.0.weight",
    },
    "sed": {
        "sem_seg_head.predictor.clip_model.visual.conv1.weight",
        "sem_seg_head.predictor.transformer.decoder2.cnext.pwconv1.weight",
        "sem_seg_head.predictor.transformer.decoder3.up.weight",
        "sem_seg_head.predictor.transformer.decoder1.conv.double_conv.4.bias",
        "sem_seg_head.predictor.transformer.decoder1.attention.attention.q.weight",
        "sem_seg_head.predictor.transformer.decoder_corr_guidance_projection.0.0.weight",
    },
}


@pytest.fixture(params=MAKERS)
def file(request, tmp_path):
    """A small file of a layout: its catalogue name, its tensors, its path and the decoder it is of."""
    name, make = MAKERS[request.param]
    clip, decoder = make()
    joined = LAYOUTS[request.param].joined(clip.state_dict(), decoder.state_dict())
    path = tmp_path / "model.pth"
    torch.save({"model": joined}, path)
    return SimpleNamespace(layout=request.param, name=name, weights=joined, path=path, clip=clip, decoder=decoder)


def test_there_and_back(file):
    assert MARKS[file.layout] <= set(file.weights)
    layout = LAYOUTS[file.layout]
    for found, module in ((layout.clip(file.weights), file.clip), (layout.decoder(file.weights), file.decoder)):
        own = module.state_dict()
        assert set(found) == set(own)
        assert all(torch.equal(found[key], own[key]) for key in own)


def test_the_decoder_is_read_from_its_file(file):
    _, fresh = MAKERS[file.layout][1]()
    with torch.no_grad():
        for p in fresh.parameters():
            p.zero_()
    load_decoder(file.name, fresh, file.path)
    own = file.decoder.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in fresh.state_dict().items())


def test_a_truncated_file_names_what_is_missing(file):
    last = list(LAYOUTS[file.layout].decoder(file.weights))[-2:]
    cut = {k: v for k, v in file.weights.items() if not set(LAYOUTS[file.layout].decoder({k: v})) & set(last)}
    assert len(cut) == len(file.weights) - 2
    torch.save({"model": cut}, file.path)
    with pytest.raises(CheckpointError, match=f"2 missing: {last[0]}, {last[1]}"):
        load_decoder(file.name, file.decoder, file.path)


def test_renamed_keys_are_named(file):
    torch.save(
        {
            "model": {
                k.replace("decoder1.", "decoder9.").replace("network.", "netz."): v for k, v in file.weights.items()
            }
        },
        file.path,
    )
    with pytest.raises(CheckpointError, match="missing: (network|decoder1).*unexpected: .*(netz|decoder9)"):
        load_decoder(file.name, file.decoder, file.path)


def test_the_file_of_another_method_is_refused(file, tmp_path):
    other = next(layout for layout in MAKERS if layout != file.layout)
    with pytest.raises(CheckpointError, match="does not fit the decoder of"):
        load_decoder(MAKERS[other][0], MAKERS[other][1]()[1], file.path)


def test_half_a_file_is_damaged(file):
    file.path.write_bytes(file.path.read_bytes()[: file.path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="model.pth"):
        load_decoder(file.name, file.decoder, file.path)
