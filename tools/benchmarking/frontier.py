"""SC-CLIP, SFP, LPOSS, ResCLIP, SegEarth-OV the straightforward way; see :mod:`tools.benchmarking.straightforward`."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.ops.reference import neighbour_bias, pamr_affinity, pamr_apply
from tools.benchmarking.encoders import clip_qkv, explicit_attention, merge_heads, split_heads
from tools.benchmarking.straightforward import Guided, MaskClip, Straightforward


class ScClip(Straightforward):
    """SC-CLIP, and SFP by its options. Outliers are repaired one by one; every similarity is a full matrix, repeated
    for every head in the last block."""

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        attention = self.model.attention
        inputs, grid = self.hidden(pixels)
        x = inputs[-1]
        outliers = self.outliers(inputs)
        unit = F.normalize(self.repaired(inputs[attention.similarity_layer][0, 1:], outliers, grid), dim=-1)
        similarity = unit @ unit.T
        mended = averaged(similarity, self.repaired(x[0, 1:], outliers, grid), attention.threshold)
        summed = sum(inputs[layer] for layer in attention.multi_layers)
        late = F.normalize(inputs[attention.late_layer][0, 1:], dim=-1)
        passes = (
            (mended, x[0, 0], attention.terms),
            (summed[0, 1:], summed[0, 0], attention.multi_terms),
        )
        both = sum(averaged(late @ late.T, self.mixed(similarity, *one), attention.threshold) for one in passes)
        return self.project(self.visual.ln_post(both))[None], grid

    def outliers(self, inputs: list[Tensor]) -> Tensor:
        """bool ``[N]``: by the local outlier factor (SC-CLIP), or by the attention of the last block but one (SFP)."""
        if self.model.attention.outliers == "lof":
            return self.sparse_ones(inputs[-1][0, 1:])
        q, k, _ = (split_heads(t, self.heads) for t in clip_qkv(self.early[-1], inputs[-2]))
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)[0].mean(0)
        of_class, own = 1.5 * weights[0, 1:], weights.diagonal()[1:]
        candidates = (of_class > own).nonzero()[:, 0].tolist()
        chosen = sorted(candidates, key=lambda i: -float(of_class[i]))[: self.model.attention.count]
        outliers = torch.zeros(len(own), dtype=torch.bool, device=own.device)
        outliers[chosen] = True
        return outliers

    def sparse_ones(self, tokens: Tensor) -> Tensor:
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
            elif not self.model.attention.keep_alone:
                mended[index] = 0
        return mended

    def mixed(self, similarity: Tensor, tokens: Tensor, class_token: Tensor, terms: tuple[str, ...]) -> Tensor:
        """``[N, d]`` after the last block's attention."""
        attention = self.model.attention
        if attention.similarity == "thresholded":
            similarity = similarity * (similarity >= attention.threshold)
        logits = attention.gamma * (similarity - similarity.mean())
        logits = logits.masked_fill(logits < 0, -torch.inf)
        alone = logits.isneginf().all(1)  # NaN in the official code; here, as in ovseg, such a patch sees itself
        logits[alone, alone] = 0
        shared = logits[None, None].repeat(1, self.heads, 1, 1).softmax(-1)
        parts = dict(zip("qkv", (split_heads(t, self.heads) for t in clip_qkv(self.last, tokens[None])), strict=True))
        v = parts["v"]
        mixed = shared @ v + sum(explicit_attention(parts[t], parts[t], v, self.scale) for t in terms)
        out = self.last.attn.out_proj(merge_heads(mixed / (1 + len(terms))))[0]
        return out + attention.class_weight * class_token


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


