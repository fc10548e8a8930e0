"""From photos to features of their windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ovseg.attention.base import LastBlockAttention
from ovseg.backbones.clip import ClipBackbone
from ovseg.photo import Photo
from ovseg.queries import Queries, unit_patches
from ovseg.region_maps import PAD_REGION, resize_regions
from ovseg.structures import AttentionContext, FeatureMap
from ovseg.windows import SlidingWindows, WindowLayout

Features = dict[str, Tensor]
"""What is known of windows or of a photo before any word is: tensors by name, windows first."""


@dataclass
class WindowBatch:
    """Windows of one shape that are encoded together.

    Attributes:
        windows: ``[B, 3, H, W]`` normalised.
        groups: ``[B]`` int64 index of the photo that each window comes from; ``None``: all from one.
        regions: ``[B, H, W]`` region ids in pixels, where the method uses regions.
        guide: ``[B, gh, gw, C]`` unit features of a guide of photo scope; ``None``: the guide looks at the windows.
        layout: how the windows lie, where they are all of one photo's.
    """

    windows: Tensor
    groups: Tensor | None = None
    regions: Tensor | None = None
    guide: Tensor | None = None
    layout: WindowLayout | None = None

    def __len__(self) -> int:
        return len(self.windows)

    def rows(self, wanted: slice) -> WindowBatch:
        """Some of the windows as a batch, without their photo's layout."""
        parts = (self.groups, self.regions, self.guide)
        return WindowBatch(self.windows[wanted], *(None if part is None else part[wanted] for part in parts))

    def row(self, index: int) -> WindowBatch:
        """One of the windows as a batch, without its photo's index."""
        return replace(self.rows(slice(index, index + 1)), groups=None)


