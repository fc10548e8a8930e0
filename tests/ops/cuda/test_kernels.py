"""The kernels other than attention, emulated on the CPU at sizes where their loops, tiles and limits matter."""

import pytest
import torch
import torch.nn.functional as F

from ovseg import ops
from ovseg.ops import reference
from ovseg.ops.cuda import argmax, pamr, regions
from tests.ops.cases import tolerance
from tests.ops.cuda.emulate import emulated, needs_emulation

pytestmark = needs_emulation


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


# PAMR


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_pamr_over_several_tiles_and_groups_of_queries(g, kind):
    """35 x 70 pixels are 2 x 3 tiles; 18 queries two groups, the second of which holds two."""
    image, scores = torch.rand(1, 3, 35, 70, generator=g).to(kind), torch.rand(1, 18, 35, 70, generator=g).to(kind)
    expected = reference.pamr_affinity(image, (8, 16))
    with emulated():
        affinity = ops.pamr_affinity(image, (8, 16), backend="cuda")
        refined = ops.pamr_apply(expected, scores, 3, (8, 16), backend="cuda")
    assert affinity.shape == expected.shape and affinity.permute(0, 2, 3, 1).is_contiguous()
    torch.testing.assert_close(affinity, expected, atol=2e-5, rtol=1e-4)
    limit = tolerance(kind)
    torch.testing.assert_close(refined, reference.pamr_apply(expected, scores, 3, (8, 16)), atol=limit, rtol=limit)


def test_pamr_of_one_pixel_and_without_iterations():
    image, scores = torch.rand(2, 3, 1, 1), torch.rand(2, 1, 1, 1)
    with emulated():
        affinity = ops.pamr_affinity(image, (8, 16), backend="cuda")
        assert torch.equal(ops.pamr_apply(affinity, scores, 0, (8, 16), backend="cuda"), scores)
        torch.testing.assert_close(ops.pamr_apply(affinity, scores, 2, (8, 16), backend="cuda"), scores)
    torch.testing.assert_close(affinity, torch.full((2, 16, 1, 1), 1 / 16))


def test_pamr_says_what_does_not_fit():
    with emulated():
        affinity, scores = torch.rand(1, 56, 4, 4), torch.rand(1, 1, 4, 4)
        many = tuple(range(1, 8))
        assert "at most 6" in ops.not_supported_reasons("pamr_apply", "cuda", affinity, scores, 1, many)[0]
        far = ops.not_supported_reasons("pamr_apply", "cuda", affinity[:, :8], scores, 1, (200,))
        assert "dilation 200" in far[0]
        assert not ops.not_supported_reasons("pamr_apply", "cuda", affinity[:, :48], scores, 1, (1, 2, 4, 8, 12, 24))
    assert pamr._shared((1, 2, 4, 8, 12, 24)) <= pamr.MAX_SHARED


# Upsample + argmax


