"""dino.txt, VIP, Talk2DINO and RADSeg the straightforward way; see :mod:`tools.benchmarking.straightforward`.

Their image encoders are timm's, with a text tower that was trained for these. Blocks before the methods' own are
timm's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.benchmarking.encoders import explicit_attention, merge_heads, split_heads, timm_blocks, timm_embed
from tools.benchmarking.straightforward import Straightforward, proxy_logits


class TimmForm(Straightforward):
    """What the methods share: a timm ViT, whose patches are compared with words."""

    def take_tower(self) -> None:
        """The image encoder's own modules: timm's."""
        tower = self.model.backbone.tower
        self.trunk = getattr(tower.trunk, "trunk", tower.trunk)  # dino.txt's blocks stand on another tower
        self.prefix = self.trunk.num_prefix_tokens

    def encode(self, pixels: Tensor, last: bool = False) -> tuple[Tensor, tuple[int, int]]:
        """Tokens ``[B, P + N, d]`` that enter the last block (``last``: that leave it), and the grid."""
        x, grid = timm_embed(self.trunk, pixels, self.model.backbone.pos_embed)
        blocks = self.trunk.blocks if last else self.trunk.blocks[:-1]
        return timm_blocks(self.trunk, x, grid, blocks), grid


class DinoTxt(TimmForm):
    """Two blocks on DINOv3's normed tokens; a softmax over all words at every pixel of a window."""

    def take_tower(self) -> None:
        super().take_tower()
        tower = self.model.backbone.tower
        own = len(tower.blocks) - len(self.trunk.blocks)
        self.own = [block.block for block in tower.blocks[-own:]]
        self.norm = tower.norm

    def window(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        size, multiple = pixels.shape[1:], self.model.windows.stretch_multiple
        stretched = [-(-n // multiple) * multiple for n in size]
        if stretched != list(size):
            pixels = F.interpolate(pixels[None], size=stretched, mode="bicubic", align_corners=False)[0]
        features, grid = self.features(pixels[None], ids)
        cosines = (F.normalize(features[0], dim=-1) @ self.model.text.T).T.unflatten(1, grid)
        maps = F.interpolate(cosines[None], size=size, mode="bilinear", align_corners=False)[0]
        return (self.model.stitch.scale * maps).softmax(0)

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        x, grid = self.encode(pixels, last=True)
        x = self.trunk.norm(x)
        for block in self.own:
            heads, scale = block.attn.num_heads, block.attn.scale
            q, k, v = (split_heads(t, heads) for t in block.attn.qkv(block.norm1(x)).chunk(3, dim=-1))
            x = x + block.gamma_1 * block.attn.proj(merge_heads(explicit_attention(q, k, v, scale)))
            x = x + block.gamma_2 * block.mlp(block.norm2(x))
        return self.norm(x)[:, self.prefix :], grid

    def decide(self, maps: Tensor) -> Tensor:
        owner = self.model.query_to_class
        return torch.stack([maps[owner == c].amax(0) for c in range(len(self.model.vocabulary))]).argmax(0)


class Vip(DinoTxt):
    """dino.txt's blocks with one masked matrix, repeated for every head; names of a class summed in a loop."""

    @property
    def count(self) -> int:
        return len(self.model.vocabulary)

    def window(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        height, width = pixels.shape[1:]
        down, across = (-n % self.model.windows.pad_multiple for n in (height, width))
        top, left = down // 2, across // 2
        colour = 255 * torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1).to(pixels)
        padded = ((colour - self.mean) / self.std).expand(3, height + down, width + across).clone()
        padded[:, top : top + height, left : left + width] = pixels
        features, grid = self.features(padded[None], ids)
        logits = self.of_classes(F.normalize(features[0], dim=-1)).T.unflatten(1, grid)
        maps = F.interpolate(logits[None], size=padded.shape[1:], mode="bilinear", align_corners=False)[0]
        return maps[:, top : top + height, left : left + width]

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        x, grid = self.encode(pixels, last=True)
        x = self.trunk.norm(x)[:, self.prefix :]
        attention = self.model.attention
        logits = proxy_logits(F.normalize(x, dim=-1), attention.beta, attention.gamma)
        for block in self.own:
            heads = block.attn.num_heads
            v = split_heads(block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)[2], heads)
            weights = logits[:, None].repeat(1, heads, 1, 1).softmax(-1)
            x = x + block.gamma_1 * block.attn.proj(merge_heads(weights @ v))
            x = x + block.gamma_2 * block.mlp(block.norm2(x))
        return self.norm(x), grid

    def of_classes(self, patches: Tensor) -> Tensor:
        """Class logits ``[N, C]`` of unit patches ``[N, D]``."""
        stitch, text, owner = self.model.stitch, self.model.text, self.model.query_to_class
        whole = F.normalize(patches.mean(0), dim=0)
        logits = []
        for c in range(len(self.model.vocabulary)):
            names = text[owner == c]
            weights = (F.normalize(names, dim=-1) @ whole / stitch.temperature).softmax(0)
            terms = stitch.tau * stitch.scale * (patches @ names.T) * len(names) * weights
            logits.append(terms.logsumexp(1) / stitch.tau)
        return torch.stack(logits, 1)

    def decide(self, maps: Tensor) -> Tensor:
        return self.cut((maps * self.model.head.logit_scale).softmax(0))


class Talk2Dino(TimmForm):
    """The class token's maps word by word; every word's map at full size, with a constant one for the background."""

    def take_tower(self) -> None:
        super().take_tower()
        background = self.model.head.background if self.model.head.threshold else -1
        self.wanted = self.model.query_to_class != background
        self.text = self.model.text[self.wanted]

    @property
    def count(self) -> int:
        return len(self.text)

    def window(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        x, grid = self.encode(pixels[None])
        scores = self.attended(x).unflatten(1, grid)
        return F.interpolate(scores[None], size=pixels.shape[1:], mode="bilinear", align_corners=True)[0]

    def attended(self, x: Tensor) -> Tensor:
        """Scores ``[Q, N]`` of a window, the background cleaned."""
        block, weight = self.trunk.blocks[-1], self.model.attention.weight
        heads, scale = block.attn.num_heads, block.attn.scale
        q, k, v = (split_heads(t, heads) for t in block.attn.qkv(block.norm1(x)).chunk(3, dim=-1))
        x = x + block.ls1(block.attn.proj(merge_heads(explicit_attention(q, k, v, scale))))
        x = self.trunk.norm(x + block.ls2(block.mlp(block.norm2(x))))
        patches = x[0, self.prefix :]
        scores = (self.model.probability_scale * (self.text @ F.normalize(patches, dim=-1).T)).sigmoid()
        if not weight:
            return scores
        looks = (q[0, :, 0, None] * k[0, :, self.prefix :]).sum(-1) * scale  # [heads, N]
        seen = torch.stack([F.normalize((look[:, None] * patches).mean(0), dim=0) for look in looks])
        maps = []
        for word in self.text:
            share = (seen @ word).softmax(0)
            maps.append((share[:, None] * looks).sum(0).softmax(0))
        maps = torch.stack(maps)
        maps = (maps - maps.min()) / maps.max()
        maps = maps * (scores.max() - scores.min()) + scores.min()
        return (scores + weight * maps) / (1 + weight)

    def decide(self, maps: Tensor) -> Tensor:
        head, owner = self.model.head, self.model.query_to_class[self.wanted]
        if head.threshold:
            maps = torch.cat([torch.full_like(maps[:1], head.threshold), maps])
            owner = torch.cat([owner.new_tensor([head.background]), owner])
        return owner[maps.argmax(0)].int()


class RadSeg(TimmForm):
    """All windows as one batch; two matrices per head in the last block, one of all patches of the photo after it."""

    @torch.no_grad()
    def __call__(
        self, image: Tensor, size: tuple[int, int], original: Tensor | None = None, regions: Tensor | None = None
    ) -> Tensor:
        pixels = self.model.windows.fit((image.float() - self.mean) / self.std)
        cosines = self.embedded(self.aggregated(self.slide(pixels, None)))
        probabilities = (self.model.probability_scale * cosines).softmax(0)
        return self.decide(self.resized(probabilities, size))

    def slide(self, pixels: Tensor, ids: Tensor | None) -> Tensor:
        """Features ``[d, h, w]`` on the patches of the photo, averaged where windows overlap."""
        windows, patch = self.model.windows, self.model.backbone.patch_size
        layout = windows.layout(*pixels.shape[1:], patch)
        features, (rows, columns) = self.features(windows.cut(pixels, layout), None)
        total = pixels.new_zeros(features.shape[-1], pixels.shape[1] // patch, pixels.shape[2] // patch)
        visits = pixels.new_zeros(total.shape[1:])
        corners = [(y // patch, x // patch) for y in layout.starts[0] for x in layout.starts[1]]
        for part, (top, left) in zip(features, corners, strict=True):
            total[:, top : top + rows, left : left + columns] += part.T.unflatten(1, (rows, columns))
            visits[top : top + rows, left : left + columns] += 1
        return total / visits

    def features(self, pixels: Tensor, ids: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        x, grid = self.encode(pixels)
        block = self.trunk.blocks[-1]
        heads, scale = block.attn.num_heads, block.attn.scale
        q, k, v = (split_heads(t, heads) for t in block.attn.qkv(block.norm1(x)).chunk(3, dim=-1))
        first = block.attn.proj(merge_heads(explicit_attention(q, k, v, scale)))
        unit = F.normalize(split_heads(first, heads), dim=-1)
        logits = self.model.attention.scale * (unit @ unit.transpose(-1, -2))
        weights = logits.masked_fill(logits < 0, -torch.inf).softmax(-1)
        x = x + block.ls1(block.attn.proj(merge_heads(weights @ v)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        return self.trunk.norm(x)[:, self.prefix :], grid

    def aggregated(self, features: Tensor) -> Tensor:
        """``[d, h, w]`` mixed over the whole photo by its own cosines."""
        flat = features.flatten(1).T
        unit = F.normalize(flat, dim=-1)
        weights = proxy_logits(unit[None], 1.0, self.model.stitch.scale)[0].softmax(-1)
        return (weights @ flat).T.unflatten(1, features.shape[1:])

    def embedded(self, features: Tensor) -> Tensor:
        """Cosines ``[Q, h, w]`` of features ``[d, h, w]`` after the language head."""
        head: nn.Module = self.model.backbone.tower.head
        unit = F.normalize(head(features.flatten(1).T), dim=-1)
        return (unit @ self.model.text.T).T.unflatten(1, features.shape[1:])

    def decide(self, maps: Tensor) -> Tensor:
        owner = self.model.query_to_class
        classes = torch.stack([maps[owner == c].amax(0) for c in range(len(self.model.vocabulary))])
        classes = classes * (classes.amax((1, 2), keepdim=True) >= self.model.head.peak_threshold)
        return classes.argmax(0)
