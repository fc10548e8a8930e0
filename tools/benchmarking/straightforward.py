"""Whole methods the straightforward way, as their official code is structured: readable definitions, slow on purpose.

One window at a time, fp32, per-head N x N matrices, masks as dense matrices of minus infinity, every query's map at
full resolution, then softmax, maximum over synonyms, threshold and argmax. Written from the papers; it shares weights
and settings with the :class:`ovseg.segmentors.OpenVocabSegmentor` it is made from and must give the same labels
(``tests/tools/benchmarking``). It is the slow side of ``tools/benchmark.py --bars``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.cluster import DBSCAN
from torch import Tensor

from ovseg.backbones.sam import SamEncoding
from ovseg.ops.reference import neighbour_bias, pamr_affinity, pamr_apply
from ovseg.photo import Photo
from ovseg.region_maps import PAD_REGION, resize_regions
from ovseg.segmentors import OpenVocabSegmentor
from tools.benchmarking.encoders import (
    clip_embed,
    clip_qkv,
    dino_features,
    explicit_attention,
    merge_heads,
    sam_tile,
    split_heads,
)


class Straightforward:
    """What the methods share: sliding windows, and from query maps to labels.

    Args:
        model: gives weights (in fp32), vocabulary and settings.
    """

    def __init__(self, model: OpenVocabSegmentor) -> None:
        self.model = model
        self.mean, self.std = model.backbone.mean, model.backbone.std
        self.place: tuple[slice, slice] = (slice(None), slice(None))  # rows and columns of the window at work
        self.take_tower()

    def take_tower(self) -> None:
        """The image encoder's own modules: open_clip's."""
        self.visual = self.model.backbone.clip.visual
        *self.early, self.last = self.visual.transformer.resblocks
        self.heads, self.scale = self.last.attn.num_heads, self.last.attn.head_dim**-0.5

    @torch.no_grad()
    def __call__(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Tensor:
        """Labels ``[H, W]``.

        Args:
            image: uint8 RGB ``[3, h, w]``, resized by the data pipeline.
            size: ``(H, W)`` of the labels.
            original: uint8 RGB ``[3, H, W]``, for methods that look at the whole photo.
            regions: region ids ``[H, W]``, for methods that use them.
        """
        pixels = (image.float() - self.mean) / self.std
        ids = None if regions is None else resize_regions(regions, tuple(pixels.shape[1:]))
        return self.decide(self.refine(self.resized(self.slide(pixels, ids), size), pixels, size))

    def resized(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Every map ``[Q, h, w]`` at the photo's size."""
        return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]

    @property
    def count(self) -> int:
        """Number of maps that are averaged over windows."""
        return len(self.model.text)

    # ------------------------------------------------------------------ windows
    def slide(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        """Scores of every query at every pixel of the resized image, averaged over the windows: ``[Q, h, w]``."""
        height, width = pixels.shape[1:]
        windows = self.model.windows
        crop = windows.crop or max(height, width)
        stride = windows.stride or crop
        total = pixels.new_zeros(self.count, height, width)
        visits = pixels.new_zeros(height, width)
        for row in range(max(height - crop + stride - 1, 0) // stride + 1):
            for column in range(max(width - crop + stride - 1, 0) // stride + 1):
                bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
                rows, columns = slice(max(bottom - crop, 0), bottom), slice(max(right - crop, 0), right)
                here = None if ids is None else ids[rows, columns]
                self.place = rows, columns
                total[:, rows, columns] += self.window(pixels[:, rows, columns], here)
                visits[rows, columns] += 1
        return total / visits

    def window(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        """Scores ``[Q, h, w]`` of a window, upsampled from its grid; padding is added and taken off again."""
        height, width = pixels.shape[1:]
        multiple = self.model.windows.pad_multiple or 1
        down, across = -height % multiple, -width % multiple
        sides = (across // 2, across - across // 2, down // 2, down - down // 2)
        pixels = F.pad(pixels, sides)
        ids = None if ids is None else F.pad(ids, sides, value=PAD_REGION)
        features, grid = self.features(pixels[None], ids)
        scores = self.scores(F.normalize(features[0], dim=-1) @ self.model.text.T)
        scores = F.interpolate(scores.T.unflatten(1, grid)[None], size=pixels.shape[1:], mode="bilinear")[0]
        return scores[:, sides[2] : sides[2] + height, sides[0] : sides[0] + width]

    def encode(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens ``[1, 1 + N, d]`` that enter CLIP's last block, and the grid."""
        inputs, grid = self.hidden(pixels)
        return inputs[-1], grid

    def hidden(self, pixels: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """The tokens that enter every block, and the grid."""
        x, grid = clip_embed(self.visual, pixels, self.model.backbone.pos_embed)
        inputs = [x]
        for block in self.early:
            inputs.append(block(inputs[-1]))
        return inputs, grid

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        """Patch embeddings ``[1, N, D]`` in the text space and their grid; here for methods without a guide."""
        x, grid = self.encode(pixels)
        return self.project(self.visual.ln_post(self.last_block(x, grid)[:, 1:])), grid

    def last_block(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """The method's last block: ``[1, 1 + N, d]``."""
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        return x @ self.visual.proj

    def scores(self, cosines: Tensor) -> Tensor:
        """What is averaged over windows: the cosines ``[N, Q]``."""
        return cosines

    # ------------------------------------------------------------------ from maps to labels
    def refine(self, maps: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """``[Q, H, W]`` maps before the softmax."""
        return maps

    def classes(self, maps: Tensor) -> Tensor:
        """Probabilities ``[C, H, W]``: softmax over all queries, maximum over a class's queries."""
        probabilities = (maps * self.model.head.logit_scale).softmax(0)
        owner = self.model.query_to_class
        return torch.stack([probabilities[owner == c].amax(0) for c in range(len(self.model.vocabulary))])

    def decide(self, maps: Tensor) -> Tensor:
        """Labels ``[H, W]`` from maps ``[Q, H, W]``."""
        return self.cut(self.classes(maps))

    def cut(self, classes: Tensor) -> Tensor:
        """Labels from class probabilities: small classes dropped, argmax, threshold."""
        head = self.model.head
        if head.area_threshold:
            counts = torch.bincount(classes.argmax(0).flatten(), minlength=len(classes))
            counts[head.background] = 0
            small = counts <= head.area_threshold * counts.sum()
            small[head.background] = False
            classes = classes * ~small[:, None, None]
        best, labels = classes.max(0)
        if head.threshold:
            labels[best < head.threshold] = head.background
        return labels


class MaskClip(Straightforward):
    """The last block's attention is left out; probabilities, not cosines, are averaged (METHODS: MaskCLIP)."""

    def last_block(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        value = clip_qkv(self.last, x)[2]
        x = x + self.last.attn.out_proj(value)
        return x + self.last.mlp(self.last.ln_2(x))

    def scores(self, cosines: Tensor) -> Tensor:
        return (cosines * self.model.probability_scale).softmax(-1)

    def classes(self, maps: Tensor) -> Tensor:
        probabilities = maps.softmax(0)  # a second softmax, as in the official code: it keeps the order
        owner = self.model.query_to_class
        return torch.stack([probabilities[owner == c].amax(0) for c in range(len(self.model.vocabulary))])


class Sclip(Straightforward):
    """softmax(q q^T) + softmax(k k^T), residual and feed-forward kept."""

    def last_block(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        q, k, v = (split_heads(t, self.heads) for t in clip_qkv(self.last, x))
        weights = [(t @ t.transpose(-1, -2) * self.scale).softmax(-1) for t in (q, k)]
        x = x + self.last.attn.out_proj(merge_heads(sum(weights) @ v))
        return x + self.last.mlp(self.last.ln_2(x))


class Naclip(Straightforward):
    """softmax(k k^T + Gaussian of the distance); PAMR on every query's map at full resolution."""

    def last_block(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        _, k, v = (split_heads(t, self.heads) for t in clip_qkv(self.last, x))
        bias = neighbour_bias(grid, self.model.attention.std, x.shape[1], x.device)
        return self.last.attn.out_proj(merge_heads(explicit_attention(k, k, v, self.scale, bias)))

    def refine(self, maps: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        for pamr in self.model.refiners:
            image = F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False)
            affinity = pamr_affinity(image, pamr.dilations)
            maps = pamr_apply(affinity, maps[None], pamr.iterations, pamr.dilations)[0]
        return maps


class Guided(Straightforward):
    """What ProxyCLIP, CorrCLIP and Trident share: DINO's features of the very same window."""

    def guide(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Unit features ``[B, N, d]`` and their grid."""
        dino = self.model.guide
        images = (pixels * self.std + self.mean - dino.mean) / dino.std
        return dino_features(dino.tower.trunk, images, dino.feature)

    def values(self, x: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
        """Values of the patches of the last block, resized to the guide's grid: ``[B, N, d]``."""
        values = clip_qkv(self.last, x)[2][:, 1:]
        if grid == wanted:
            return values
        image = values.transpose(1, 2).unflatten(2, grid)
        return F.interpolate(image, size=wanted, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)

    def mix(self, logits: Tensor, values: Tensor) -> Tensor:
        """One masked matrix ``[B, N, N]`` repeated for every head, softmax per head: ``[B, N, d]``."""
        weights = logits[:, None].repeat(1, self.heads, 1, 1).softmax(-1)
        return self.last.attn.out_proj(merge_heads(weights @ split_heads(values, self.heads)))


def proxy_logits(features: Tensor, beta: float, gamma: float) -> Tensor:
    """ProxyCLIP's masked matrix ``[B, N, N]``: minus infinity where ``gamma (S - beta mean S)`` is negative."""
    similarity = features @ features.transpose(1, 2)
    logits = gamma * (similarity - beta * similarity.mean())
    return logits.masked_fill(logits < 0, -torch.inf)


class ProxyClip(Guided):
    """Attention by the guide's similarity, on the guide's grid."""

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        x, grid = self.encode(pixels)
        guide, guide_grid = self.guide(pixels)
        attention = self.model.attention
        z = self.mix(proxy_logits(guide, attention.beta, attention.gamma), self.values(x, grid, guide_grid))
        return self.project(self.visual.ln_post(z)), guide_grid


class CorrClip(Guided):
    """Attention inside regions, a CLS token per region, the mean of earlier layers, and a vote per region."""

    def __call__(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Tensor:
        labels = super().__call__(image, size, original, regions)
        for region in regions.unique()[1:].tolist():
            inside = regions == region
            labels[inside] = labels[inside].mode().values
        return labels

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        attention = self.model.attention
        guide, guide_grid = self.guide(pixels)
        merged = self.merge(guide[0], resize_regions(ids, guide_grid).flatten())
        grid = tuple(n // self.model.backbone.patch_size for n in pixels.shape[2:])
        coarse = resize_regions(merged.unflatten(0, guide_grid), grid).flatten()
        found, member = coarse.unique(return_inverse=True)
        copies = len(found)
        mask = self.semantic_mask(member, copies)
        x, outputs = self.encode_copies(pixels, copies, mask)
        last = len(self.early)
        spatial = torch.stack(outputs[last - 1 - attention.spatial_layers : last - 1]).mean(0)
        logits = self.scope(guide, merged)
        parts = []
        for tokens, weight in ((x[:, copies:], 1.0), (spatial, attention.spatial_weight)):
            z = self.mix(logits, self.values(tokens, grid, guide_grid))
            parts.append(weight * self.visual.ln_post(z))
        tokens = self.visual.ln_post(self.last(x, attn_mask=mask)[:, :copies])[:, member].unflatten(1, grid)
        tokens = resize_regions(tokens.permute(0, 3, 1, 2), guide_grid).flatten(2).transpose(1, 2)
        parts.append(attention.semantic_weight * tokens)
        return self.project(sum(parts)), guide_grid

    def encode_copies(self, pixels: Tensor, copies: int, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tokens ``[1, copies + 1 + N, d]`` that enter the last block, and what those before gave, without copies."""
        x, _ = clip_embed(self.visual, pixels, self.model.backbone.pos_embed)
        x, outputs = torch.cat([x[:, :1].expand(-1, copies, -1), x], dim=1), []
        for block in self.early:
            x = block(x, attn_mask=mask)
            outputs.append(x[:, copies:])
        return x, outputs

    def merge(self, features: Tensor, ids: Tensor) -> Tensor:
        """Regions whose mean features agree get one number; the smallest id of the window stays 0."""
        found, index = ids.unique(return_inverse=True)
        if self.model.attention.merge_eps is None or len(found) <= 2:
            return index
        means = F.normalize(torch.stack([features[ids == i].mean(0) for i in found[1:]]), dim=-1)
        similarity = means @ means.T
        distance = (similarity.max() - similarity).clamp(min=0).float().cpu().numpy()
        cluster = DBSCAN(eps=self.model.attention.merge_eps, min_samples=1, metric="precomputed").fit(distance)
        numbers = torch.cat([torch.zeros(1, dtype=torch.long), torch.from_numpy(cluster.labels_).long() + 1])
        return numbers.to(index.device)[index]

    def scope(self, features: Tensor, merged: Tensor) -> Tensor:
        """Dense masked matrix ``[1, N, N]``: own region; from and to unsegmented cells what exceeds the mean."""
        similarity = features @ features.transpose(1, 2)
        loose = merged == 0
        same = (merged[:, None] == merged) & ~loose
        either = (loose[:, None] | loose) & (similarity[0] > similarity.mean())
        return (self.model.attention.temperature * similarity).masked_fill(~(same | either), -torch.inf)

    def semantic_mask(self, member: Tensor, copies: int) -> Tensor:
        """Dense additive mask over copies, CLS and patches: a copy sees CLS and its region, nobody sees a copy."""
        size = copies + 1 + len(member)
        mask = torch.zeros(size, size, device=member.device)
        mask[:, :copies] = -torch.inf
        others = member != torch.arange(copies, device=member.device)[:, None]
        mask[:copies, copies + 1 :].masked_fill_(others, -torch.inf)
        return mask


class Trident(Guided):
    """Splice windows' features, aggregate with SAM over the whole photo, classify, refine with SAM's prompts."""

    @torch.no_grad()
    def __call__(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Tensor:
        pixels = self.model.windows.fit((image.float() - self.mean) / self.std)
        spliced = self.splice(pixels)
        encoding, attention = self.encode_photo(original)
        features = self.aggregate(spliced, encoding, attention)
        grid = tuple(features.shape[1:])
        embeddings = F.normalize(self.project(self.visual.ln_post(features.flatten(1).T)), dim=-1)
        cosines = (embeddings @ self.model.text.T).T.unflatten(1, grid)
        maps = F.interpolate(cosines[None], size=size, mode="bilinear", align_corners=False)[0]
        classes = self.classes(maps)
        labels = self.cut(classes).int()
        photo = Photo(pixels, size, original, encoder=lambda _: encoding)
        for refiner in self.model.label_refiners:
            labels = refiner(labels, photo, FullMaps(classes))
        return labels

    def splice(self, pixels: Tensor) -> Tensor:
        """All windows as one batch; their features averaged on the patches of the image, ``[d, h, w]``."""
        height, width = pixels.shape[1:]
        windows, patch = self.model.windows, self.model.backbone.patch_size
        layout = windows.layout(height, width, patch)
        batch = windows.cut(pixels, layout)
        x, grid = self.encode(batch)
        guide, guide_grid = self.guide(batch)
        attention = self.model.attention
        z = self.mix(proxy_logits(guide, attention.beta, attention.gamma), self.values(x, grid, guide_grid))
        maps = z.transpose(1, 2).unflatten(2, guide_grid)
        rows, columns = (n // patch for n in layout.window)
        if guide_grid != (rows, columns):
            maps = F.interpolate(maps, size=(rows, columns), mode="bilinear", align_corners=False)
        total = pixels.new_zeros(maps.shape[1], height // patch, width // patch)
        visits = pixels.new_zeros(height // patch, width // patch)
        places = [(y // patch, x // patch) for y in layout.starts[0] for x in layout.starts[1]]
        for part, (top, left) in zip(maps, places, strict=True):
            total[:, top : top + rows, left : left + columns] += part
            visits[top : top + rows, left : left + columns] += 1
        return total / visits

    def encode_photo(self, original: Tensor) -> tuple[SamEncoding, list[Tensor]]:
        """Every part of the photo by segment_anything's own encoder, with its last attention ``[heads, N, N]``."""
        encoder = self.model.photo_encoder
        image = original.permute(1, 2, 0).cpu().numpy()
        height, width = image.shape[:2]
        rows, columns = encoder.tiles
        ys, xs = ([round(i * n / parts) for i in range(parts + 1)] for n, parts in ((height, rows), (width, columns)))
        boxes = [(ys[i], ys[i + 1], xs[j], xs[j + 1]) for i in range(rows) for j in range(columns)]
        both = [sam_tile(encoder.sam, image[b[0] : b[1], b[2] : b[3]], b, encoder.multiple_of) for b in boxes]
        tiles, attention = zip(*both, strict=True)
        return SamEncoding(list(tiles), encoder.tiles, (height, width)), list(attention)

    def aggregate(self, features: Tensor, encoding: SamEncoding, attention: list[Tensor]) -> Tensor:
        """Features ``[d, h, w]`` on SAM's grid, mixed by its last attention where values agree."""
        rows, columns = encoding.layout
        heights = [tile.grid[0] for tile in encoding.tiles[::columns]]
        widths = [tile.grid[1] for tile in encoding.tiles[:columns]]
        features = F.interpolate(features[None], size=(sum(heights), sum(widths)), mode="bilinear")[0]
        parts = [p for row in features.split(heights, dim=1) for p in row.split(widths, dim=2)]
        mixed = [self.mix_tile(*item) for item in zip(encoding.tiles, attention, parts, strict=True)]
        return torch.cat([torch.cat(mixed[i * columns : (i + 1) * columns], dim=2) for i in range(rows)], dim=1)

    def mix_tile(self, tile, attention: Tensor, features: Tensor) -> Tensor:
        """One part: every head's attention, zero where its values' cosine is low; mean over heads, rows sum to 1."""
        stitch, last = self.model.stitch, tile.last
        rows, columns = len(last.rel_h), len(last.rel_w)
        cells = torch.arange(rows * columns, device=features.device).view(rows, columns)
        cells = cells[: tile.grid[0], : tile.grid[1]].flatten()
        unit = F.normalize(last.v[:, cells], dim=-1)
        cosine = unit @ unit.transpose(-1, -2)
        limit = stitch.cos_factor * cosine.mean((0, 2))
        if not stitch.keep_negative:
            limit = torch.where(limit < 0, 0.6, limit)
        weights = attention[:, cells][:, :, cells]
        weights = torch.where(cosine > limit.clamp(max=stitch.cap)[:, None], weights, 0.0).mean(0)
        weights = weights / weights.sum(-1, keepdim=True)
        return (weights @ features.flatten(1).T).T.unflatten(1, features.shape[1:])


class FullMaps:
    """What a label refiner may ask, answered from class probabilities ``[C, H, W]`` at full resolution."""

    def __init__(self, classes: Tensor) -> None:
        self.maps = classes

    def best_at(self, size: tuple[int, int], rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Largest probability ``[h, w]`` of a part after it is resized (bilinear) to ``size``."""
        return F.interpolate(self.maps[None, :, rows, columns], size=size, mode="bilinear")[0].amax(0)

    def of_classes(self, classes: list[int], rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Probabilities ``[len(classes), h, w]`` of a part."""
        return self.maps[classes][:, rows, columns]


STRAIGHTFORWARD: dict[str, type[Straightforward]] = {
    "maskclip": MaskClip,
    "sclip": Sclip,
    "naclip_pamr": Naclip,
    "proxyclip": ProxyClip,
    "corrclip": CorrClip,
    "trident": Trident,
}
