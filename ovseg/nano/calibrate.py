"""How far nano-photo's confidence can be trusted: ``python -m ovseg.nano.calibrate [--root ../shared/data]``.

Photos that no training saw (``photos64``, part ``val``) fill a window each; the cells in the middle are asked which of
the 200 classes they show. The factor on the cosines (the head's ``logit_scale``) with the smallest
negative log-likelihood is the calibrated one (temperature scaling: Guo et al., ICML 2017, section 4.2).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.nano.photo_scenes import CELL, crop
from ovseg.nano.photo_sources import LabelledPhotos
from ovseg.nano.wordnet import read_names
from ovseg.segmentors import OpenVocabSegmentor

SCALES = tuple(range(4, 82, 2))
BINS = 10
PUBLISHED_SCALE = 40.0
"""Of NACLIP and most others."""
WINDOW = 256


def likelihood(cosines: Tensor, labels: Tensor, scale: float) -> float:
    """Mean negative log-likelihood of ``labels [n]`` under ``softmax(scale * cosines [n, classes])``, in nats."""
    return float(F.cross_entropy(cosines * scale, labels))


def calibration_error(cosines: Tensor, labels: Tensor, scale: float) -> float:
    """Expected calibration error in 0..1: confidence and hit rate apart, in ten bins of confidence (Guo et al., 2)."""
    sure, guess = (cosines * scale).softmax(dim=1).max(dim=1)
    hit = (guess == labels).float()
    which = (sure * BINS).long().clamp(max=BINS - 1)
    apart = [(sure[which == b].mean() - hit[which == b].mean()).abs() * (which == b).sum() for b in which.unique()]
    return float(sum(apart) / len(labels))


def best_scale(cosines: Tensor, labels: Tensor) -> float:
    """The factor of :data:`SCALES` with the smallest negative log-likelihood."""
    return float(min(SCALES, key=lambda scale: likelihood(cosines, labels, scale)))


@torch.no_grad()
def cosines_of(model: OpenVocabSegmentor, photos: LabelledPhotos, names: dict[int, str], count: int) -> tuple:
    """Cosines ``[n, classes]`` of cells with ``names`` and their labels ``[n]``.

    Args:
        model: of windows of 256 px.
        photos: labelled photos.
        names: ImageNet class -> word.
        count: number of photos, spread over all.
    """
    model.set_vocabulary(list(names.values()))
    index = {label: i for i, label in enumerate(names)}
    rng, inner = np.random.default_rng(0), slice(WINDOW // CELL // 4, WINDOW // CELL * 3 // 4)
    found, labels = [], []
    for i in np.linspace(0, len(photos) - 1, count).astype(int):
        window = crop(rng, photos.image(int(i)), (WINDOW, WINDOW), 1.0, 1.0)
        photo = model.prepare(torch.from_numpy(window.copy()).permute(2, 0, 1), window.shape[:2])
        part = model.score([photo])[0].cells[:, inner, inner].flatten(1).T
        found.append(part)
        labels.append(torch.full((len(part),), index[int(photos.classes[i])]))
    return torch.cat(found), torch.cat(labels)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder with photos64")
    parser.add_argument("--method", default="naclip")
    parser.add_argument("--checkpoint", help="weights file instead of the shipped one")
    parser.add_argument("--photos", type=int, default=800)
    args = parser.parse_args()
    from ovseg.apis import Segmenter

    model = Segmenter("nano-photo", args.method, checkpoint=args.checkpoint, device="cpu").model
    photos = LabelledPhotos(args.root / "photos64", "val")
    names = read_names()
    words: dict[int, str] = {}
    for label in sorted(set(photos.classes.tolist()) - {-1}):
        words[label] = next(word for word in names[label].own if word not in words.values())
    cosines, labels = cosines_of(model, photos, words, args.photos)
    hits = float((cosines.argmax(dim=1) == labels).float().mean())
    print(f"{len(labels)} cells, {len(words)} words: {hits:.1%} right")
    for scale in dict.fromkeys((PUBLISHED_SCALE, model.head.logit_scale, best_scale(cosines, labels))):
        loss, error = likelihood(cosines, labels, scale), calibration_error(cosines, labels, scale)
        print(f"logit_scale {scale:g}: negative log-likelihood {loss:.3f}, calibration error {error:.3f}")


if __name__ == "__main__":
    main()
