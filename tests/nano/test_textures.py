import numpy as np
import pytest

from ovseg.nano.textures import BACKGROUNDS, PLAIN, texture


@pytest.mark.parametrize("name", [*BACKGROUNDS, PLAIN])
def test_texture_is_a_function_of_its_seed(name):
    first, again, other = texture(name, 1, (48, 80)), texture(name, 1, (48, 80)), texture(name, 2, (48, 80))
    assert first.shape == (48, 80, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_unknown_texture_lists_the_known_ones():
    with pytest.raises(KeyError, match="grass"):
        texture("lava", 0, (8, 8))
