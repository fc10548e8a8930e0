"""DeCLIP's losses against their equations."""

import torch
import torch.nn.functional as F

from ovseg.training.distillation import box_features, content_loss, context_loss
from tests.small_models import images


def test_box_features_are_means_over_the_cells_of_a_box():
    dense = images(2, 3, 4, 6)
    boxes = [torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 1.0]]), torch.tensor([[0, 0.5, 1, 1.0]])]
    found = box_features(dense, boxes)
    # RoIAlign samples each cell between its neighbours' centres: a linear ramp shows that it does so evenly
    ramp = torch.arange(6.0).expand(1, 1, 4, 6) + 0.5
    assert found.shape == (3, 3)
    torch.testing.assert_close(box_features(ramp, [torch.tensor([[1 / 6, 0, 5 / 6, 1.0]])]), torch.tensor([[3.0]]))
    constant = torch.ones(1, 2, 4, 6) * torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(box_features(constant, [boxes[0]]), torch.tensor([[2.0, -1.0]]).expand(2, 2))


def test_content_loss_is_one_minus_the_mean_cosine():
    a, b = images(4, 8), images(4, 8, seed=1)
    expected = 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1).mean()
    torch.testing.assert_close(content_loss(a, b), expected)
    torch.testing.assert_close(content_loss(3 * a, a), torch.tensor(0.0))


def test_context_loss_is_the_mean_norm_of_the_rows():
    q, f = images(2, 5, 8), images(2, 5, 6, seed=1)
    rows = []
    for b in range(2):
        for i in range(5):
            ours = torch.stack([F.cosine_similarity(q[b, i], q[b, j], dim=0) for j in range(5)])
            theirs = torch.stack([F.cosine_similarity(f[b, i], f[b, j], dim=0) for j in range(5)])
            rows.append((theirs - ours).norm())
    torch.testing.assert_close(context_loss(q, f), torch.stack(rows).mean())
    assert float(context_loss(q, 2 * q)) < 1e-5
