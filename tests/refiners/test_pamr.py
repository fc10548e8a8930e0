import pytest
import torch

import ovseg.refiners  # noqa: F401  (registers)
from ovseg.ops import pamr
from ovseg.registry import REFINERS


def test_built_from_a_config_and_equal_to_the_operator():
    refiner = REFINERS.build(dict(type="PAMR", iterations=3, dilations=(2, 5)))
    image, scores = torch.rand(3, 12, 17), torch.rand(7, 12, 17)
    state = refiner.prepare(image)
    assert state.shape == (16, 12, 17)
    expected = pamr(image[None], scores[None], 3, (2, 5))[0]
    refined = torch.cat([refiner.apply(state, part) for part in scores.split(3)])
    torch.testing.assert_close(refined, expected, atol=1e-6, rtol=0)


def test_scores_keep_to_the_edges_of_the_guide():
    image = torch.zeros(3, 40, 40)
    image[:, :, 20:] = 1
    side = torch.zeros(40, 40)
    side[:, 20:] = 1
    noisy = side.lerp(torch.rand(40, 40, generator=torch.Generator().manual_seed(0)), 0.8)
    refiner = REFINERS.build(dict(type="PAMR"))
    refined = refiner.apply(refiner.prepare(image), noisy[None])[0]
    assert ((refined > 0.5).float() - side).abs().mean() < 0.02 < ((noisy > 0.5).float() - side).abs().mean()


def test_negative_iterations_are_an_error():
    with pytest.raises(ValueError, match="iterations"):
        REFINERS.build(dict(type="PAMR", iterations=-1))
