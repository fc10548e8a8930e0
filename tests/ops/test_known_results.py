"""Operators against results that do not come from `ovseg.ops.reference`: hand-made values and other code."""

import pytest
import torch
import torch.nn.functional as F

from ovseg import ops

BACKENDS = ("torch", "reference")


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


# PAMR


@pytest.mark.parametrize("backend", BACKENDS)
def test_pamr_on_a_flat_image_is_the_mean_of_the_neighbours(g, backend):
    scores = torch.rand(1, 2, 9, 9, generator=g)
    refined = ops.pamr(torch.ones(1, 3, 9, 9), scores, iterations=1, dilations=(1, 2), backend=backend)
    near = scores[0, :, 3:6, 3:6].sum((1, 2)) - scores[0, :, 4, 4]
    far = scores[0, :, 2:7:2, 2:7:2].sum((1, 2)) - scores[0, :, 4, 4]
    torch.testing.assert_close(refined[0, :, 4, 4], (near + far) / 16)
    # In the corner replication makes 3 of the 8 neighbours the pixel itself.
    corner = ops.pamr(torch.ones(1, 3, 9, 9), scores, 1, (1,), backend=backend)[0, :, 0, 0]
    s = scores[0]
    expected = (3 * s[:, 0, 0] + 2 * s[:, 0, 1] + 2 * s[:, 1, 0] + s[:, 1, 1]) / 8
    torch.testing.assert_close(corner, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pamr_affinity_by_hand(backend):
    image = torch.tensor([0.0, 1.0, 4.0]).repeat(3, 1).expand(1, 1, 3, 3)
    affinity = ops.pamr_affinity(image, (1,), backend=backend)[0, :, 1, 1]
    samples = torch.tensor([0.0, 1, 4, 0, 4, 0, 1, 4, 1])  # 8 neighbours, then the centre
    distance = (samples[:8] - 1).abs() / (1e-8 + 0.1 * samples.std(unbiased=True))
    torch.testing.assert_close(affinity, (-distance).softmax(0))


def test_pamr_chunks_of_queries_are_independent(g):
    image, scores = torch.rand(1, 3, 21, 13, generator=g), torch.rand(1, 37, 21, 13, generator=g)
    affinity = ops.pamr_affinity(image)
    whole = ops.pamr_apply(affinity, scores)
    parts = torch.cat([ops.pamr_apply(affinity, part) for part in scores.split(10, 1)], 1)
    torch.testing.assert_close(whole, parts, atol=1e-6, rtol=0)


# Upsample + argmax


def naive_labels(scores, size, query_to_class, classes, scale, threshold, background):
    """The method as official code writes it."""
    maps = F.interpolate(scores[None], size=size, mode="bilinear")[0]
    probability = (scale * maps).softmax(0)
    merged = torch.stack([probability[query_to_class == c].amax(0) for c in range(classes)])
    labels = merged.argmax(0)
    labels[merged.amax(0) < threshold] = background
    return labels.int()


@pytest.mark.parametrize("queries", [1, 21, 847])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_labels_are_identical_to_the_official_chain_ties_included(g, queries, threshold):
    # Scores and weights with few binary digits: no operation rounds, so ties are ties and labels must be equal.
    scores = torch.randint(-24, 25, (queries, 5, 9), generator=g) / 16
    classes = max(1, queries - 4)
    query_to_class = torch.cat((torch.arange(classes), torch.randint(0, classes, (queries - classes,), generator=g)))
    arguments = ((40, 72), query_to_class, classes, 4.0, threshold, 0)
    expected = naive_labels(scores, *arguments)
    for backend in BACKENDS:
        assert torch.equal(ops.upsample_argmax(scores, *arguments, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_scores_give_the_lowest_class(backend):
    scores = torch.full((6, 3, 3), 0.25)
    query_to_class = torch.tensor([4, 2, 5, 2, 3, 4])
    assert (ops.upsample_argmax(scores, (10, 7), query_to_class, backend=backend) == 2).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_repeated_queries_give_the_lowest_class_whatever_is_rounded(g, backend):
    scores = torch.randn(13, 6, 11, generator=g).repeat(3, 1, 1)
    assert ops.upsample_argmax(scores, (97, 150), backend=backend).max() < 13
    allowed = torch.arange(39) >= 13
    assert ops.upsample_argmax(scores, (97, 150), allowed=allowed, backend=backend).max() < 26


@pytest.mark.parametrize("queries", [4, 400])  # 400: in several parts, whose best are close to each other
def test_queries_closer_than_rounding_are_decided_in_float64(g, queries):
    scores = torch.randn(1, 9, 13, generator=g) + 2e-7 * torch.randn(queries, 9, 13, generator=g)
    rows, columns = (ops.bilinear_matrix(*n).double() for n in ((9, 70), (13, 150)))
    expected = torch.einsum("yi,qij,xj->qyx", rows, scores.double(), columns).argmax(0)
    labels = ops.upsample_argmax(scores, (70, 150), backend="torch")
    assert torch.equal(labels, expected.int())


@pytest.mark.parametrize("backend", BACKENDS)
def test_barred_classes_do_not_win_but_stay_in_the_softmax(g, backend):
    scores = torch.stack([torch.full((2, 2), value) for value in (2.0, 1.0, 0.0)])
    allowed = torch.tensor([False, True, True])
    call = dict(allowed=allowed, background=2, backend=backend)
    share = float(torch.tensor([2.0, 1.0, 0.0]).softmax(0)[1])
    assert (ops.upsample_argmax(scores, (3, 3), threshold=share - 0.01, **call) == 1).all()
    assert (ops.upsample_argmax(scores, (3, 3), threshold=share + 0.01, **call) == 2).all()


def test_label_type_and_more_classes_than_a_byte_holds(g):
    scores = torch.zeros(847, 2, 2)
    scores[846] = 1
    labels = ops.upsample_argmax(scores, (4, 4), dtype=torch.uint16)
    assert labels.dtype == torch.uint16 and labels.int().unique().tolist() == [846]


def test_topk_is_the_sorted_softmax(g):
    scores = torch.rand(5, 3, 4, generator=g)
    labels, probability = ops.upsample_topk(scores, (6, 8), logit_scale=10.0, k=5)
    torch.testing.assert_close(probability.sum(0), torch.ones(6, 8))
    assert torch.equal(labels[0], ops.upsample_argmax(scores, (6, 8)))
    assert (probability.diff(dim=0) <= 0).all()


@pytest.mark.parametrize(("cells", "pixels"), [(1, 1), (1, 7), (7, 100), (9, 4), (14, 224)])
def test_bilinear_matrix_is_torch_interpolation(cells, pixels):
    scores = torch.randn(3, 5, cells)
    expected = F.interpolate(scores, size=pixels, mode="linear")
    torch.testing.assert_close(scores @ ops.bilinear_matrix(cells, pixels).T, expected, atol=1e-5, rtol=1e-5)


# Regions and counts


@pytest.mark.parametrize("backend", BACKENDS)
def test_region_vote_by_hand(backend):
    labels = torch.tensor([[2, 1, 1, 5], [2, 0, 3, 5]], dtype=torch.int32)
    regions = torch.tensor([[9, 9, 9, -4], [9, -4, -4, 1000000]], dtype=torch.int32)
    voted = ops.region_vote(labels, regions, 6, backend=backend)
    assert voted.tolist() == [[1, 1, 1, 0], [1, 0, 0, 5]]  # region 9 ties 1 with 2, region -4 ties 0, 3, 5
    kept = ops.region_vote(labels, regions, 6, skip_ids=(9,), backend=backend)
    assert kept.tolist() == [[2, 1, 1, 0], [2, 0, 0, 5]]


def test_region_vote_with_too_many_bins_for_a_histogram(g, monkeypatch):
    from ovseg.ops import torch_regions

    labels = torch.randint(0, 50, (40, 40), generator=g)
    regions = torch.randint(0, 60, (40, 40), generator=g)
    expected = ops.region_vote(labels, regions, 50)
    monkeypatch.setattr(torch_regions, "MAX_BINS", 10)
    assert torch.equal(ops.region_vote(labels, regions, 50), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_confusion_matrix_by_hand(backend):
    target = torch.tensor([0, 0, 1, 255, 2], dtype=torch.uint8)
    prediction = torch.tensor([0, 1, 1, 1, 0])
    matrix = ops.confusion_matrix(prediction, target, 3, backend=backend)
    assert matrix.dtype == torch.int64 and matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_region_pool_by_hand(backend):
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    ids, means = ops.region_pool(features, torch.tensor([7, -1, 7]), backend=backend)
    assert ids.tolist() == [-1, 7] and means.tolist() == [[3.0, 4.0], [3.0, 5.5]]


# Attentions


def per_head(similarity, keep, scale, values, heads):
    """The guided attentions as official code writes them: one masked softmax per head."""
    logits = (scale * similarity).masked_fill(~keep, -torch.inf)[:, None].expand(-1, heads, -1, -1)
    parts = values.unflatten(-1, (heads, -1)).transpose(1, 2)
    return (logits.softmax(-1) @ parts).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_correlation_attention_is_proxyclip(g, backend, scope):
    features = F.normalize(torch.randn(2, 50, 16, generator=g) + 0.5, dim=-1)
    values = torch.randn(2, 50, 12, generator=g)
    similarity = features @ features.mT
    mean = similarity.mean((1, 2), keepdim=True) if scope == "sample" else similarity.mean()
    shifted = 3 * (similarity - 1.2 * mean)
    expected = per_head(shifted, shifted >= 0, 1.0, values, 3)
    result = ops.correlation_attention(features, values, scale=3, beta=1.2, mean_scope=scope, backend=backend)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_correlation_attention_is_corrclip(g, backend):
    features = F.normalize(torch.randn(1, 60, 16, generator=g) + 0.3, dim=-1)
    values = torch.randn(1, 60, 12, generator=g)
    ids = torch.randint(0, 4, (1, 60), generator=g) * 10000
    similarity = features @ features.mT
    keep = (ids[:, :, None] == ids[:, None]) & (ids != 0)[:, None]
    outside = (ids == 0)[:, :, None] | (ids == 0)[:, None]
    keep |= outside & (similarity > similarity.mean())
    expected = per_head(similarity, keep, 4.0, values, 4)
    result = ops.correlation_attention(features, values, scale=4, beta=1, region_ids=ids, backend=backend)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_correlation_attention_is_the_pooling_of_clip_dinoiser(g, backend):
    features = F.normalize(torch.randn(1, 40, 8, generator=g), dim=-1)
    values = torch.randn(1, 40, 6, generator=g)
    weight = features @ features.mT
    weight = torch.where(weight < 0.2, 0, weight)
    expected = weight @ values / (weight.sum(-1, keepdim=True) + 1e-6)
    result = ops.correlation_attention(features, values, scale=1, threshold=0.2, normaliser="sum", backend=backend)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_that_keep_nothing(g, backend):
    features = F.normalize(torch.ones(1, 5, 4) + 0.01 * torch.randn(1, 5, 4, generator=g), dim=-1)
    values = torch.randn(1, 5, 3, generator=g)
    call = dict(scale=3, beta=1.2, backend=backend)  # 1.2 * mean > 1: every row is empty
    assert torch.equal(ops.correlation_attention(features, values, **call), values)
    assert ops.correlation_attention(features, values, empty="nan", **call).isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_self_self_attention_is_sclip_and_naclip(g, backend):
    q, k, v = (torch.randn(2, 3, 1 + 4 * 5, 8, generator=g) for _ in range(3))
    scale = 8**-0.5
    sclip = ((q @ q.mT * scale).softmax(-1) + (k @ k.mT * scale).softmax(-1)) @ v
    result = ops.self_self_attention(q, k, v, terms=("qq", "kk"), backend=backend)
    torch.testing.assert_close(result, sclip, atol=1e-5, rtol=1e-5)
    row, column = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
    cells = torch.stack((row, column), -1).view(20, 2)
    bias = F.pad(torch.exp(-torch.cdist(cells, cells).square() / (2 * 5**2)), (1, 0, 1, 0))
    naclip = (k @ k.mT * scale + bias).softmax(-1) @ v
    result = ops.self_self_attention(q, k, v, terms=("kk",), neighbour_std=5, grid=(4, 5), backend=backend)
    torch.testing.assert_close(result, naclip, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["torch", "reference", "augmented", "heads", "rows"])
@pytest.mark.parametrize(("grid", "table"), [((8, 8), (8, 8)), ((5, 9), (5, 9)), ((7, 7), (10, 4))])
def test_decomposed_attention_is_segment_anything(g, form, grid, table):
    from segment_anything.modeling.image_encoder import Attention

    from ovseg.ops.torch_sam import attention_by_heads, attention_by_rows, augmented_attention

    official = Attention(24, num_heads=3, use_rel_pos=True, input_size=table)
    for parameter in official.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=g)
    x = torch.randn(2, *grid, 24, generator=g)
    with torch.no_grad():
        q, k, v = official.qkv(x).reshape(2, -1, 3, 3, 8).permute(2, 0, 3, 1, 4)
        tables = (
            ops.relative_positions(t, n) for t, n in zip((official.rel_pos_h, official.rel_pos_w), grid, strict=True)
        )
        if form in BACKENDS:
            attended = ops.decomposed_attention(q, k, v, *tables, backend=form)
        else:
            forms = {"augmented": augmented_attention, "heads": attention_by_heads, "rows": attention_by_rows}
            attended = forms[form](q, k, v, *tables, 8**-0.5)
        result = official.proj(attended.transpose(1, 2).reshape(2, *grid, 24))
        torch.testing.assert_close(result, official(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_guided_aggregation_without_a_cut_is_attention_over_the_valid_cells(g, backend):
    q, k, v = (torch.rand(2, 12, 4, generator=g) for _ in range(3))  # non-negative values: every cosine is above 0
    rel_h, rel_w = torch.zeros(3, 3, 4), torch.zeros(4, 4, 4)
    tokens = torch.randn(6, 5, generator=g)
    result = ops.guided_aggregation(q, k, v, rel_h, rel_w, tokens, valid=(2, 3), cos_factor=0.0, backend=backend)
    cell = torch.tensor([0, 1, 2, 4, 5, 6])
    attention = (q @ k.mT * 0.5).softmax(-1)[:, cell][:, :, cell].mean(0)
    expected = attention / attention.sum(-1, keepdim=True) @ tokens
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_guided_aggregation_leaves_tokens_whose_values_resemble_no_other(g, backend):
    q, k = (torch.randn(2, 12, 12, generator=g) for _ in range(2))
    v = torch.eye(12).expand(2, -1, -1)  # every cosine but a token's own is 0
    tokens = torch.randn(12, 5, generator=g)
    tables = torch.zeros(3, 3, 12), torch.zeros(4, 4, 12)
    result = ops.guided_aggregation(q, k, v, *tables, tokens, valid=(3, 4), cos_factor=1.2, backend=backend)
    torch.testing.assert_close(result, tokens)


@pytest.mark.parametrize("backend", BACKENDS)
def test_guided_aggregation_replaces_negative_limits(backend):
    q = k = torch.zeros(1, 4, 2)
    v = torch.tensor([[[1.0, 0], [0, 1], [-1, 0], [-1, 0]]])
    call = dict(valid=(1, 4), cos_factor=1.2, backend=backend)
    inputs = (q, k, v, torch.zeros(1, 1, 2), torch.zeros(4, 4, 2), torch.eye(4))
    # Token 0 has the cosines 1, 0, -1, -1 and the limit 1.2 * -0.25, which token 1 passes.
    expected = torch.tensor([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]])
    torch.testing.assert_close(ops.guided_aggregation(*inputs, **call), expected)
    expected[0] = torch.tensor([1.0, 0, 0, 0])
    torch.testing.assert_close(ops.guided_aggregation(*inputs, keep_negative=False, **call), expected)


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.int16, torch.uint32, torch.int64, torch.uint64])
def test_regions_and_labels_of_all_integer_types(kind):
    labels = torch.tensor([[0, 1], [1, 2]]).to(kind)
    regions = torch.tensor([[255, 255], [255, 1]]).to(kind)
    voted = ops.region_vote(labels, regions, 3)
    assert voted.dtype == kind and voted.tolist() == [[1, 1], [1, 2]]
    assert ops.region_vote(labels, regions, 3, skip_ids=[255]).tolist() == labels.tolist()
    assert ops.region_vote(labels, regions, 3, skip_ids=[-1, 511]).tolist() == [[1, 1], [1, 2]]  # no wrapped 255
    pooled = ops.region_pool(torch.tensor([[1.0], [2.0], [3.0], [8.0]]), regions.flatten())
    assert pooled.ids.dtype == kind and pooled.ids.tolist() == [1, 255] and pooled.means.tolist() == [[8.0], [2.0]]
