"""VIP's attention against its description, a patch at a time."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.attention import HeadProxyAttention
from ovseg.backbones import DinoTxtBackbone
from tests.small_guides import use_small_guides
from tests.small_models import images


@pytest.fixture(scope="module")
def backbone():
    with pytest.MonkeyPatch.context() as patch:
        use_small_guides(patch)
        yield DinoTxtBackbone()


def plainly(features, blocks, beta, gamma):
    """Blocks over patches ``features [N, d]``, all with the weights that these give, a row at a time."""
    x, unit = features, F.normalize(features, dim=-1)
    similarity = unit @ unit.T
    for block in blocks:
        values = F.linear(block.norm1(x), block.attn.qkv.weight[128:])
        mixed = values.clone()  # of a patch that is cut off from all
        for i, row in enumerate(similarity):
            logits = gamma * (row - beta * similarity.mean())
            kept = logits > 0
            if kept.any():
                mixed[i] = logits[kept].softmax(0) @ values[kept]
        x = x + block.gamma_1 * block.attn.proj(mixed)
        x = x + block.gamma_2 * block.mlp(block.norm2(x))
    return x


@settings(max_examples=20, deadline=None)
@given(beta=st.floats(0, 3), gamma=st.floats(0.1, 5), rows=st.integers(1, 4), seed=st.integers(0, 99))
def test_both_blocks_attend_by_the_patches_below_them(backbone, beta, gamma, rows, seed):
    torch.manual_seed(seed)
    attention = HeadProxyAttention(beta, gamma)
    windows = images(2, 3, 16 * rows, 48)
    context = backbone(windows, attention.needs_inputs_of(len(backbone.tower.blocks)))
    found = attention(context)
    assert found.grid == (rows, 3) and found.num_prefix == 0
    normed = backbone.tower.trunk.final_norm(  # what DINOv3 gives
        backbone.tower.trunk.run(backbone.tower.embed(windows), context.grid, depth=2)[0]
    )[:, 5:]
    for w in range(2):
        want = plainly(normed[w], [b.block for b in backbone.tower.blocks[-2:]], beta, gamma)
        torch.testing.assert_close(found.tokens[w], want, atol=1e-4, rtol=1e-3)


def test_a_number_of_blocks_that_makes_no_sense_is_told():
    with pytest.raises(ValueError, match="blocks is 0; at least the last block"):
        HeadProxyAttention(blocks=0)
    with pytest.raises(ValueError, match="this tower has 2 blocks"):
        HeadProxyAttention(blocks=3).needs_inputs_of(2)
