"""The tree of prompts against open_clip's own encode_text."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CustomTextCLIP

from ovseg.text.causal import PAD, CausalTextTower, prefix_trees
from tests.small_models import _shake, small_clip

TOKENIZER = open_clip.get_tokenizer("ViT-B-16")
PROMPTS = [
    "",
    "a cat.",
    "a cat",
    "a photo of a cat.",
    "a photo of a catfish.",
    "the cat in a video game",
    "a cat.",
    "x " * 90,
]
VARIANTS = dict(
    plain={},
    linear_projection=dict(proj_bias=True),
    no_projection=dict(proj_type="none"),
    layer_scale=dict(ls_init_value=0.3),
    pool_eos=dict(pool_type="eos", eos_id=49407),
    four_heads=dict(heads=4),
)


def custom_text_clip(**text) -> CustomTextCLIP:
    torch.manual_seed(3)
    model = CustomTextCLIP(
        embed_dim=32,
        vision_cfg=dict(image_size=32, layers=1, width=32, head_width=32, patch_size=16),
        text_cfg=dict(dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2), **text),
    )
    return _shake(model)


def largest_difference(model, prompts=PROMPTS, **kwargs) -> float:
    tokens = TOKENIZER(prompts)
    with torch.no_grad():
        expected = model.encode_text(tokens)
    found = CausalTextTower(model, **kwargs).encode(tokens)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert expected.std() > 1e-3
    return float((found - expected).abs().max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_encode_text(variant):
    # In double precision any difference in what is computed would show.
    assert largest_difference(custom_text_clip(**VARIANTS[variant]).double()) < 1e-12


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_equals_encode_text_of_openai_layout(quick_gelu):
    model = small_clip(quick_gelu=quick_gelu)
    assert largest_difference(model) < 1e-5
    assert largest_difference(model.double()) < 1e-12


WORDS = st.lists(st.sampled_from(["a", "photo", "of", "the", "cat", "Über-katze", "3", "'s", "."]), max_size=8)
SMALL = small_clip().double()


@settings(max_examples=15, deadline=None)
@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=12))
def test_equals_encode_text_for_any_words(prompts):
    assert largest_difference(SMALL, prompts) < 1e-12


def test_low_precision_is_near():
    model = small_clip()
    scale = float(model.encode_text(TOKENIZER(PROMPTS)).abs().max())
    assert 0 < largest_difference(model, dtype=torch.bfloat16) < 0.05 * scale
    model = small_clip().bfloat16()
    assert CausalTextTower(model).encode(TOKENIZER(["a cat"])).dtype == torch.bfloat16


@pytest.mark.parametrize("max_nodes", [1, 7, 10**6])
def test_trees_hold_every_prefix_once(max_nodes):
    generator = np.random.default_rng(0)
    rows = np.full((60, 9), PAD)
    for row, length in zip(rows, generator.integers(1, 10, 60), strict=True):
        row[:length] = generator.integers(0, 3, length)
    rows = np.unique(rows, axis=0)
    seen = []
    for part, tree in prefix_trees(rows, max_nodes):
        members = [tuple(row[row != PAD].tolist()) for row in rows[part]]
        prefixes = {row[:n] for row in members for n in range(1, len(row) + 1)}
        assert len(tree.token) == len(prefixes)
        ends = torch.cat([nodes[:, -new:].flatten() for nodes, new in tree.paths])
        assert sorted(ends.tolist()) == list(range(len(prefixes)))
        for nodes, _ in tree.paths:
            assert (tree.depth[nodes] == torch.arange(nodes.shape[1])).all()
            for path in nodes:
                # the tokens along a path spell the row it ends in
                assert tuple(tree.token[path].tolist()) == members[tree.leaf.tolist().index(int(path[-1]))]
        seen += members
    assert seen == [tuple(row[row != PAD].tolist()) for row in rows]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (dict(no_causal_mask=True), "not causal"),
        (dict(embed_cls=True), "class token"),
        (dict(pool_type="last"), "pools 'last'"),
        (dict(qk_norm=True), "CustomResidualAttentionBlock"),
    ],
)
def test_what_cannot_share_prefixes(text, reason):
    model = custom_text_clip(**text)
    assert reason in CausalTextTower.not_supported(model)
    with pytest.raises(ValueError, match="no shared prefixes"):
        CausalTextTower(model)


def test_other_masks_and_towers():
    model = small_clip()
    model.attn_mask[0, 1] = 0
    assert "not the causal one" in CausalTextTower.not_supported(model)
    model.text = torch.nn.Linear(2, 2)
    assert "Linear is not open_clip's text transformer" in CausalTextTower.not_supported(model)
