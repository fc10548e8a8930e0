"""DeCLIP's attention on a tower with rotary positions and on one without."""

from types import SimpleNamespace

import pytest
import torch

from ovseg.attention import DeclipAttention, SelfSelfAttention
from ovseg.backbones.towers import EvaTower, build_tower
from ovseg.structures import AttentionContext
from tests.small_models import images, small_clip, small_eva_trunk


def context_of(tower, frames):
    grid = tower.grid_of(*frames.shape[-2:])
    x, _ = tower.run(tower.embed(frames), grid)
    return AttentionContext(x=x, grid=grid, tower=tower)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_queries_attend_to_queries_without_rotation(fused, scaled):
    tower = EvaTower(SimpleNamespace(trunk=small_eva_trunk(fused), head=torch.nn.Identity()))
    context = context_of(tower, images(2, 3, 64, 48))
    tokens, queries = DeclipAttention(scaled).content_and_context(context)
    block = tower.blocks[-1]
    y = block.norm1(context.x)
    attn = block.block.attn
    if fused:
        q, _, v = torch.nn.functional.linear(
            y, attn.qkv.weight, torch.cat((attn.q_bias, attn.k_bias, attn.v_bias))
        ).chunk(3, dim=-1)
    else:
        q, v = attn.q_proj(y), attn.v_proj(y)
    torch.testing.assert_close(queries, q[:, 1:])
    q, v = (t.unflatten(-1, (2, 32)).transpose(1, 2) for t in (q, v))
    weights = (q @ q.mT * (32**-0.5 if scaled else 1)).softmax(-1)
    expected = block.out((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(tokens.tokens, expected, atol=1e-5, rtol=1e-5)


def test_on_openais_tower_it_is_clearclips_attention():
    context = context_of(build_tower(small_clip().visual), images(1, 3, 64, 64))
    ours, theirs = DeclipAttention()(context), SelfSelfAttention(terms=("q",))(context)
    torch.testing.assert_close(ours.tokens, theirs.tokens)