class ResClip(Straightforward):
    """Two passes of the last block with a matrix of every head; PAMR and labels of all queries at full size between."""

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        inputs, grid = self.hidden(pixels)
        middle = self.middle(inputs)
        first = self.embedded(self.attended(inputs[-1], grid, middle, None))
        feedback = self.feedback(self.patch_labels(first, pixels, grid))
        return self.embedded(self.attended(inputs[-1], grid, middle, feedback)), grid

    def middle(self, inputs: list[Tensor]) -> Tensor:
        """``[1, heads, 1 + N, 1 + N]`` mean attention of the middle layers."""
        blocks, maps = [*self.early, self.last], []
        for layer in self.model.attention.layers:
            q, k, _ = (split_heads(t, self.heads) for t in clip_qkv(blocks[layer], inputs[layer]))
            maps.append((q @ k.transpose(-1, -2) * self.scale).softmax(-1))
        return torch.stack(maps).mean(0)

    def attended(self, x: Tensor, grid: tuple[int, int], middle: Tensor, feedback: Tensor | None) -> Tensor:
        """Tokens ``[1, 1 + N, d]`` after the last block."""
        attention, count = self.model.attention, x.shape[1]
        q, k, v = (split_heads(t, self.heads) for t in clip_qkv(self.last, x))
        bias = neighbour_bias(grid, attention.std, count, x.device) if attention.std else 0.0
        own = 0.0
        for t in (dict(q=q, k=k, v=v)[term] for term in attention.terms):
            logits = t @ t.transpose(-1, -2) * self.scale
            if feedback is not None:
                logits = (1 - attention.feedback) * logits + attention.feedback * feedback
                logits = attention.sharpness * logits
            own = own + (logits + bias).softmax(-1)
        weights = attention.strength * ((1 - attention.weight) * own + attention.weight * middle)
        z = self.last.attn.out_proj(merge_heads(weights @ v))
        z = x + z if attention.residual else z
        return z + self.last.mlp(self.last.ln_2(z)) if attention.ffn else z

    def embedded(self, x: Tensor) -> Tensor:
        """Patch embeddings ``[1, N, D]``."""
        return self.project(self.visual.ln_post(x))[:, 1:]

    def patch_labels(self, embeddings: Tensor, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """``[gh, gw]``: the query that most pixels of a patch have after PAMR; query 0 where none is sure."""
        stitch, patch = self.model.stitch, self.model.backbone.patch_size
        cosines = (F.normalize(embeddings[0], dim=-1) @ self.model.text.T).T.unflatten(1, grid)
        maps = F.interpolate(cosines[None], size=pixels.shape[2:], mode="bilinear", align_corners=False)
        affinity = pamr_affinity(pixels, stitch.dilations)
        maps = pamr_apply(affinity, maps, stitch.iterations, stitch.dilations)[0]
        best, labels = (stitch.logit_scale * maps).softmax(0).max(0)
        labels[best < stitch.threshold] = 0
        votes = torch.zeros(grid, dtype=torch.long, device=labels.device)
        for row in range(grid[0]):
            for column in range(grid[1]):
                inside = labels[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
                votes[row, column] = inside.flatten().mode().values
        return votes

    def feedback(self, labels: Tensor) -> Tensor:
        """``[1 + N, 1 + N]`` added to the logits: zeros for CLS, agreement of the first pass's labels for patches."""
        height, width = labels.shape
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack([rows.flatten(), columns.flatten()], 1)
        labels, steps_max = labels.flatten(), max(height, width) - 1
        steps = (places[:, None] - places).abs().amax(-1)
        share = torch.linspace(0, 1, steps_max + 1)[:, None]
        agree = torch.zeros(len(labels), len(labels))
        for i, start in enumerate(places):  # the ways from one patch to all others
            points = (start * (1 - share) + places[:, None] * share).round().long()  # [N, steps + 1, 2]
            same = labels[points[..., 0] * width + points[..., 1]] == labels[i]
            beyond = torch.arange(steps_max + 1) > steps[i][:, None]
            kept = torch.where((same | beyond).all(1), 1.0, (-steps[i] / steps_max).exp())
            agree[i] = kept * (labels == labels[i])
        size = min(len(labels), 31)
        size -= 1 - size % 2
        offsets = torch.arange(size) - size // 2
        kernel = (-(offsets.float() ** 2) / 50).exp()
        kernel = (kernel / kernel.sum())[None, None]
        smooth = torch.stack([F.conv1d(row[None, None], kernel, padding=size // 2)[0, 0].relu() for row in agree])
        smooth = smooth / (smooth.sum(-1, keepdim=True) + 1e-8)
        return F.pad((smooth / smooth.max()).half().float(), (1, 0, 1, 0))


class SegEarth(Straightforward):
    """All channels of the features upsampled to every pixel, tap by tap, before they are compared with the words."""

    def window(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        height, width = pixels.shape[1:]
        down, across = (-n % self.model.windows.pad_multiple for n in (height, width))
        sides = (across // 2, across - across // 2, down // 2, down - down // 2)
        pixels = F.pad(pixels, sides)
        embeddings, grid = self.features(pixels[None], None)
        patches = self.upsampled(embeddings[0, 1:].T.unflatten(1, grid), pixels)
        text = self.model.text
        scores = torch.einsum("qd,dhw->qhw", text, F.normalize(patches, dim=0))
        scores = scores + self.model.stitch.weight * (text @ F.normalize(embeddings[0, 0], dim=0))[:, None, None]
        return scores[:, sides[2] : sides[2] + height, sides[0] : sides[0] + width]

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        """Embeddings ``[1, 1 + N, D]`` of the class token and the patches."""
        x, grid = self.encode(pixels)
        parts = dict(zip("qkv", (split_heads(t, self.heads) for t in clip_qkv(self.last, x)), strict=True))
        terms = (parts[t] for t in self.model.attention.terms)
        weights = sum((t @ t.transpose(-1, -2) * self.scale).softmax(-1) for t in terms)
        z = self.last.attn.out_proj(merge_heads(weights @ parts["v"]))
        return self.project(self.visual.ln_post(z)), grid

    def upsampled(self, maps: Tensor, pixels: Tensor) -> Tensor:
        """``[D, gh, gw]`` to ``[D, 16 gh, 16 gw]``."""
        upsampler = self.model.stitch.upsampler
        for _ in range(4):
            size = (2 * maps.shape[1], 2 * maps.shape[2])
            maps = self.doubled(maps, F.adaptive_avg_pool2d(pixels[None], size), upsampler.up)
        return maps + 0.1 * upsampler.fixup_proj[1](maps[None])[0]

    def doubled(self, maps: Tensor, colours: Tensor, layer: nn.Module) -> Tensor:
        """One joint bilateral stage: ``[D, h, w]`` to twice the size, with the window's ``colours [1, 3, 2h, 2w]``."""
        height, width = colours.shape[2:]
        radius, side = layer.radius, 2 * layer.radius + 1
        keys = layer.range_proj(colours)
        around = F.pad(keys, (radius,) * 4, mode="reflect")
        shifts = [(y, x) for y in range(side) for x in range(side)]
        alike = torch.stack([(around[..., y : y + height, x : x + width] * keys).sum(1)[0] for y, x in shifts])
        heat = layer.range_temp.exp().clamp(1e-4, 1e4)
        steps = torch.linspace(-1, 1, side)
        spatial = (-(steps[:, None] ** 2 + steps**2) / (2 * layer.sigma_spatial**2)).exp().flatten()
        kernel = (heat * alike).softmax(0) * spatial[:, None, None].to(alike)
        kernel = kernel / kernel.sum(0).clamp_min(1e-7)
        kernel = kernel + 0.1 * layer.fixup_proj(torch.cat([kernel[None], colours], 1))[0]
        source = F.interpolate(maps[None], size=(height, width), mode="bicubic", align_corners=False)
        source = F.pad(source, (radius,) * 4, mode="reflect")[0]
        total = source.new_zeros(len(maps), height, width)
        for weights, (y, x) in zip(kernel, shifts, strict=True):
            total += weights * source[:, y : y + height, x : x + width]
        return total
