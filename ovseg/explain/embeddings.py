"""The patch embeddings of a photo: their main directions as colours, and the one at a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from ovseg.encoded import EncodedImage
from ovseg.segmentors import OpenVocabSegmentor
from ovseg.segmentors.records import EncodedPhoto


@dataclass(frozen=True)
class EmbeddingColours:
    """The three main directions of a photo's patch embeddings as red, green and blue.

    Attributes:
        picture: uint8 ``[H, W, 3]``.
        explained: the share of the embeddings' variance that lies along each of them.
    """

    picture: np.ndarray
    explained: tuple[float, float, float]


def training_free(encoded: EncodedImage) -> tuple[OpenVocabSegmentor, EncodedPhoto]:
    """:meth:`EncodedImage.opened` for what only methods have that compare patches with words.

    Raises:
        ValueError: for a model with a trained decoder.
    """
    model, record = encoded.opened()
    if not isinstance(model, OpenVocabSegmentor):
        raise ValueError(
            f"{type(model).__name__} decides by a trained decoder: neither its last block nor its patches are compared "
            "with words; heat maps and errors are for it too"
        )
    return model, record


def patch_embeddings(record: EncodedPhoto) -> Tensor:
    """What words are compared with, ``[n, gh, gw, D]`` for n windows (or one whole photo); of several layers the last.

    Raises:
        ValueError: for a photo all of whose pixels lie in masks, which have embeddings of their own (SAM + CLIP).
    """
    found = record.features.get("embeddings")
    if found is None:
        raise ValueError(
            "this photo has no patch embeddings: its method looks at masks only; try one that looks at patches"
        )
    return found[:, -1] if found.ndim == 5 else found


def at_photo_size(encoded: EncodedImage, values: Tensor, rows: slice, columns: slice) -> Tensor:
    """Numbers of patches ``[n, gh, gw, q]`` where the method's stitch puts scores: ``[q, rows, columns]``."""
    model, record = training_free(encoded)
    scores = model.stitch.merge(values.permute(0, 3, 1, 2).contiguous(), record.layout, record.photo)
    return scores.block(rows=rows, columns=columns)


@torch.no_grad()
def embedding_colours(encoded: EncodedImage) -> EmbeddingColours:
    """Principal components of the patch embeddings of a photo as colours: like colours, like embeddings.

    Each component is stretched so that its 1st and 99th percentile over the photo are black and full.

    Args:
        encoded: the photo, from :meth:`ovseg.Segmenter.encode`.

    Raises:
        ValueError: for a photo without patch embeddings.
    """
    _, record = training_free(encoded)
    embeddings = patch_embeddings(record)
    flat = embeddings.flatten(0, 2).float().cpu().numpy()
    count = min(3, *flat.shape)
    fitted = PCA(count, svd_solver="full").fit(flat)
    components = torch.from_numpy(fitted.transform(flat)).to(embeddings)
    shown = (
        at_photo_size(encoded, components.unflatten(0, embeddings.shape[:3]), slice(None), slice(None)).cpu().numpy()
    )
    picture = np.zeros((*shown.shape[1:], 3), np.uint8)
    explained = [0.0, 0.0, 0.0]
    for channel, (values, share) in enumerate(zip(shown, np.nan_to_num(fitted.explained_variance_ratio_), strict=True)):
        low, high = np.percentile(values, (1, 99))
        picture[..., channel] = np.clip((values - low) / max(high - low, 1e-12) * 255, 0, 255)
        explained[channel] = float(share)
    return EmbeddingColours(picture, tuple(explained))


def embedding_at(encoded: EncodedImage, at: tuple[int, int]) -> Tensor:
    """The embedding ``[D]`` at a pixel ``(x, y)``: patches' unit vectors, interpolated and averaged as scores are.

    Its product with a word's unit vector is the stitched cosine there.
    """
    _, record = training_free(encoded)
    x, y = at
    return at_photo_size(encoded, patch_embeddings(record), slice(y, y + 1), slice(x, x + 1))[:, 0, 0]