def test_many_queries_over_several_tiles_with_ties(g):
    """600 queries are two rounds of the block; scores of few digits tie often, and nothing rounds."""
    scores = torch.randint(-24, 25, (600, 5, 6), generator=g) / 16
    query_to_class = torch.randint(0, 90, (600,), generator=g)
    allowed = torch.rand(90, generator=g) < 0.7
    expected = reference.upsample_argmax(scores, 40, 48, query_to_class, 90, 4.0, 0.3, 7, allowed)
    call = dict(logit_scale=4.0, threshold=0.3, background=7, allowed=allowed)
    for backwards in (False, True):
        with emulated(backwards):
            labels = ops.upsample_argmax(scores, (40, 48), query_to_class, 90, **call, backend="cuda")
        assert torch.equal(labels, expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_repeated_queries_give_the_lowest_class(g, kind):
    scores = torch.randn(13, 4, 5, generator=g).repeat(3, 1, 1).to(kind)
    with emulated():
        assert ops.upsample_argmax(scores, (37, 41), backend="cuda").max() < 13


def test_dense_weights_that_touch_more_cells_than_a_segment(g):
    """All of 20 x 37 cells count for every pixel: two and three segments of 16."""
    scores = torch.randn(9, 20, 37, generator=g)
    rows, columns = torch.rand(33, 20, generator=g).softmax(1), torch.rand(34, 37, generator=g).softmax(1)
    maps = reference._separable(scores, rows, columns)
    with emulated():
        labels = ops.separable_argmax(scores, rows, columns, backend="cuda")
        found, probability = ops.separable_topk(scores, rows, columns, logit_scale=9.0, k=2, backend="cuda")
    best = maps.topk(2, 0)
    sure = best.values[0] - best.values[1] > 1e-5
    assert sure.float().mean() > 0.9 and torch.equal(labels[sure], best.indices[0][sure].int())
    torch.testing.assert_close(probability, (9 * maps).softmax(0).topk(2, 0).values)
    assert torch.equal(found[0][sure], best.indices[0][sure].int())


def test_a_threshold_that_the_bound_settles_needs_no_sum(g):
    """One class far above the others: everything passes, and the labels are those without a threshold."""
    scores = torch.randn(12, 3, 3, generator=g)
    scores[5] += 50
    with emulated():
        labels = ops.upsample_argmax(scores, (20, 20), threshold=0.9, background=0, backend="cuda")
    assert (labels == 5).all()


def test_topk_ranks_classes_without_queries_last(g):
    scores = torch.randn(6, 2, 3, generator=g)
    query_to_class = torch.tensor([4, 1, 4, 6, 1, 1])
    with emulated():
        arguments = scores, (9, 7), query_to_class, 8
        labels, probability = ops.upsample_topk(*arguments, logit_scale=2.0, k=8, backend="cuda")
    _, expected = ops.upsample_topk(*arguments, logit_scale=2.0, k=8, backend="reference")
    torch.testing.assert_close(probability, expected)
    assert torch.equal(labels.sort(0).values, torch.arange(8).int()[:, None, None].expand(-1, 9, 7))
    assert labels[3:, 4, 4].tolist() == [0, 2, 3, 5, 7] and (probability[3:] == 0).all()


def test_argmax_says_what_does_not_fit():
    with emulated():
        rows = columns = torch.eye(2)
        arguments = torch.rand(9, 2, 2), rows, columns, torch.arange(9), 9, 1.0, 9
        assert "k = 9, at most 8" in ops.not_supported_reasons("separable_topk", "cuda", *arguments)[0]
        wide = torch.rand(1, 1, 40000), 4, 4, torch.zeros(1, dtype=torch.int64), 1, 1.0, 0.0, -1, None
        assert "1 x 40000 cells" in ops.not_supported_reasons("upsample_argmax", "cuda", *wide)[0]
    assert argmax._shared(64, 128) <= 48 << 10


# Regions and counts


@pytest.mark.parametrize("classes", [1, 3, 847])
def test_votes_and_their_ties(g, classes):
    """Ids in a narrow range, and ids that need a sort; with 847 classes counts do not fit into shared memory."""
    labels = torch.randint(0, classes, (40, 60), generator=g)
    for low, high in ((-20, 20), (-(2**40), 2**40)):
        ids = torch.randint(low, high, (40,), generator=g)
        regions_ = ids[torch.randint(0, 40, (40, 60), generator=g)]
        skip = ids[:2].tolist()
        with emulated():
            voted = ops.region_vote(labels, regions_, classes, skip, backend="cuda")
        assert torch.equal(voted, reference.region_vote(labels, regions_, classes, skip))


def test_more_region_and_label_pairs_than_a_table_holds(g, monkeypatch):
    monkeypatch.setattr(regions.torch_regions, "MAX_BINS", 10)
    labels = torch.randint(0, 5, (8, 9), generator=g)
    ids = torch.randint(0, 7, (8, 9), generator=g)
    with emulated():
        assert torch.equal(ops.region_vote(labels, ids, 5, backend="cuda"), reference.region_vote(labels, ids, 5, ()))


@pytest.mark.parametrize("classes", [1, 64, 65, 200])
def test_confusion_matrix_in_shared_and_in_global_memory(g, classes):
    """Long runs of equal pairs, as in label maps, and more pixels than one round of the grid."""
    target = torch.randint(0, classes, (900,), generator=g).repeat_interleave(13)
    prediction = torch.randint(0, classes, (900 * 13,), generator=g)
    target[::7] = 255
    with emulated():
        counts = ops.confusion_matrix(prediction, target, classes, backend="cuda")
    valid = target != 255
    expected = torch.bincount(target[valid] * classes + prediction[valid], minlength=classes**2).view(classes, classes)
    assert torch.equal(counts, expected)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16])
def test_labels_of_small_integer_types(g, kind):
    prediction, target = (torch.randint(0, 4, (31, 33), generator=g).to(kind) for _ in range(2))
    with emulated():
        counts = ops.confusion_matrix(prediction, target, 4, backend="cuda")
        reasons = ops.not_supported_reasons("region_vote", "cuda", prediction.to(torch.uint16), target, 4, ())
    assert torch.equal(counts, reference.confusion_matrix(prediction, target, 4, 255))
    assert "labels have type torch.uint16" in reasons[0]


def test_pooling_is_the_same_in_every_order_of_threads(g):
    features, ids = torch.randn(300, 70, generator=g), torch.randint(-3, 4, (300,), generator=g)
    pooled = []
    for backwards in (False, True):
        with emulated(backwards):
            pooled.append(ops.region_pool(features, ids, backend="cuda"))
    assert torch.equal(pooled[0].means, pooled[1].means)
    torch.testing.assert_close(tuple(pooled[0]), reference.region_pool(features, ids))


def test_nothing_to_count():
    nothing = torch.zeros(0, 3, dtype=torch.int32)
    with emulated():
        assert ops.confusion_matrix(nothing, nothing, 3, backend="cuda").sum() == 0
        assert ops.region_vote(nothing, nothing, 3, backend="cuda").shape == (0, 3)


def test_scores_of_other_layouts(g):
    """Transposed inputs are brought into order, not read as they lie."""
    scores = torch.randn(5, 4, 3, generator=g).transpose(1, 2)
    image = torch.rand(1, 9, 8, 3, generator=g).permute(0, 3, 1, 2)
    expected = F.interpolate(scores[None], size=(9, 8), mode="bilinear")[0].argmax(0).int()
    with emulated():
        assert torch.equal(ops.upsample_argmax(scores, (9, 8), backend="cuda"), expected)
        affinity = ops.pamr_affinity(image, (1, 2), backend="cuda")
    torch.testing.assert_close(affinity, reference.pamr_affinity(image, (1, 2)), atol=2e-5, rtol=1e-4)
