"""The one segmentor that runs every method of the family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import PixelData
from torch import Tensor

from ovseg.content import Fingerprint, weights_of
from ovseg.photo import Evidence, Photo
from ovseg.regions.maps import PAD_REGION, resize_regions
from ovseg.registry import ATTENTIONS, BACKBONES, GUIDES, HEADS, MODELS, REFINERS, REGIONS, STITCHES, VIEWS, construct
from ovseg.scores import RefinedScoreMap, ScoreMap
from ovseg.structures import FeatureMap
from ovseg.text import TextEncoder, Vocabulary
from ovseg.text.auxiliary import AuxiliaryText
from ovseg.windows import SlidingWindows, WindowLayout


@MODELS.register_module()
class OpenVocabSegmentor(BaseModel):
    """Photo and vocabulary in, a class per pixel out (training-free methods).

    windows -> CLIP with the method's attention -> cosine with the text -> stitch -> refiners -> head. A method is a
    config of these parts.

    Args:
        backbone: config of a registered backbone, e.g. ``dict(type='ClipBackbone', weights='openai/ViT-B-16')``.
        attention: config of a registered attention.
        vocabulary: see :meth:`ovseg.text.Vocabulary.of`; ``None``: call :meth:`set_vocabulary`.
        templates: name of a template set or a list of templates with ``{}``.
        windows: arguments of :class:`ovseg.windows.SlidingWindows`.
        probability_scale: ``None``: cosines are stitched. A number: softmax(number * cosine) over the queries is taken
            on the patch grid and probabilities are stitched (MaskCLIP, CLIP-DINOiser: 100).
        guide: config of a registered guide (DINO): features of every window that the attention looks at.
        regions: config of a registered region source (SAM masks, SLIC): region ids of every photo that does not bring
            its own.
        photo_encoder: config of a registered backbone that encodes the photo as a whole, once, for the stitch and the
            refiners that want it (SAM in Trident).
        stitch: config of a registered stitch; default: window scores are averaged.
        views: optional registered component that encodes each window in several variants (ITACLIP).
        refiners: configs of registered refiners, applied in order at the photo's size.
        label_refiners: configs of registered refiners that are called with the final labels and the :class:`Photo` and
            give better labels (ITACLIP's morphological closing).
        auxiliary_text: arguments of :class:`ovseg.text.auxiliary.AuxiliaryText`: a further text per class, mixed into
            the embedding of its names (ITACLIP).
        head: config of a registered head.
        text_cache: folder of the text-embedding cache; ``None``: the default folder; ``False``: no cache.
        supervision: what the parts were trained on, for the result row.
        data_preprocessor, init_cfg, train_cfg, test_cfg, pretrained: MMEngine's and MMSegmentation's habits.

    Raises:
        ValueError: when images are given before a vocabulary.
    """

    @torch.inference_mode(False)  # parts and buffers made in it could never be trained
    def __init__(
        self,
        backbone: dict,
        attention: dict,
        vocabulary: dict | None = None,
        templates: str | Sequence[str] = "openai_80",
        windows: dict | None = None,
        probability_scale: float | None = None,
        guide: dict | None = None,
        regions: dict | None = None,
        photo_encoder: dict | None = None,
        stitch: dict | None = None,
        views: dict | None = None,
        refiners: Sequence[dict] = (),
        label_refiners: Sequence[dict] = (),
        auxiliary_text: dict | None = None,
        head: dict | None = None,
        text_cache: str | Path | bool | None = None,
        supervision: str = "CLIP: image-text pairs",
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        pretrained: str | None = None,
    ) -> None:
        # images arrive as lists of different sizes: the preprocessor only moves them to the device
        super().__init__(data_preprocessor or BaseDataPreprocessor(non_blocking=True), init_cfg)
        self.backbone = BACKBONES.build(backbone)
        self.attention = ATTENTIONS.build(attention)
        self.windows = construct(SlidingWindows, windows, "windows")
        self.guide = GUIDES.build(guide) if guide else None
        self.regions = REGIONS.build(regions) if regions else None
        self.photo_encoder = BACKBONES.build(photo_encoder) if photo_encoder else None
        self.stitch = STITCHES.build(stitch or dict(type="ScoreStitch"))
        self.views = VIEWS.build(views) if views else None
        self.refiners = [REFINERS.build(r) for r in refiners]
        self.label_refiners = [REFINERS.build(r) for r in label_refiners]
        self.auxiliary_text = construct(AuxiliaryText, auxiliary_text, "auxiliary_text") if auxiliary_text else None
        self.head = HEADS.build(head or dict(type="MaxQueryHead"))
        self.probability_scale, self.supervision = probability_scale, supervision
        self.text_encoder = TextEncoder(
            self.backbone.clip,
            self.backbone.tokenizer,
            templates=templates,
            cache_dir=text_cache or None,
            cache=text_cache is not False,
        )
        self.vocabulary: Vocabulary | None = None
        self._encoded_by: str | None = None  # fingerprint of the text tower that made `text`
        self._content = Fingerprint(self._weights)
        self.register_buffer("text", torch.zeros(0, self.backbone.tower.embed_dim), persistent=False)
        self.register_buffer("query_to_class", torch.zeros(0, dtype=torch.long), persistent=False)
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    # ------------------------------------------------------------------ vocabulary
    @torch.inference_mode(False)  # the words outlive the call
    def set_vocabulary(
        self, vocabulary: Vocabulary | str | Sequence | Mapping, embeddings: Tensor | None = None
    ) -> None:
        """Choose the words; encoded once, and cached on disk.

        Args:
            vocabulary: a :class:`Vocabulary`, or what :meth:`Vocabulary.of` makes one from: names (``'sofa; couch'``
                gives one class two queries), a packaged name, a class file, a mapping of names to synonyms.
            embeddings: ``[Q, D]`` unit vectors to use instead of encoding the queries.
        """
        vocabulary = Vocabulary.of(vocabulary)
        encoded_by = None
        if embeddings is not None:
            text = embeddings.clone() if embeddings.is_inference() else embeddings
        else:
            encoded_by = self.text_encoder.fingerprint()
            text = self.text_encoder.encode(vocabulary)
            if self.auxiliary_text is not None:
                text = self.auxiliary_text.mix(text, vocabulary, self.text_encoder)
        if text.shape[0] != len(vocabulary.queries):
            raise ValueError(f"{text.shape[0]} text embeddings for {len(vocabulary.queries)} queries")
        device = self.backbone.mean.device
        self.vocabulary, self._encoded_by = vocabulary, encoded_by
        self.text = text.to(device, torch.float32)
        self.query_to_class = vocabulary.query_to_class.to(device)

    def follow_weights(self) -> None:
        """Embed the words again if CLIP's text tower has changed since; prediction does it by itself.

        Embeddings that were given to :meth:`set_vocabulary` stay as they are.
        """
        if self._encoded_by is not None and self._encoded_by != self.text_encoder.fingerprint():
            self.set_vocabulary(self.vocabulary)

    # ------------------------------------------------------------------ pipeline
    def prepare(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Photo:
        """One uint8 RGB image ``[3, h, w]`` made ready; see :class:`Photo`."""
        if original is not None:
            original = original.to(self.backbone.mean.device)
        photo = Photo(self.windows.fit(self.backbone.normalise(image)), size, original, regions, self.photo_encoder)
        if regions is None:
            photo.regions = self.find_regions(photo)
        if photo.regions is not None:
            if tuple(photo.regions.shape) != tuple(size):
                raise ValueError(
                    f"region map of {tuple(photo.regions.shape)} for a photo of {tuple(size)}: region ids must be "
                    "given at the photo's original size"
                )
            photo.regions = photo.regions.to(self.backbone.mean.device)
        return photo

    def find_regions(self, photo: Photo) -> Tensor | None:
        """Region ids ``[H, W]`` of a photo that brings none; ``None`` without a region source."""
        return None if self.regions is None else self.regions(photo.require_original())

    def tokens(self, windows: Tensor, groups: Tensor | None = None, regions: Tensor | None = None) -> FeatureMap:
        """``[B, 3, H, W]`` normalised windows to tokens after the last block, not projected yet."""
        guide = self.guide(windows, self.backbone.mean, self.backbone.std) if self.guide is not None else None
        return self.backbone(windows, self.attention, guide=guide, groups=groups, regions=regions)

    def encode(self, windows: Tensor, groups: Tensor | None = None, regions: Tensor | None = None) -> FeatureMap:
        """``[B, 3, H, W]`` normalised windows to patch embeddings ``[B, N, D]`` in the text space."""
        return self.backbone.project(self.tokens(windows, groups, regions), post_norm=self.attention.post_norm)

    def classify(self, features: FeatureMap) -> Tensor:
        """Cosine of every patch with every query, ``[B, Q, gh, gw]`` float32."""
        tokens = F.normalize(features.patches.float(), dim=-1)
        return (self.text @ tokens.transpose(1, 2)).unflatten(2, features.grid)

    def score_windows(self, windows: Tensor, groups: Tensor | None = None, regions: Tensor | None = None) -> Tensor:
        """Scores of normalised windows on their patch grids, ``[B, Q, gh, gw]``."""
        if self.views is not None:
            return self.to_scores(self.views(windows, lambda w: self.encode(w, groups, regions), self.classify))
        features = self.encode(windows, groups, regions)
        return self.to_scores(self.classify(features), features)

    def to_scores(self, cosines: Tensor, features: FeatureMap | None = None) -> Tensor:
        """What is stitched: the cosines ``[B, Q, gh, gw]``, or probabilities with ``probability_scale``."""
        if self.probability_scale is None:
            return cosines
        scores = (cosines * self.probability_scale).softmax(dim=1)
        if features is not None and self.vocabulary is not None and self.vocabulary.background is not None:
            background = int((self.query_to_class == self.vocabulary.background).nonzero()[0])
            scores = self.attention.place_background(scores, features, background)
        return scores

    def score(self, photos: Sequence[Photo]) -> list[ScoreMap | RefinedScoreMap]:
        """Score maps of photos at their wanted sizes; windows of equal shape share batches across photos."""
        self.follow_weights()
        patch = self.backbone.patch_size
        layouts = [self.windows.layout(*p.image.shape[1:], patch) for p in photos]
        parts: list[list[Tensor]] = [[] for _ in photos]
        for windows, owners, regions in self._batches(photos, layouts):
            groups = torch.tensor(owners, device=windows.device)
            for owner, part in zip(owners, self.stitch.compute(self, windows, groups, regions), strict=True):
                parts[owner].append(part)
        maps = []
        for photo, layout, windows in zip(photos, layouts, parts, strict=True):
            score_map = self.stitch.merge(self, torch.stack(windows), layout, photo)
            maps.append(self.refine(score_map, photo))
        return maps

    def refine(self, scores: ScoreMap | RefinedScoreMap, photo: Photo) -> ScoreMap | RefinedScoreMap:
        """The refiners in order, lazily: they run when the head asks for blocks."""
        for refiner in self.refiners:
            guide = F.interpolate(photo.image[None], size=photo.size, mode="bilinear", align_corners=False)[0]
            scores = RefinedScoreMap(scores, _Apply(refiner, refiner.prepare(guide)))
        return scores

    def _batches(
        self, photos: Sequence[Photo], layouts: Sequence[WindowLayout]
    ) -> Iterator[tuple[Tensor, list[int], Tensor | None]]:
        """Batches of at most ``windows.batch`` windows of one shape: windows, the photo each came from, region ids.

        Attentions of scope ``'image'`` get all windows of one photo, and only those, in a batch.
        """
        mean, std = self.backbone.mean, self.backbone.std
        whole = self.attention.window_scope == "image"
        pending: dict[tuple, list[tuple[int, Tensor, Tensor | None]]] = {}
        for i, (photo, layout) in enumerate(zip(photos, layouts, strict=True)):
            windows = self.windows.cut(photo.image, layout, mean, std)
            ids = None
            if photo.regions is not None:
                ids = self.windows.cut_ids(resize_regions(photo.regions, layout.image_size), layout, PAD_REGION)
            if whole:
                yield windows, [i] * len(windows), ids
                continue
            queue = pending.setdefault((layout.padded, ids is None), [])
            queue.extend((i, w, None if ids is None else ids[n]) for n, w in enumerate(windows))
            while len(queue) >= self.windows.batch:
                yield _stack(queue[: self.windows.batch])
                del queue[: self.windows.batch]
        for queue in pending.values():
            if queue:
                yield _stack(queue)

    @torch.no_grad()
    def predict(self, photos: Sequence[Photo]) -> list[Tensor]:
        """Labels ``[H, W]`` int32 per photo.

        Raises:
            ValueError: if no vocabulary was set.
        """
        if self.vocabulary is None:
            raise ValueError("no vocabulary: give `vocabulary` in the config or call set_vocabulary([...]) first")
        classes = len(self.vocabulary)
        results = []
        for scores, photo in zip(self.score(photos), photos, strict=True):
            labels = self.head(scores, self.query_to_class, classes)
            photo.evidence = Evidence(scores, self.head, self.query_to_class, classes)
            for refiner in self.label_refiners:
                labels = refiner(labels, photo)
            results.append(labels)
        return results

    # ------------------------------------------------------------------ MMEngine
    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence | None = None,
        mode: str = "predict",
        original: Sequence[Tensor] | None = None,
        regions: Sequence[Tensor] | None = None,
    ) -> list:
        """MMEngine's entry: uint8 RGB images of any sizes, data samples with ``ori_shape``.

        Returns:
            the data samples with ``pred_sem_seg`` (int32 ``[1, H, W]`` at the original size).

        Raises:
            ValueError: for modes other than ``'predict'``: these methods have nothing to train.
        """
        if mode != "predict":
            raise ValueError(f"mode {mode!r}: {type(self).__name__} is training-free; only 'predict' is defined")
        extras = zip(original or [None] * len(inputs), regions or [None] * len(inputs), strict=True)
        photos = [
            self.prepare(image, tuple(sample.ori_shape[:2]), first, ids)
            for image, sample, (first, ids) in zip(inputs, data_samples, extras, strict=True)
        ]
        for sample, labels in zip(data_samples, self.predict(photos), strict=True):
            sample.pred_sem_seg = PixelData(data=labels[None])
        return list(data_samples)

    def describe(self) -> dict[str, object]:
        """What must travel with every result of this model (see the protocol in ``docs/evaluation.md``)."""
        return {
            "attention": repr(self.attention),
            "guide": self.guide.describe() if self.guide else None,
            "regions": self.regions.describe() if self.regions else None,
            "photo_encoder": self.photo_encoder.describe() if self.photo_encoder else None,
            "stitch": repr(self.stitch),
            "weights": self.backbone.weights,
            "weights_sha256": self.backbone.sha256,
            "weights_content": self._content(),
            "precision": self.backbone.precision,
            "pos_embed": self.backbone.pos_embed,
            "vocabulary_hash": self.vocabulary.content_hash if self.vocabulary else None,
            "templates": self.text_encoder.templates.name,
            "probability_scale": self.probability_scale,
            "refiners": [repr(r) for r in (*self.refiners, *self.label_refiners)],
            "auxiliary_text": repr(self.auxiliary_text) if self.auxiliary_text else None,
            "supervision": self.supervision_of_parts(),
            **self.windows.describe(),
            **self.head.describe(),
        }

    def _weights(self) -> dict[str, Tensor]:
        return weights_of(self)

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


def _stack(queue: Iterable[tuple[int, Tensor, Tensor | None]]) -> tuple[Tensor, list[int], Tensor | None]:
    owners, windows, regions = zip(*queue, strict=True)
    return torch.stack(windows), list(owners), None if regions[0] is None else torch.stack(regions)
