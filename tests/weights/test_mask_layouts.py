"""Files of FC-CLIP, MAFT+ and OVSeg: every key has a place, and what is missing is told by the file's own name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ovseg.weights import CheckpointError
from ovseg.weights.assemble import assemble
from ovseg.weights.layouts import LAYOUTS
from ovseg.weights.mask_layouts import FCCLIP, OVSEG
from tests.parity.trained import shared_module
from tests.small_models import small_clip, small_convnext_clip

pytest.importorskip("transformers", reason="mask transformers need transformers (extra 'trained')")
SWIN = dict(embed_dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8), window_size=4)


def decoder(method: str) -> nn.Module:
    from ovseg.backbones import ConvNextTower, build_tower
    from ovseg.decoders import FcClipDecoder, MaftPlusDecoder, OvSegDecoder

    if method == "ovseg":
        return OvSegDecoder(build_tower(small_clip().visual), SWIN, queries=3)
    kind = FcClipDecoder if method == "fcclip" else MaftPlusDecoder
    more = {} if method == "fcclip" else dict(heads=2)
    return kind(ConvNextTower(small_convnext_clip().visual), queries=3, decoder_layers=2, **more)


@pytest.mark.parametrize("method", ["fcclip", "maft_plus", "ovseg"])
def test_there_and_back(method):
    module, layout = decoder(method), LAYOUTS[method]
    clip = {"logit_scale": torch.ones(()), "visual.proj": torch.ones(2, 2)}
    file = layout.joined(clip, module.state_dict())
    assert not any(key in file for key in module.state_dict() if key != "void_embedding.weight")
    assert layout.clip(file).keys() == clip.keys()
    back = layout.decoder({**file, "criterion.empty_weight": torch.ones(3)})
    assert back.keys() == module.state_dict().keys()
    for key, value in module.state_dict().items():
        assert torch.equal(back[key], value), key


@pytest.mark.parametrize("method", ["fcclip", "maft_plus", "ovseg"])
def test_missing_and_renamed_keys_are_told_by_the_files_names(method):
    module, layout = decoder(method), LAYOUTS[method]
    file = layout.joined({}, module.state_dict())
    first = next(key for key in file if key.startswith("sem_seg_head.predictor.") and key.endswith("in_proj_weight"))
    renamed = {"another.name" if key == first else key: value for key, value in file.items()}
    with pytest.raises(CheckpointError) as error:
        assemble(module, layout.decoder(renamed), "file.pth", method, whole=renamed, name=layout.name)
    assert f"1 missing: {first}" in str(error.value) and "1 unexpected: another.name" in str(error.value)
    shorter = layout.joined({}, module.state_dict())
    key = next(key for key in shorter if key.endswith("level_embed") or key.endswith("mask_features.weight"))
    shorter[key] = shorter[key][:1]
    with pytest.raises(CheckpointError, match=f"of another shape: {key}"):
        assemble(module, layout.decoder(shorter), "file.pth", method, whole=shorter, name=layout.name)


def test_every_key_of_the_official_files_is_known():
    weights = shared_module("pseudo_weights_trained_b")
    head = {k: v for k, v in weights.mask2former_head(queries=2).items()}
    assert not [key for key in FCCLIP.ours(head) if key.startswith("sem_seg_head.")]
    small = dict(dim=16, depths=(1, 1, 2, 1), heads=(1, 2, 4, 8), window=4)
    names = weights._Builder("x")
    weights.swin(names, "backbone.", **small)
    weights.maskformer_head(names, "sem_seg_head.", [16, 32, 64, 128], 32, 3)
    ours = OVSEG.ours({k: v for k, v in names.items() if not k.endswith("relative_position_index")})
    assert not [key for key in ours if key.startswith(("backbone.", "sem_seg_head."))]
