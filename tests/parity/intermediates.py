"""What some goldens hold of the inside of a method, computed from the first window, by the method's base config."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.attention.feedback import smoothed_agreement
from ovseg.attention.outliers import local_outlier_factor
from ovseg.region_maps import resize_regions
from ovseg.stitches import RetrievalStitch, UpsampledStitch
from ovseg.stitches.splice import splice
from ovseg.structures import AttentionContext

if TYPE_CHECKING:
    from tests.parity.measure import Run


def first_context(run: Run) -> AttentionContext:
    """What the attention starts from in the first window."""
    backbone, attention = run.model.backbone, run.model.attention
    return backbone(run.first_batch().windows, attention.needs_inputs_of(len(backbone.tower.blocks)))


@torch.no_grad()
def outliers_by_factor(run: Run) -> dict[str, np.ndarray]:
    """SC-CLIP: flat indices of the outliers, and the factor of every patch."""
    context = first_context(run)
    factors = local_outlier_factor(context.x[:, context.num_prefix :], run.model.attention.neighbours)
    found = run.model.attention.find_outliers(context)[0].nonzero()[:, 0]
    return {"outliers0": found.cpu().numpy(), "lof0": factors[0].cpu().numpy()}


@torch.no_grad()
def outliers_by_attention(run: Run) -> dict[str, np.ndarray]:
    """SFP: row and column of the outliers, in any order."""
    context = first_context(run)
    found: Tensor = run.model.attention.find_outliers(context)[0].unflatten(0, context.grid).nonzero()
    recorded = {tuple(place) for place in run.golden.arrays["outliers0"].tolist()}
    ours = {tuple(place) for place in found.tolist()}
    assert len(ours) == len(recorded), f"{len(ours)} outliers, the golden has {len(recorded)}"
    order = [place for place in map(tuple, run.golden.arrays["outliers0"].tolist()) if place in ours]
    return {"outliers0": np.array(order + sorted(ours - recorded))}


@torch.no_grad()
def feedback(run: Run) -> dict[str, np.ndarray]:
    """ResCLIP: the first pass's probabilities, its patch labels in the golden's numbers, every 7th entry of E before
    its division by the largest, with the class token's row and column."""
    model, stitch, order = run.model, run.model.stitch, torch.tensor(run.order)
    batch = run.first_batch()
    features = stitch.encode(batch, model.encoder)
    cosines = model.queries.products(features["embeddings"])[0]
    window = batch.windows[0]
    first = (stitch.first_pass(cosines, window).block() * stitch.logit_scale).softmax(0)[order]
    labels = stitch.patch_labels(cosines, window, model.encoder.patch_size)
    matrix = F.pad(smoothed_agreement(labels), (1, 0, 1, 0))
    golden_of = order.argsort()
    return {
        "first0": first[:, 8::16, 8::16].cpu().numpy(),
        "patch0": golden_of[labels.long().cpu()].numpy(),
        "sfr0": matrix[::7, ::7].cpu().numpy(),
    }


@torch.no_grad()
def propagation(run: Run) -> dict[str, np.ndarray]:
    """LPOSS: cosines of the first window, its scores after propagation, and the classes' maps."""
    model, kept = run.model, run.kept
    features = model.stitch.encode(run.first_batch(), model.encoder)
    cosines = model.queries.products(features["embeddings"])[0]
    classes = model.head.probabilities(kept["scores"], model.query_to_class, len(model.vocabulary))
    return {
        "clip0": cosines[run.order].cpu().numpy(),
        "lp0": kept["part"][run.order].cpu().numpy(),
        "masks": classes[run.class_order(), 8::16, 8::16].cpu().numpy(),
    }


@torch.no_grad()
def photo_guide(run: Run) -> dict[str, np.ndarray]:
    """CorrCLIPv2: the guide's features of the whole photo, every 16th channel; with a bank what it found, and the
    cosines of that with both CLIPs' words."""
    model, photo, encoder = run.model, run.photo, run.model.encoder
    found = {"vfm_grid": model.guide.dense(photo)[::16].cpu().numpy()}
    if not isinstance(model.stitch, RetrievalStitch):
        return found
    ids = resize_regions(photo.regions, encoder.layout(photo).image_size)
    names, queries = model.guide.region_means(photo, ids)
    neighbours = model.stitch.memory.search(queries, model.stitch.neighbours)
    kept = model.stitch.gather({}, encoder.layout(photo), photo, encoder)
    found |= {
        "region_ids": names.cpu().numpy(),
        "queries": queries.cpu().numpy(),
        "indices": neighbours.rows.cpu().numpy(),
        "distances": neighbours.scores.cpu().numpy(),
        "support_main": (kept["support"] @ model.queries.text.T)[:, run.order].cpu().numpy(),
    }
    if "auxiliary" in kept:
        text = model.stitch.auxiliary_text(model.queries)
        found["support_aux"] = (kept["auxiliary"] @ text.to(kept["auxiliary"]).T)[:, run.order].cpu().numpy()
    return found


@torch.no_grad()
def upsampled(run: Run) -> dict[str, np.ndarray]:
    """SegEarth-OV: features at pixel size, every 32nd channel and 8th pixel."""
    stitch, batch, encoder = run.model.stitch, run.first_batch(), run.model.encoder
    if not isinstance(stitch, UpsampledStitch):
        return {}
    projected = encoder.encode(batch)
    features = projected.patches[0].unflatten(0, projected.grid)
    whole = torch.cat(list(stitch.upsampler.strips(features, batch.windows[0])))
    return {"upsampled": whole[::32, 4::8, 4::8].cpu().numpy()}


@torch.no_grad()
def cosines(run: Run) -> dict[str, np.ndarray]:
    """Talk2DINO, dino.txt: cosines of the first window."""
    features = run.model.stitch.encode(run.first_batch(), run.model.encoder)
    order = run.order[1:] if run.case.constant_background else run.order
    found = run.model.queries.products(features["embeddings"])[0, order].cpu().numpy()
    return dict.fromkeys(("sim0", "cos0"), found)


@torch.no_grad()
def patches(run: Run) -> dict[str, np.ndarray]:
    """VIP: patches of the first window after the last LayerNorm, every 16th number."""
    encoded = run.model.encoder.encode(run.first_batch())
    return {"tokens0": encoded.patches[0, :, ::16].cpu().numpy()}


@torch.no_grad()
def spliced(run: Run) -> dict[str, np.ndarray]:
    """RADSeg: features of the whole photo, spliced and then aggregated, every 16th number."""
    model, encoder, photo = run.model, run.model.encoder, run.photo
    layout = encoder.layout(photo)
    windows = [model.stitch.encode(encoder.cut(photo, layout).row(n), encoder)["tokens"] for n in range(len(layout))]
    whole = splice(torch.cat(windows), layout, encoder.patch_size)
    found = {"splice": whole, "aggregated": model.stitch.aggregated(whole, photo)}
    return {name: features[::16].cpu().numpy() for name, features in found.items()}


INTERMEDIATES: dict[str, Callable[[Run], dict[str, np.ndarray]]] = {
    "scclip": outliers_by_factor,
    "sfp": outliers_by_attention,
    "resclip": feedback,
    "segearth": upsampled,
    "corrclipv2": photo_guide,
    "lposs": propagation,
    "talk2dino": cosines,
    "dinotxt": cosines,
    "vip": patches,
    "radseg": spliced,
}
