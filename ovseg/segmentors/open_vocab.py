"""The one segmentor that runs every method of the family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.describing import plain
from ovseg.encoder import Features, WindowBatch, WindowEncoder
from ovseg.float32 import exact_convolutions
from ovseg.out_of_memory import Halving, told_when_out_of_memory
from ovseg.photo import Photo
from ovseg.registry import (
    ATTENTIONS,
    BACKBONES,
    ENGINES,
    GUIDES,
    MODELS,
    REFINERS,
    REGIONS,
    STITCHES,
    VIEWS,
    construct,
)
from ovseg.scores import AnyScoreMap, RefinedScoreMap
from ovseg.segmentors.photos import PhotoSegmentor
from ovseg.segmentors.records import EncodedPhoto, Wording
from ovseg.stitches.average import ScoreStitch
from ovseg.weights.needed import told_together
from ovseg.windows import SlidingWindows


@MODELS.register_module()
class OpenVocabSegmentor(PhotoSegmentor):
    """Photo and vocabulary in, a class per pixel out (training-free methods).

    windows -> CLIP with the method's attention -> cosine with the text -> stitch -> refiners -> head -> label refiners.
    A method is a config of these parts.

    Args:
        attention: config of a registered attention.
        windows: arguments of :class:`ovseg.windows.SlidingWindows`.
        guide: config of a registered guide (DINO): features of every window that the attention looks at.
        regions: config of a registered region source (SAM masks, SLIC): region ids of every photo that does not bring
            its own.
        photo_encoder: config of a registered backbone that encodes the photo as a whole, once, for the stitch and the
            refiners that want it (SAM in Trident).
        views: optional registered component that encodes each window in several variants (ITACLIP).
        stitch: config of a registered stitch; default: window scores are averaged.
        probability_scale: ``None``: cosines are stitched. A number: softmax(number * cosine) over the queries is taken
            on the patch grid and probabilities are stitched (MaskCLIP, CLIP-DINOiser: 100).
        queries_apart: sigmoid in the place of this softmax (Talk2DINO, with a scale of 1).
        refiners: configs of registered refiners, applied in order at the photo's size.
        head: config of a registered head.
        label_refiners: configs of registered refiners that are called with the final labels, the :class:`Photo` and
            the :class:`Evidence` of the labels, and give better labels (ITACLIP's morphological closing).
        supervision: what the parts were trained on, for the result row.
        engine: config of a registered engine that computes windows' scores in place of torch.
        **words: ``backbone``, ``vocabulary``, ``templates``, ``auxiliary_text``, ``keep_length``, ``text_cache`` and
            MMEngine's habits: see :class:`ovseg.segmentors.words.WordModel`.

    Raises:
        ValueError: when images are given before a vocabulary.
    """

    @torch.inference_mode(False)  # parts and buffers made in it could never be trained
    def __init__(
        self,
        *,
        attention: dict,
        windows: dict | None = None,
        guide: dict | None = None,
        regions: dict | None = None,
        photo_encoder: dict | None = None,
        views: dict | None = None,
        stitch: dict | None = None,
        probability_scale: float | None = None,
        queries_apart: bool = False,
        refiners: Sequence[dict] = (),
        head: dict | None = None,
        label_refiners: Sequence[dict] = (),
        supervision: str = "CLIP: image-text pairs",
        engine: dict | None = None,
        **words: Any,
    ) -> None:
        parts = (words.get("backbone"), attention, guide, regions, photo_encoder, stitch)
        with told_together(*parts):  # missing weights are named all at once
            super().__init__(head=head, label_refiners=label_refiners, **words)
            self.attention = ATTENTIONS.build(attention)
            self.windows = construct(SlidingWindows, windows, "windows")
            self.guide = GUIDES.build(guide) if guide else None
            self.regions = REGIONS.build(regions) if regions else None
            self.photo_encoder = BACKBONES.build(photo_encoder) if photo_encoder else None
            self.views = VIEWS.build(views) if views else None
            self.stitch = STITCHES.build(stitch or dict(type="ScoreStitch"))
            self.probability_scale, self.queries_apart = probability_scale, queries_apart
            self.refiners = [REFINERS.build(r) for r in refiners]
        if queries_apart and probability_scale is None:
            raise ValueError("queries_apart needs a probability_scale: sigmoid(scale * cosine) is taken")
        if self.attention.rescores and (type(self.stitch) is not ScoreStitch or self.views is not None):
            raise ValueError(
                f"{type(self.attention).__name__} changes the scores of windows, which {type(self.stitch).__name__} "
                "does not compute this way; use ScoreStitch and no views"
            )
        self.supervision = supervision
        self.engine = ENGINES.build(engine) if engine else None
        self._halving = Halving()

    @property
    def finds_background(self) -> bool:
        return self.attention.background

    # ------------------------------------------------------------------ what the parts are given
    @property
    def encoder(self) -> WindowEncoder:
        """From photos to features of their windows.

        Raises:
            ExportError: if an engine is set that was made of other weights or another attention.
        """
        if self.engine is not None:
            self.engine.check_fits(self.weights_content(), repr(self.attention))
        return WindowEncoder(self.windows, self.backbone, self.attention, self.guide, self.views, self.engine)

    # ------------------------------------------------------------------ pipeline
    def prepare(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Photo:
        """One uint8 RGB image ``[3, h, w]`` made ready; see :class:`Photo`."""
        if original is not None:
            original = original.to(self.backbone.mean.device)
        photo = Photo(self.windows.fit(self.backbone.normalise(image)), size, original, encoder=self.photo_encoder)
        photo.regions = self.find_regions(photo) if regions is None else regions
        if photo.regions is not None:
            if tuple(photo.regions.shape) != tuple(size):
                raise ValueError(
                    f"region map of {tuple(photo.regions.shape)} for a photo of {tuple(size)}: region ids must be "
                    "given at the photo's original size"
                )
            photo.regions = photo.regions.to(self.backbone.mean.device)
        return photo

    def find_regions(self, photo: Photo) -> Tensor | None:
        """Region ids ``[H, W]`` of a photo that brings none, where the method has a source of regions."""
        return self.regions(photo.require_original()) if self.regions is not None else None

    @exact_convolutions()
    @torch.no_grad()
    def encode(self, photos: Sequence[Photo]) -> list[EncodedPhoto]:
        """Everything that needs no word; windows of equal shape share batches across photos.

        Where memory does not hold a batch of windows, it is halved, and so are later ones.

        Raises:
            OutOfMemory: if memory does not hold one window, or all of a photo where the attention needs all of them.
        """
        with told_when_out_of_memory([photo.size for photo in photos]):
            return self._encode_windows(photos)

    def _encode_windows(self, photos: Sequence[Photo]) -> list[EncodedPhoto]:
        encoder = self.encoder
        layouts = [encoder.layout(photo) for photo in photos]
        waiting: list[list[Features]] = [[] for _ in photos]
        found: dict[int, EncodedPhoto] = {}
        for owners, batch in encoder.batches(photos, layouts):
            features = self._features_of(batch, encoder)
            for row, owner in enumerate(owners):
                own, photo, layout = waiting[owner], photos[owner], layouts[owner]
                own.append({name: tensor[row] for name, tensor in features.items()})
                if len(own) == len(layout):
                    whole = {name: torch.stack([window[name] for window in own]) for name in features}
                    own.clear()
                    found[owner] = EncodedPhoto(photo, layout, self.stitch.gather(whole, layout, photo, encoder))
        return [found[owner] for owner in range(len(photos))]

    def _features_of(self, batch: WindowBatch, encoder: WindowEncoder) -> Features:
        if not encoder.splits:
            return self.stitch.encode(batch, encoder)
        return self._halving(batch, lambda part: self.stitch.encode(part, encoder))

    def score_map(self, encoded: EncodedPhoto, wording: Wording) -> AnyScoreMap:
        """The score map of an encoded photo, with the refiners around it."""
        scores = self.stitch.score(encoded.features, self.encoder, wording.queries)
        return self.refine(self.stitch.merge(scores, encoded.layout, encoded.photo), encoded.photo)

    def refine(self, scores: AnyScoreMap, photo: Photo) -> AnyScoreMap:
        """The refiners in order, lazily: they run when the head asks for blocks."""
        for refiner in self.refiners:
            guide = F.interpolate(photo.image[None], size=photo.size, mode="bilinear", align_corners=False)[0]
            scores = RefinedScoreMap(scores, _Apply(refiner, refiner.prepare(guide)))
        return scores

    def describe(self) -> dict[str, object]:
        """What must travel with every result of this model (see the protocol in ``docs/evaluation.md``)."""
        facts = {
            "attention": repr(self.attention),
            "guide": self.guide.describe() if self.guide else None,
            "regions": self.regions.describe() if self.regions else None,
            "photo_encoder": self.photo_encoder.describe() if self.photo_encoder else None,
            "stitch": repr(self.stitch),
            "weights": self.backbone.weights,
            "weights_sha256": self.backbone.sha256,
            "weights_content": self.weights_content(),
            "precision": str(self.backbone.settled),
            "pos_embed": self.backbone.pos_embed,
            "vocabulary_hash": self.vocabulary.content_hash if self.vocabulary else None,
            "templates": self.text_encoder.templates.name,
            "probability_scale": self.probability_scale,
            **({"queries_apart": True} if self.queries_apart else {}),
            **({"keep_length": True} if self.text_encoder.keep_length else {}),
            "refiners": [repr(r) for r in (*self.refiners, *self.label_refiners)],
            "auxiliary_text": repr(self.auxiliary_text) if self.auxiliary_text else None,
            "engine": repr(self.engine) if self.engine else None,
            "supervision": self.supervision_of_parts(),
            **self.windows.describe(),
            **self.head.describe(),
        }
        return plain(facts)

    def supervision_of_parts(self) -> str:
        """What each part was trained on: training-free CLIP on top of trained masks is not training-free as a whole."""
        parts = [self.supervision]
        parts += [p.supervision for p in (self.guide, self.regions, self.photo_encoder) if p is not None]
        return "; ".join(dict.fromkeys(parts))


class _Apply:
    """A refiner with the state it prepared for one photo."""

    def __init__(self, refiner, state) -> None:
        self.refiner, self.state = refiner, state

    def __call__(self, scores: Tensor) -> Tensor:
        return self.refiner.apply(self.state, scores)
