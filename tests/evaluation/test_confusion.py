"""The confusion matrix against scikit-learn and mmsegmentation."""

import doctest

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from sklearn.metrics import confusion_matrix

import ovseg.evaluation.confusion
import ovseg.evaluation.metric
from ovseg.evaluation import SegMetric, SplitMetric, confusion_update, summarise
from ovseg.ops import confusion_matrix as confusion_matrix_op


def random_labels(classes, shape, ignore, seed, absent=0, empty=0):
    """Predictions and ground truth; ``absent`` classes occur in predictions only, the last ``empty`` in neither."""
    rng = np.random.default_rng(seed)
    gt = rng.integers(0, classes - absent - empty, shape)
    pred = np.where(rng.random(shape) < 0.5, gt, rng.integers(0, classes - empty, shape))
    gt[rng.random(shape) < 0.1] = ignore
    return torch.from_numpy(pred), torch.from_numpy(gt)


CASES = [(2, 255, 0, 0), (21, 255, 3, 2), (150, 255, 0, 5), (847, 65535, 200, 100)]


@pytest.mark.parametrize("classes, ignore, absent, empty", CASES)
def test_matrix_is_sklearns(classes, ignore, absent, empty):
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    total = np.zeros((classes, classes), np.int64)
    for seed in range(3):
        pred, gt = random_labels(classes, (31, 47), ignore, seed, absent, empty)
        confusion_update(matrix, pred.int(), gt.int(), ignore)
        valid = gt != ignore
        total += confusion_matrix(gt[valid], pred[valid], labels=range(classes))
    np.testing.assert_array_equal(matrix.numpy(), total)


@pytest.mark.parametrize("classes, ignore, absent, empty", CASES)
def test_means_are_mmsegs(classes, ignore, absent, empty):
    matrix, areas = torch.zeros(classes, classes, dtype=torch.int64), []
    for seed in range(3):
        pred, gt = random_labels(classes, (31, 47), ignore, seed, absent, empty)
        confusion_update(matrix, pred, gt, ignore)
        areas.append(IoUMetric.intersect_and_union(pred, gt, classes, ignore))
    intersect, union, predicted, label = (sum(a[i] for a in areas) for i in range(4))
    theirs = IoUMetric.total_area_to_metrics(intersect, union, predicted, label)
    ours = summarise(matrix)
    np.testing.assert_allclose(ours.iou, theirs["IoU"] * 100, rtol=1e-5)
    np.testing.assert_allclose(ours.acc, theirs["Acc"] * 100, rtol=1e-5)
    np.testing.assert_allclose(ours.aAcc, theirs["aAcc"] * 100, rtol=1e-5)
    np.testing.assert_allclose(ours.mIoU, np.nanmean(theirs["IoU"]) * 100, rtol=1e-5)
    np.testing.assert_allclose(ours.mAcc, np.nanmean(theirs["Acc"]) * 100, rtol=1e-5)
    np.testing.assert_array_equal(ours.pixels, label.numpy())
    present = label.numpy() > 0
    np.testing.assert_allclose(ours.mIoU_present, theirs["IoU"][present].mean() * 100, rtol=1e-5)
    assert (ours.mIoU < ours.mIoU_present) == bool(absent)


@pytest.mark.parametrize("classes", [2, 59])
def test_unlabelled_pixels_are_missed_and_no_classs_error(classes):
    """mmseg's histograms end at the last class, so that a prediction of 255 is in none of them."""
    metric, areas = SegMetric(unlabelled=True), []
    metric.dataset_meta = dict(classes=tuple(map(str, range(classes))), ignore_index=255)
    for seed in range(3):
        pred, gt = random_labels(classes, (31, 47), 255, seed)
        none = torch.rand(pred.shape, generator=torch.Generator().manual_seed(seed)) < 0.2
        areas.append(IoUMetric.intersect_and_union(pred.masked_fill(none, 255), gt, classes, 255))
        metric.process(None, [sample(pred.masked_fill(none, classes), gt)])
    again = SegMetric(unlabelled=True)
    again.dataset_meta = metric.dataset_meta
    again.load_state_dict(metric.state_dict())
    found = metric.evaluate(3)
    assert again.evaluate(3) == found and metric.total.shape == (classes, classes + 1)
    intersect, union, predicted, label = (sum(a[i] for a in areas) for i in range(4))
    theirs = IoUMetric.total_area_to_metrics(intersect, union, predicted, label)
    np.testing.assert_allclose(metric.summary.iou, theirs["IoU"] * 100, rtol=1e-5)
    np.testing.assert_array_equal(metric.summary.predicted, predicted.numpy())
    np.testing.assert_array_equal(metric.summary.pixels, label.numpy())
    for ours, name in (("mIoU", "IoU"), ("mAcc", "Acc"), ("aAcc", "aAcc")):
        np.testing.assert_allclose(found[ours], np.mean(theirs[name]) * 100, rtol=1e-5)
    plain = metric_for(classes)
    with pytest.raises(ValueError, match=f"prediction {classes} outside the data set's classes"):
        plain.process(None, [sample(torch.full((2, 2), classes), torch.zeros(2, 2))])
    with pytest.raises(ValueError, match="saved matrix of .* the data set's is"):
        plain.load_state_dict(again.state_dict() | {"matrix": metric.total})


