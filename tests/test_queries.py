"""The comparison of patches with words."""

import torch
import torch.nn.functional as F

from ovseg.queries import Queries
from ovseg.structures import FeatureMap


def queries(**settings) -> Queries:
    text = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    return Queries(text, torch.tensor([1, 0, 2, 0]), 3, **settings)


def test_cosines_do_not_depend_on_the_length_of_features():
    ours = queries()
    features = FeatureMap(torch.randn(2, 6, 8), (2, 3))
    got = ours.cosines(features)
    assert got.shape == (2, 4, 2, 3)
    want = torch.stack([F.cosine_similarity(features.tokens, word, dim=-1) for word in ours.text], dim=1)
    torch.testing.assert_close(got.flatten(2), want, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.cosines(FeatureMap(7 * features.tokens, (2, 3))), got)


def test_scores_are_cosines_or_probabilities():
    cosines = torch.rand(1, 4, 2, 3)
    assert queries().scores(cosines) is cosines
    torch.testing.assert_close(queries(probability_scale=100.0).scores(cosines), (100 * cosines).softmax(1))


def test_the_first_query_of_the_background():
    assert queries(background=0).background_query() == 1
    assert queries(background=2).background_query() == 2
