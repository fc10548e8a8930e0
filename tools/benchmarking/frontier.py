"""SC-CLIP and LPOSS the straightforward way; see :mod:`tools.benchmarking.straightforward`."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.benchmarking.encoders import clip_embed, clip_qkv, explicit_attention, merge_heads, split_heads
from tools.benchmarking.straightforward import Guided, MaskClip, Straightforward


class ScClip(Straightforward):
    """Outliers repaired one by one; every similarity a full matrix, repeated for every head in the last block."""

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        attention = self.model.attention
        x, grid = clip_embed(self.visual, pixels, self.model.backbone.pos_embed)
        inputs = []
        for block in self.early:
            inputs.append(x)
            x = block(x)
        inputs.append(x)
        outliers = self.outliers(x[0, 1:])
        unit = F.normalize(self.repaired(inputs[attention.similarity_layer][0, 1:], outliers, grid), dim=-1)
        similarity = unit @ unit.T
        mended = averaged(similarity, self.repaired(x[0, 1:], outliers, grid), attention.threshold)
        summed = sum(inputs[layer] for layer in attention.multi_layers)
        late = F.normalize(inputs[attention.late_layer][0, 1:], dim=-1)
        first, second = (
            averaged(late @ late.T, self.mixed(similarity, tokens, class_token), attention.threshold)
            for tokens, class_token in ((mended, x[0, 0]), (summed[0, 1:], summed[0, 0]))
        )
        return self.project(self.visual.ln_post(first + second))[None], grid

    def outliers(self, tokens: Tensor) -> Tensor:
        """bool ``[N]`` by the local outlier factor."""
        attention = self.model.attention
        distance = torch.stack([(tokens - token).square().sum(-1) for token in tokens])
        distance.fill_diagonal_(torch.inf)
        near = min(attention.neighbours, len(tokens) - 1)
        nearest = distance.topk(near, dim=1, largest=False)
        reach = nearest.values[:, -1]
        factor = torch.stack([(reach[i] / reach[nearest.indices[i]]).mean() for i in range(len(tokens))])
        return factor > torch.quantile(factor, attention.quantile)

    def repaired(self, tokens: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
        """``[N, d]`` with the mean of its neighbours that are none in the place of every outlier."""
        mended, cells = tokens.clone(), torch.arange(len(tokens), device=tokens.device).view(grid)
        for index in outliers.nonzero()[:, 0].tolist():
            row, column = divmod(index, grid[1])
            around = cells[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].flatten()
            good = around[~outliers[around]]
            if len(good):
                mended[index] = tokens[good].mean(0)
        return mended

    def mixed(self, similarity: Tensor, tokens: Tensor, class_token: Tensor) -> Tensor:
        """``[N, d]`` after the last block's attention."""
        attention = self.model.attention
        logits = attention.gamma * (similarity - similarity.mean())
        shared = logits.masked_fill(logits < 0, -torch.inf)[None, None].repeat(1, self.heads, 1, 1).softmax(-1)
        _, k, v = (split_heads(t, self.heads) for t in clip_qkv(self.last, tokens[None]))
        both = (shared @ v + explicit_attention(k, k, v, self.scale)) / 2
        return self.last.attn.out_proj(merge_heads(both))[0] + attention.class_weight * class_token


def averaged(similarity: Tensor, tokens: Tensor, threshold: float) -> Tensor:
    """``tokens [N, d]`` averaged with the similarities that reach the threshold."""
    weights = similarity * (similarity >= threshold)
    return weights @ tokens / (weights.sum(-1, keepdim=True) + 1e-6)


class Lposs(Guided, MaskClip):
    """One graph of all patches from the full matrix of similarities; one solver run per query, in float64."""

    def slide(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        """Propagated scores of every query at every pixel of the resized image: ``[Q, h, w]``."""
        windows = self.model.windows
        layout = windows.layout(*pixels.shape[1:], self.model.backbone.patch_size)
        found, features, places = [], [], []
        corners = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
        for y, x in corners:
            window = pixels[None, :, y : y + layout.window[0], x : x + layout.window[1]]
            embeddings, grid = self.features(window, None)
            found.append(F.normalize(embeddings[0], dim=-1) @ self.model.text.T)
            features.append(self.guide(window)[0][0])
            side = [n / cells for n, cells in zip(layout.window, grid, strict=True)]
            places += [
                (y + (r + 0.5) * side[0], x + (c + 0.5) * side[1]) for r in range(grid[0]) for c in range(grid[1])
            ]
        graph = self.graph(torch.cat(features), torch.tensor(places))
        scores = torch.cat(found).double().cpu().numpy()
        spread = np.stack([self.solve(graph, column) for column in scores.T])
        maps = torch.from_numpy(spread).to(pixels).view(len(spread), len(corners), *grid)
        total, visits = pixels.new_zeros(len(maps), *pixels.shape[1:]), pixels.new_zeros(pixels.shape[1:])
        for i, (y, x) in enumerate(corners):
            rows, columns = slice(y, y + layout.window[0]), slice(x, x + layout.window[1])
            total[:, rows, columns] += F.interpolate(maps[None, :, i], size=layout.window, mode="bilinear")[0]
            visits[rows, columns] += 1
        owner = self.model.query_to_class
        mean = total / visits
        return torch.stack([mean[owner == c].amax(0) for c in range(len(self.model.vocabulary))])

    def graph(self, features: Tensor, places: Tensor) -> scipy.sparse.csr_matrix:
        """The normalised graph ``[n, n]``."""
        stitch, count = self.model.stitch, len(features)
        similarity = features @ features.T
        nearest = similarity.topk(min(stitch.neighbours, count), dim=1)
        distance = torch.cdist(places.to(features), places.to(features)).gather(1, nearest.indices)
        weights = nearest.values.clamp_min(0).double() ** stitch.gamma * (-stitch.sigma * distance.double()).exp()
        rows = np.repeat(np.arange(count), nearest.indices.shape[1])
        edges = rows, nearest.indices.flatten().cpu().numpy()
        directed = scipy.sparse.csr_matrix((weights.flatten().cpu().numpy(), edges), shape=(count, count))
        directed.setdiag(0)
        both = directed + directed.T
        degree = np.asarray(both.sum(1)).ravel()
        inverse = scipy.sparse.diags(1 / np.sqrt(np.where(degree > 0, degree, 1)))
        return (inverse @ both @ inverse).tocsr()

    def solve(self, graph: scipy.sparse.csr_matrix, wanted: np.ndarray) -> np.ndarray:
        """The last iterate of conjugate gradients for ``(I - alpha S) f = y`` from zero."""
        stitch = self.model.stitch
        found, rest = np.zeros_like(wanted), wanted.copy()
        direction, size = rest.copy(), rest @ rest
        for _ in range(stitch.iterations):
            if np.sqrt(size) <= stitch.tolerance * np.linalg.norm(wanted):
                break
            product = direction - stitch.alpha * (graph @ direction)
            step = size / (direction @ product)
            found, rest = found + step * direction, rest - step * product
            size, before = rest @ rest, size
            direction = rest + size / before * direction
        return found

    def decide(self, maps: Tensor) -> Tensor:
        """Labels from maps of classes ``[C, H, W]``."""
        return maps.argmax(0)


FRONTIER: dict[str, type[Straightforward]] = {"scclip": ScClip, "lposs": Lposs}