def test_the_two_rules_differ_by_absent_but_predicted_classes():
    matrix = torch.tensor([[8, 0, 2, 0], [0, 10, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    s = summarise(matrix)
    assert s.mIoU_present == pytest.approx((80 + 100) / 2)
    assert s.mIoU == pytest.approx((80 + 100 + 0) / 3)  # class 3 has an empty union and counts in neither
    assert np.isnan(s.iou[3]) and s.iou[2] == 0 and np.isnan(s.acc[2])
    records = s.per_class(["a", "b", "c", "d"])
    assert records[3] == {"name": "d", "iou": None, "acc": None, "pixels": 0, "predicted": 0}


def test_nothing_evaluated_is_nan_not_zero():
    s = summarise(torch.zeros(3, 3, dtype=torch.int64))
    assert all(np.isnan(v) for v in s.means().values())
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    assert confusion_update(matrix, torch.zeros(4).int(), torch.full((4,), 255)).sum() == 0


def test_large_counts_stay_exact():
    matrix = torch.full((2, 2), 2**53, dtype=torch.int64)
    confusion_update(matrix, torch.tensor([0]), torch.tensor([0]))
    assert matrix[0, 0] == 2**53 + 1


def test_blocks_add_up(monkeypatch):
    pred, gt = random_labels(21, (50, 50), 255, 0)
    whole = confusion_update(torch.zeros(21, 21, dtype=torch.int64), pred, gt)
    monkeypatch.setattr(ovseg.evaluation.confusion, "_BLOCK", 97)
    assert torch.equal(confusion_update(torch.zeros(21, 21, dtype=torch.int64), pred, gt), whole)


@pytest.mark.parametrize(
    "pred, gt, message",
    [
        ([0, 3], [0, 1], r"prediction 3 outside the data set's classes 0..2: .*vocabulary"),
        ([0, -1], [0, 1], "prediction -1 outside"),
        ([0, 1], [0, 7], r"ground-truth label 7 outside classes 0..2 and not ignored \(255\)"),
        ([0, 1], [0, -2], "ground-truth label -2"),
        ([0, 1, 2], [0, 1], r"shape \[3\] for a label map of shape \[2\]"),
    ],
)
def test_labels_that_are_no_classes_are_errors_and_change_nothing(pred, gt, message):
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        confusion_update(matrix, torch.tensor(pred), torch.tensor(gt))
    assert matrix.sum() == 0


def test_a_matrix_of_another_type_is_refused():
    with pytest.raises(ValueError, match="int64"):
        confusion_update(torch.zeros(3, 3), torch.tensor([0]), torch.tensor([0]))


@pytest.mark.parametrize("module", [ovseg.evaluation.confusion, ovseg.evaluation.metric])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


# ------------------------------------------------------------------------------------------------------------ metric
def metric_for(classes, ignore=255) -> SegMetric:
    metric = SegMetric()
    metric.dataset_meta = dict(classes=tuple(str(i) for i in range(classes)), ignore_index=ignore)
    return metric


def sample(pred, gt, path="a.jpg") -> dict:
    return dict(pred_sem_seg=dict(data=pred[None].int()), gt_sem_seg=dict(data=gt[None].int()), img_path=path)


@pytest.mark.parametrize("classes, ignore, absent, empty", CASES)
def test_metric_streams_and_can_be_continued(classes, ignore, absent, empty):
    samples = [sample(*random_labels(classes, (20, 30 + i), ignore, i, absent, empty)) for i in range(4)]
    whole = metric_for(classes, ignore)
    whole.process(None, samples)
    expected = whole.evaluate(4)
    assert whole.results == [] and whole.matrix is None

    first = metric_for(classes, ignore)
    first.process(None, samples[:2])
    state = first.state_dict()
    first.process(None, samples[2:])  # the saved state is a copy
    second = metric_for(classes, ignore)
    second.load_state_dict(state)
    second.process(None, samples[2:])
    assert second.evaluate(4) == first.evaluate(4) == expected
    assert torch.equal(second.total, whole.total)


def test_metric_names_the_sample_that_is_wrong():
    metric = metric_for(3)
    ok = torch.zeros(4, 5)
    with pytest.raises(ValueError, match="b.jpg: prediction 9 outside"):
        metric.process(None, [sample(ok + 9, ok, "b.jpg")])
    with pytest.raises(ValueError, match=r"c.jpg: prediction of \[5, 4\] for a label map of \[4, 5\]"):
        metric.process(None, [sample(ok.T, ok, "c.jpg")])
    with pytest.raises(ValueError, match="d.jpg: no ground truth"):
        metric.process(None, [dict(pred_sem_seg=dict(data=ok[None]), img_path="d.jpg")])
    with pytest.raises(ValueError, match=r"saved matrix of \[4, 4\], the data set.s is \[3, 3\]"):
        metric.load_state_dict({"matrix": torch.zeros(4, 4, dtype=torch.int64)})
    with pytest.raises(ValueError, match="class names"):
        SegMetric().process(None, [sample(ok, ok)])


def test_prefix():
    metric = metric_for(2)
    metric.prefix = "val"
    metric.process(None, [sample(torch.zeros(1, 1), torch.zeros(1, 1))])
    assert set(metric.evaluate(1)) == {"val/mIoU", "val/mIoU_present", "val/aAcc", "val/mAcc"}


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64]


@pytest.mark.parametrize("gt_type", INTEGERS)
@pytest.mark.parametrize("pred_type", INTEGERS)
def test_labels_of_all_integer_types(pred_type, gt_type):
    pred, gt = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0, 1], [2, 100]])
    want = [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    assert confusion_update(matrix, pred.to(pred_type), gt.to(gt_type), 100).tolist() == want
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    arrays = (pred.to(pred_type).numpy(), gt.to(gt_type).numpy())
    assert confusion_update(matrix, *arrays, 100).tolist() == want
    swapped = [a.astype(a.dtype.newbyteorder())[::-1] for a in arrays]
    assert confusion_update(matrix * 0, *swapped, 100).tolist() == want
    assert confusion_matrix_op(pred.to(pred_type), (gt % 3).to(gt_type), 3, 255).sum() == 4


@pytest.mark.parametrize("label, ignore", [(44, 300), (255, -1), (255, 65535), (0, 256), (0, 2**32)])
def test_the_ignored_label_is_not_wrapped_into_the_type_of_the_map(label, ignore):
    matrix = torch.zeros(256, 256, dtype=torch.int64)
    for kind in (torch.uint8, torch.int64):
        confusion_update(matrix, torch.tensor([7]), torch.tensor([label]).to(kind), ignore)
    assert matrix.sum() == 2 and matrix[label, 7] == 2


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bool, torch.complex64])
def test_labels_that_are_no_integers_are_refused(kind):
    matrix, good = torch.zeros(2, 2, dtype=torch.int64), torch.tensor([0, 1])
    for pair in ((good.to(kind), good), (good, good.to(kind)), (good.to(kind).numpy(), good)):
        with pytest.raises(ValueError, match="(prediction|ground truth): expected integers"):
            confusion_update(matrix, *pair)
    assert matrix.sum() == 0


