"""CorrCLIPv2 and attention of photo scope the straightforward way; see :mod:`tools.benchmarking.straightforward`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.segmentors import OpenVocabSegmentor
from ovseg.windows import WindowLayout
from tools.benchmarking.encoders import clip_qkv, merge_heads, split_heads, timm_features
from tools.benchmarking.straightforward import CorrClip, Guided, Straightforward, proxy_logits


class CorrClipV2(CorrClip):
    """The guide's features at every pixel of the resized photo as one map; one search in the bank per region.

    The bank may be missing; its scores are those of the main CLIP alone.
    """

    def __init__(self, model: OpenVocabSegmentor) -> None:
        super().__init__(model)
        self.dense: Tensor | None = None
        self.bank = getattr(model.stitch, "memory", None)
        if self.bank is not None:
            if model.stitch.auxiliary_store is not None:
                raise ValueError("the straightforward CorrCLIPv2 has no auxiliary CLIP: leave `auxiliary` out")
            rows = torch.arange(len(self.bank))
            self.keys = F.normalize(self.bank.keys(rows), dim=-1)
            self.rows = self.bank.values(model.stitch.store, rows)

    @torch.no_grad()
    def __call__(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Tensor:
        self.dense = self.whole_guide(original, tuple(image.shape[1:]))
        return super().__call__(image, size, original, regions)

    def whole_guide(self, original: Tensor, size: tuple[int, int]) -> Tensor:
        """Unit features of every pixel of the resized photo, ``[C, h, w]``."""
        dino = self.model.guide.source
        image = (original.float() - dino.mean) / dino.std
        sides = [max(1, round(n / dino.patch_size)) * dino.patch_size for n in image.shape[1:]]
        image = F.interpolate(image[None], size=sides, mode="bilinear", align_corners=False)
        features = timm_features(dino.tower.trunk, image)
        grid = tuple(n // dino.patch_size for n in sides)
        maps = features.transpose(1, 2).unflatten(2, grid)
        return F.normalize(F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0], dim=0)

    def guide(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Unit features of a window on twice CLIP's grid, cut from the photo's."""
        part = self.dense[:, self.place[0], self.place[1]][None]
        down, across = (n - m for n, m in zip(pixels.shape[2:], part.shape[2:], strict=True))
        part = F.pad(part, (across // 2, across - across // 2, down // 2, down - down // 2), mode="replicate")
        scale = self.model.guide.scale
        grid = tuple(scale * (n // self.model.backbone.patch_size) for n in pixels.shape[2:])
        part = F.interpolate(part, size=grid, mode="bilinear", align_corners=False)
        return F.normalize(part, dim=1).flatten(2).transpose(1, 2), grid

    def slide(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        """Cosines of every query, half and half with what the bank says of each pixel's region."""
        maps = super().slide(pixels, ids)
        if self.bank is None:
            return maps
        share = self.model.stitch.share
        return share * maps + (1 - share) * self.support(ids).to(maps)

    def support(self, ids: Tensor) -> Tensor:
        """``[Q, h, w]``: scores of each pixel's region by its neighbours in the bank."""
        painted = self.dense.new_zeros(len(self.model.text), *ids.shape)
        for region in ids.unique().tolist():
            inside = ids == region
            query = F.normalize(self.dense[:, inside].mean(1), dim=0)
            nearest = (self.keys @ query).topk(min(self.model.stitch.neighbours, len(self.keys))).indices
            value = F.normalize(self.rows[nearest].mean(0), dim=0)
            painted[:, inside] = (self.model.text @ value)[:, None].to(painted)
        return painted


class PhotoScope(Straightforward):
    """What the photo's scope shares: every window encoded on its own, tokens of a place averaged, one attention."""

    def slide(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        windows = self.model.windows
        layout = windows.layout(*pixels.shape[1:], self.model.backbone.patch_size)
        corners = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
        cut = windows.cut(pixels, layout)
        maps = self.windows_together(cut, layout, corners)
        total, visits = pixels.new_zeros(self.count, *pixels.shape[1:]), pixels.new_zeros(pixels.shape[1:])
        (top, left), (height, width) = layout.offset, layout.window
        for part, (y, x) in zip(maps, corners, strict=True):
            part = F.interpolate(part[None], size=layout.padded, mode="bilinear", align_corners=False)[0]
            total[:, y : y + height, x : x + width] += part[:, top : top + height, left : left + width]
            visits[y : y + height, x : x + width] += 1
        return total / visits

    def windows_together(self, cut: Tensor, layout: WindowLayout, corners: list[tuple[int, int]]) -> list[Tensor]:
        """Cosines ``[Q, gh, gw]`` of every window."""
        raise NotImplementedError

    def cosines(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """``[N, d]`` tokens after the last block to ``[Q, gh, gw]``."""
        embeddings = F.normalize(self.project(self.visual.ln_post(tokens)), dim=-1)
        return (embeddings @ self.model.text.T).T.unflatten(1, grid)


def places_of(layout: WindowLayout, corners: list[tuple[int, int]], grid: tuple[int, int]) -> Tensor:
    """int64 ``[n, N]``: the place of every token, one for all tokens whose centres lie in one cell of the photo."""
    known: dict[tuple, int] = {}
    cell = [n / cells for n, cells in zip(layout.padded, grid, strict=True)]
    found = []
    for window, corner in enumerate(corners):
        for row in range(grid[0]):
            for column in range(grid[1]):
                centre = [(at + 0.5) * side for at, side in zip((row, column), cell, strict=True)]
                inside = [c - before for c, before in zip(centre, layout.offset, strict=True)]
                if all(0 <= c < n for c, n in zip(inside, layout.window, strict=True)):
                    name = tuple(int((s + c) // side) for s, c, side in zip(corner, inside, cell, strict=True))
                else:
                    name = ("padding", window, row, column)
                found.append(known.setdefault(name, len(known)))
    return torch.tensor(found).view(len(corners), -1)


def averaged_at(places: Tensor, tokens: Tensor) -> Tensor:
    """Means ``[places, d]`` of tokens ``[n, N, d]`` that share a place."""
    flat, total = tokens.flatten(0, 1), tokens.new_zeros(int(places.max()) + 1, tokens.shape[-1])
    visits = total.new_zeros(len(total))
    for place, token in zip(places.flatten().tolist(), flat, strict=True):
        total[place] += token
        visits[place] += 1
    return total / visits[:, None]


class SclipOfPhoto(PhotoScope):
    """SCLIP's last block over all windows of a photo."""

    def windows_together(self, cut: Tensor, layout: WindowLayout, corners: list[tuple[int, int]]) -> list[Tensor]:
        encoded = [self.encode(window[None]) for window in cut]
        grid, x = encoded[0][1], torch.cat([tokens for tokens, _ in encoded])
        z = self.features_of_photo(x, places_of(layout, corners, grid))
        return [self.cosines(tokens[1:], grid) for tokens in z]

    def features_of_photo(self, x: Tensor, places: Tensor) -> Tensor:
        """Tokens ``[n, 1 + N, d]`` after the last block."""
        merged = [
            split_heads(torch.cat([t[:, 0].mean(0)[None], averaged_at(places, t[:, 1:])])[None], self.heads)
            for t in clip_qkv(self.last, x)
        ]
        q, k, v = merged
        weights = sum((t @ t.transpose(-1, -2) * self.scale).softmax(-1) for t in (q, k))
        mixed = merge_heads(weights @ v)[0]
        mixed = torch.cat([mixed[None, :1].expand(len(x), -1, -1), mixed[1:][places]], dim=1)
        x = x + self.last.attn.out_proj(mixed)
        return x + self.last.mlp(self.last.ln_2(x))


class ProxyClipOfPhoto(PhotoScope, Guided):
    """ProxyCLIP's last block over all windows of a photo."""

    def windows_together(self, cut: Tensor, layout: WindowLayout, corners: list[tuple[int, int]]) -> list[Tensor]:
        values, guides = [], []
        for window in cut:
            x, grid = self.encode(window[None])
            guide, guide_grid = self.guide(window[None])
            values.append(self.values(x, grid, guide_grid)[0])
            guides.append(guide[0])
        places = places_of(layout, corners, guide_grid)
        mixed = self.features_of_photo(torch.stack(guides), torch.stack(values), places)
        return [self.cosines(mixed[window], guide_grid) for window in places]

    def features_of_photo(self, guides: Tensor, values: Tensor, places: Tensor) -> Tensor:
        """Tokens ``[places, d]`` after the last block."""
        attention = self.model.attention
        features = F.normalize(averaged_at(places, guides), dim=-1)[None]
        logits = proxy_logits(features, attention.beta, attention.gamma)
        return self.mix(logits, averaged_at(places, values)[None])[0]