@dataclass(frozen=True)
class WindowEncoder:
    """Cuts photos into windows and encodes these: CLIP up to its last block, the method's attention, the projection.

    Attributes:
        windows: cuts.
        backbone: CLIP.
        attention: runs CLIP's last block.
        guide: windows, CLIP's mean and deviation to features that the attention looks at; ``None``: it needs none. A
            guide of scope ``'photo'`` is asked for the windows of a whole photo instead
            (:class:`ovseg.backbones.PhotoGuide`).
        views: encodes each window in several variants (ITACLIP); ``None``: each is seen once.
        engine: RGB windows (0..255) and unit word vectors to cosines, in place of backbone and attention, for windows
            of the sizes that its ``takes`` accepts (:class:`ovseg.export.OnnxEngine`); ``None``: torch.
    """

    windows: SlidingWindows
    backbone: ClipBackbone
    attention: LastBlockAttention
    guide: Callable[[Tensor, Tensor, Tensor], FeatureMap] | None = None
    views: Callable[..., Tensor] | None = None
    engine: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def patch_size(self) -> int:
        return self.backbone.patch_size

    @property
    def splits(self) -> bool:
        """Whether windows may be encoded apart from the others of their photo."""
        return self.attention.window_scope != "image"

    def layout(self, photo: Photo) -> WindowLayout:
        """Where the windows of a photo lie."""
        return self.windows.layout(*photo.image.shape[1:], self.patch_size)

    def cut(self, photo: Photo, layout: WindowLayout) -> WindowBatch:
        """All windows of a photo."""
        batch = WindowBatch(self.windows.cut(photo.image, layout, self.backbone.mean, self.backbone.std))
        if photo.regions is not None:
            ids = resize_regions(photo.regions, layout.image_size)
            batch.regions = self.windows.cut_ids(ids, layout, PAD_REGION)
        if getattr(self.guide, "scope", "window") == "photo":
            batch.guide = self.guide.cut(photo, layout, self.patch_size)
        return batch

    def batches(
        self, photos: Sequence[Photo], layouts: Sequence[WindowLayout]
    ) -> Iterator[tuple[list[int], WindowBatch]]:
        """Batches of at most ``windows.batch`` windows of one shape, with the photo that each window came from.

        Windows of equal shape share batches across photos. Attentions of scope ``'image'`` get all windows of one
        photo, and only those, in a batch.
        """
        pending: dict[tuple, list[tuple[int, WindowBatch]]] = {}
        for i, (photo, layout) in enumerate(zip(photos, layouts, strict=True)):
            cut = self.cut(photo, layout)
            if not self.splits:
                cut.groups, cut.layout = torch.full((len(layout),), i, device=cut.windows.device), layout
                yield [i] * len(layout), cut
                continue
            queue = pending.setdefault((layout.padded, cut.regions is None), [])
            queue.extend((i, cut.row(n)) for n in range(len(layout)))
            while len(queue) >= self.windows.batch:
                yield _stack(queue[: self.windows.batch])
                del queue[: self.windows.batch]
        for queue in pending.values():
            if queue:
                yield _stack(queue)

    def context(self, batch: WindowBatch) -> AttentionContext:
        """What the attention starts from: the guide's features, and CLIP up to its last block."""
        backbone, guide = self.backbone, self.guide_of(batch)
        context = backbone(batch.windows, self.attention.needs_inputs_of(len(backbone.tower.blocks)))
        return replace(context, guide=guide, regions=batch.regions, groups=batch.groups, layout=batch.layout)

    def tokens(self, batch: WindowBatch) -> FeatureMap:
        """Tokens after the last block ``[B, P + N, d]``, not projected yet."""
        context = self.context(batch)
        with self.backbone.settled.last_block():
            return self.attention(context)

    def guide_of(self, batch: WindowBatch) -> FeatureMap | None:
        """The guide's unit features of windows, where there is a guide."""
        if batch.guide is not None:
            return FeatureMap(batch.guide.flatten(1, 2), tuple(batch.guide.shape[1:3]))
        return self.guide(batch.windows, self.backbone.mean, self.backbone.std) if self.guide is not None else None

    def project(self, features: FeatureMap) -> FeatureMap:
        """The attention's tokens as patch embeddings ``[B, N, D]`` in the text space."""
        return self.backbone.project(features, post_norm=self.attention.post_norm)

    def encode(self, batch: WindowBatch) -> FeatureMap:
        """Patch embeddings ``[B, N, D]`` in the text space."""
        return self.project(self.tokens(batch))

    def embed(self, batch: WindowBatch) -> Features:
        """What words are compared with: ``embeddings [B, gh, gw, D]`` float32, whose products with unit vectors are
        cosines, ``objectness [B, gh, gw]`` where the attention reports it, and what else it wants kept."""
        if self.views is not None:
            return {"embeddings": self.views(batch.windows, lambda w: self.encode(replace(batch, windows=w)))}
        if self.engine is not None and self.engine.takes(*batch.windows.shape[-2:]):
            pixels = batch.windows * self.backbone.std + self.backbone.mean
            axes = torch.eye(self.backbone.tower.embed_dim)  # cosines with the axes of the space are the embedding
            return {"embeddings": self.engine(pixels, axes).permute(0, 2, 3, 1).contiguous()}
        encoded = self.encode(batch)
        features = {"embeddings": unit_patches(encoded)}
        features |= encoded.kept or {}
        if encoded.objectness is not None:
            features["objectness"] = encoded.objectness.unflatten(1, encoded.grid)
        return features

    def compare(self, features: Features, queries: Queries) -> Tensor:
        """Scores ``[B, Q, gh, gw]`` of windows that were embedded."""
        embeddings, objectness = features["embeddings"], features.get("objectness")
        scores = queries.scores(queries.products(embeddings))
        if self.attention.rescores:
            scores = self.attention.rescore(scores, features, queries)
        if queries.probability_scale is None or queries.background is None or self.views is not None:
            return scores
        grid = tuple(embeddings.shape[1:3])
        objectness = None if objectness is None else objectness.flatten(1)
        shown = FeatureMap(embeddings.flatten(1, 2), grid, objectness=objectness)
        return self.attention.place_background(scores, shown, queries.background_query())

    def score(self, batch: WindowBatch, queries: Queries) -> Tensor:
        """Scores of windows on their patch grids, ``[B, Q, gh, gw]``."""
        return self.compare(self.embed(batch), queries)


def _stack(queue: Iterable[tuple[int, WindowBatch]]) -> tuple[list[int], WindowBatch]:
    owners, parts = zip(*queue, strict=True)
    groups = torch.tensor(owners, device=parts[0].windows.device)

    def together(name: str) -> Tensor | None:
        rows = [getattr(part, name) for part in parts]
        return None if rows[0] is None else torch.cat(rows)

    return list(owners), WindowBatch(together("windows"), groups, together("regions"), together("guide"))
