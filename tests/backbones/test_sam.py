"""SAM's blocks, taken apart and fed in parts, against segment_anything's."""

import pytest
import torch
from segment_anything.modeling.image_encoder import Block, window_partition
from torch import Tensor

from ovseg.backbones import sam
from ovseg.backbones.sam import run_block, window_places


def block(window: int, grid: tuple[int, int], bias: bool = True) -> Block:
    torch.manual_seed(0)
    made = Block(24, 3, qkv_bias=bias, use_rel_pos=True, window_size=window, input_size=grid)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.requires_grad_(False)


def error(result: Tensor, expected: Tensor) -> float:
    return ((result.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("rows", [7, 1024])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("window", [0, 3, 4, 11])
def test_block_is_segment_anythings(monkeypatch, window, bias, rows):
    monkeypatch.setattr(sam, "ROWS", rows)  # 7: parts end in the middle of rows and windows
    official, x = block(window, (8, 10), bias), torch.randn(2, 8, 10, 24)
    result, last = run_block(official, x.clone())
    torch.testing.assert_close(result, official(x), rtol=1e-4, atol=1e-4)
    cells = window**2 or 80
    assert last.q.shape == last.v.shape and last.q.shape[1:] == (3, cells, 8)


@pytest.mark.parametrize("window", [0, 5])
def test_bf16_block_keeps_an_fp32_residual_and_does_not_depend_on_the_batch(window):
    official, x = block(window, (16, 16)), torch.randn(3, 16, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        together = run_block(official, x.clone())[0]
        alone = torch.cat([run_block(official, one[None].clone())[0] for one in x])
    assert together.dtype == torch.float32 and torch.equal(together, alone)
    assert error(together - x, official(x) - x) < 1.5e-2


@pytest.mark.parametrize("size", [(3, 3), (4, 5), (20, 20)])
def test_places_are_those_of_window_partition(size):
    batch, height, width = 2, 7, 9
    places, windows = window_places(batch, height, width, size, torch.device("cpu"))
    number = torch.arange(1.0, batch * height * width + 1)
    result = torch.zeros(windows * size[0] * size[1]).index_copy_(0, places, number)
    if size[0] == size[1]:
        expected = window_partition(number.view(batch, height, width, 1), size[0])[0]
        assert torch.equal(result, expected.flatten())
    assert torch.equal(result[places], number) and len(result) % (size[0] * size[1]) == 0