def test_labels_beyond_63_bits_do_not_become_negative_ones():
    matrix, good = torch.zeros(2, 2, dtype=torch.int64), torch.tensor([0, 1])
    huge = np.array([0, 2**64 - 1], np.uint64)  # -1 in 64 bits
    with pytest.raises(ValueError, match=r"2\*\*63"):
        confusion_update(matrix, good, huge, ignore_index=-1)
    with pytest.raises(ValueError, match="65535 outside"):
        confusion_update(matrix, np.array([0, 65535], np.uint16), good)
    with pytest.raises(ValueError, match="beyond 64 bits"):
        confusion_update(matrix, good, good, ignore_index=2**64)
    assert matrix.sum() == 0


def test_a_held_out_name_that_is_no_class_is_told():
    metric = SplitMetric(unseen=["car"])
    metric.dataset_meta = dict(classes=("cat", "sofa"), ignore_index=255)
    with pytest.raises(ValueError, match="unseen: 'car' is no class"):
        metric.compute_metrics([torch.eye(2, dtype=torch.int64)])


def test_means_of_seen_and_unseen_classes_follow_the_rule_of_miou(tmp_path):
    (tmp_path / "unseen.txt").write_text("c\nd\n")
    metric = SplitMetric(unseen=tmp_path / "unseen.txt")
    metric.dataset_meta = dict(classes=tuple("abcd"), ignore_index=255)
    matrix = torch.tensor([[6, 2, 0, 0], [0, 8, 0, 0], [0, 4, 4, 0], [0, 0, 0, 0]])
    found = metric.compute_metrics([matrix])
    assert found["mIoU_seen"] == pytest.approx((100 * 6 / 8 + 100 * 8 / 14) / 2)
    assert found["mIoU_unseen"] == pytest.approx(50.0)  # d occurs nowhere
    assert found["hIoU"] == pytest.approx(2 / (1 / found["mIoU_seen"] + 1 / 50))
