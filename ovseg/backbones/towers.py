"""One interface over the vision transformers of open_clip and timm.

A method of ovseg replaces how the *last block* attends. For that it needs the block in pieces (norm, q, k, v, output
projection, feed-forward), the tokens that enter it, and the projection into the text space. ``VisionTower`` gives
just that; open_clip's code is used as it is, never copied.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import lru_cache

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers import Mlp, SwiGLU, apply_rot_embed_cat
from timm.models.eva import Eva
from timm.models.eva import EvaBlock as TimmEvaBlock
from torch import Tensor, nn

from ovseg.backbones.kernels import apply_linear, attention, feed_forward, linear
from ovseg.backbones.precision import FP32, Settled
from ovseg.projections import in_projection

POS_EMBED_MODES = ("size", "scale", "bilinear", "antialias", "square", "square_corners")


def check_pos_embed(mode: str) -> None:
    """Raise ValueError for a way of resizing positions that is none of :data:`POS_EMBED_MODES`."""
    if mode not in POS_EMBED_MODES:
        raise ValueError(f"pos_embed is {mode!r}; choose one of {', '.join(POS_EMBED_MODES)}")


class TransformerBlock(nn.Module):
    """A pre-norm transformer block taken apart: norm, q/k/v, output projection, feed-forward.

    Attributes:
        num_heads: number of attention heads.
        scale: factor of q.k, ``head_dim ** -0.5``.
    """

    num_heads: int
    scale: float

    def norm1(self, x: Tensor) -> Tensor:
        """The LayerNorm before attention; ``[B, N, d] -> [B, N, d]``."""
        raise NotImplementedError

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """The block as it is; ``grid`` matters for rotary positions only."""
        raise NotImplementedError

    def qkv(self, y: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Normed tokens ``[B, N, d]`` to q, k, v, each ``[B, heads, N, d / heads]``; q is not scaled yet.

        ``grid`` is needed by blocks with rotary positions (EVA-02) and ignored by the others.
        """
        raise NotImplementedError

    def qkv_unrotated(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`qkv`, without rotary positions."""
        return self.qkv(y)

    def value(self, y: Tensor) -> Tensor:
        """Only v, heads concatenated: ``[B, N, d] -> [B, N, d]``."""
        raise NotImplementedError

    def unscaled_out(self, mixed: Tensor) -> Tensor:
        """Output projection of mixed values ``[B, N, d]``, without layer scale."""
        raise NotImplementedError

    def out(self, mixed: Tensor) -> Tensor:
        """Output projection (and layer scale) of mixed values ``[B, N, d]``."""
        raise NotImplementedError

    def norm2(self, x: Tensor) -> Tensor:
        """The LayerNorm before the feed-forward; ``[B, N, d] -> [B, N, d]``."""
        raise NotImplementedError

    def ffn(self, x: Tensor) -> Tensor:
        """The residual branch of the feed-forward: norm, MLP, layer scale; ``x`` itself is not added."""
        raise NotImplementedError

    def split_heads(self, t: Tensor) -> Tensor:
        """``[B, N, d] -> [B, heads, N, d / heads]``."""
        return t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class OpenClipBlock(TransformerBlock):
    """open_clip's ``ResidualAttentionBlock`` in pieces."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        self.block = block
        self.num_heads = block.attn.num_heads
        self.scale = block.attn.head_dim**-0.5

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        # Not self.block(x): nn.MultiheadAttention transposes to [N, B, d], and PyTorch's bf16 matmul on the CPU then
        # falls back to a path that is some hundred times slower as soon as B > 1.
        x = x + self.out(attention(*self.qkv(self.norm1(x)), self.scale))
        return x + self.ffn(x)

    def norm1(self, x: Tensor) -> Tensor:
        return self.block.ln_1(x)

    def qkv(self, y: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attn = self.block.attn
        if attn.in_proj_weight is None:
            qkv = in_projection(y, attn)
        else:
            qkv = linear(y, attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (self.split_heads(t) for t in qkv.chunk(3, dim=-1))
        return q, k, v

    def value(self, y: Tensor) -> Tensor:
        attn, d = self.block.attn, y.shape[-1]
        if attn.in_proj_weight is None:
            return F.linear(y, attn.v_proj_weight, attn.in_proj_bias[2 * d :])
        return linear(y, attn.in_proj_weight, attn.in_proj_bias, slice(2 * d, 3 * d))

    def unscaled_out(self, mixed: Tensor) -> Tensor:
        return apply_linear(mixed, self.block.attn.out_proj)

    def out(self, mixed: Tensor) -> Tensor:
        return self.block.ls_1(self.unscaled_out(mixed))

    def norm2(self, x: Tensor) -> Tensor:
        return self.block.ln_2(x)

    def ffn(self, x: Tensor) -> Tensor:
        mlp = self.block.mlp
        return self.block.ls_2(feed_forward(self.block.ln_2(x), mlp.c_fc, mlp.gelu, mlp.c_proj))


class TimmBlock(TransformerBlock):
    """A block of timm's ``VisionTransformer`` (and models that share its ``Block``) in pieces."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name in ("norm1", "attn", "norm2", "mlp"):
            if not hasattr(block, name):
                raise TypeError(f"timm block {type(block).__name__} has no {name!r}: not a plain ViT block")
        if getattr(block.attn, "qkv", None) is None:
            raise TypeError(f"timm attention {type(block.attn).__name__} has no joint 'qkv' layer: not supported")
        self.block = block
        self.num_heads = block.attn.num_heads
        self.scale = block.attn.scale

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        x = x + self.out(attention(*self.qkv(self.norm1(x)), self.scale))
        return x + self.ffn(x)

    def norm1(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def qkv(self, y: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attn = self.block.attn
        q, k, v = (self.split_heads(t) for t in apply_linear(y, attn.qkv).chunk(3, dim=-1))
        return attn.q_norm(q), attn.k_norm(k), v

    def value(self, y: Tensor) -> Tensor:
        d = y.shape[-1]
        return apply_linear(y, self.block.attn.qkv, slice(2 * d, 3 * d))

    def unscaled_out(self, mixed: Tensor) -> Tensor:
        attn = self.block.attn
        mixed = attn.norm(mixed) if isinstance(getattr(attn, "norm", None), nn.Module) else mixed
        return apply_linear(mixed, attn.proj)

    def out(self, mixed: Tensor) -> Tensor:
        return self.block.ls1(self.unscaled_out(mixed))

    def norm2(self, x: Tensor) -> Tensor:
        return self.block.norm2(x)

    def ffn(self, x: Tensor) -> Tensor:
        mlp, y = self.block.mlp, self.block.norm2(x)
        plain = type(mlp) is Mlp and isinstance(mlp.norm, nn.Identity)  # DINOv2 giant has a gated one
        return self.block.ls2(feed_forward(y, mlp.fc1, mlp.act, mlp.fc2) if plain else mlp(y))


class VisionTower(nn.Module):
    """A CLIP image encoder seen as: patch embedding, blocks, post-norm, projection.

    Attributes:
        blocks: the transformer blocks in order.
        num_prefix: number of tokens before the patches (CLS).
        patch_size: side of a patch in pixels.
        width: token dimension d.
        embed_dim: dimension D of the space shared with the text.
        native_grid: grid of the positional embedding, ``(rows, columns)``.
    """

    blocks: nn.ModuleList
    num_prefix: int
    patch_size: int
    width: int
    embed_dim: int
    native_grid: tuple[int, int]

    def __init__(self) -> None:
        super().__init__()
        self._pos_cache: dict[tuple, tuple[Tensor, Tensor]] = {}  # the table they were made from, the positions

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Patches of an image of ``height`` x ``width`` pixels; what does not fill a patch is cut off.

        Raises:
            ValueError: if the image is smaller than one patch.
        """
        grid = (height // self.patch_size, width // self.patch_size)
        if 0 in grid:
            raise ValueError(
                f"window of {height} x {width} px is smaller than one patch of {self.patch_size} px; pad it first"
            )
        return grid

    def embed(self, images: Tensor, pos_embed: str = "size") -> Tensor:
        """Patch embedding plus positions: ``[B, 3, H, W]`` normalised images to ``[B, P + h * w, d]`` tokens."""
        raise NotImplementedError

    def run(
        self,
        x: Tensor,
        grid: tuple[int, int],
        record: Iterable[int] = (),
        settled: Settled = FP32,
        depth: int | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """All blocks but the last, or the first ``depth``.

        Args:
            x: ``[B, P + N, d]`` from :meth:`embed`.
            grid: ``(h, w)`` with ``h * w = N``.
            record: 0-based indices of blocks whose *input* tokens are wanted.
            settled: decides which blocks multiply int8; autocast is the caller's.
            depth: number of blocks; ``None``: all but the last.

        Returns:
            tokens that enter the next block, and ``{index: input tokens}``.
        """
        record, inputs = set(record), {}
        depth = len(self.blocks) - 1 if depth is None else depth
        for i, block in enumerate(self.blocks[:depth]):
            if i in record:
                inputs[i] = x
            with settled.layers(i, len(self.blocks)):
                x = block(x, grid)
        if depth in record:
            inputs[depth] = x
        return x, inputs

    @property
    def final_norm(self) -> nn.Module:
        """The LayerNorm after the last block."""
        raise NotImplementedError

    def post_norm(self, x: Tensor) -> Tensor:
        """``x`` after :attr:`final_norm`."""
        return self.final_norm(x)

    def project(self, x: Tensor) -> Tensor:
        """Post-normed tokens ``[..., d]`` into the text space ``[..., D]``."""
        raise NotImplementedError

    def positions(self, patch_part: Tensor, grid: tuple[int, int], mode: str) -> Tensor:
        """Positional embedding of the patches for ``grid``, ``[1, h * w, d]``.

        Args:
            patch_part: ``[h0 * w0, d]`` learnt embedding on the native grid.
            mode: ``'size'``: bicubic to the size of the grid (MaskCLIP, CLIP-DINOiser). ``'scale'``: bicubic by the
                scale factor ``(h + 0.1) / h0`` which PyTorch then uses for the coordinates, so that values differ a
                little from ``'size'``; nothing is resized when the number of patches is the native one (DINO's rule,
                used by SCLIP, ClearCLIP, NACLIP, ProxyCLIP, Trident, CorrCLIP). ``'bilinear'``: bilinear to the size
                (CLIPer). ``'antialias'``: bicubic to the size, antialiased where the grid gets smaller (DINOv2 with
                registers: Talk2DINO). ``'square'``: bilinear to a square of the longer side, whose upper left part is
                taken (RADIO); ``'square_corners'``: the same with aligned corners (C-RADIOv3-B and -H).
        """
        check_pos_embed(mode)
        h0, w0 = self.native_grid
        if torch.compiler.is_exporting():
            return self._resized_to_any(patch_part, grid, mode)
        if grid == (h0, w0) or (mode == "scale" and grid[0] * grid[1] == h0 * w0):
            return patch_part[None]
        trained = torch.is_grad_enabled() and patch_part.requires_grad
        if trained or torch.compiler.is_compiling() or patch_part.device.type != "cpu":
            by_matrices = patch_part.device.type == "cuda" and mode in ("size", "scale")
            return (self._resized_by_matrices if by_matrices else self._resized)(patch_part, grid, mode)
        table, key = patch_part.detach(), (grid, mode, patch_part.device, patch_part.dtype)
        kept = self._pos_cache.get(key)
        if kept is None or not torch.equal(kept[0], table):
            with torch.inference_mode(False), torch.no_grad():  # it outlives the call
                kept = (table.clone(), self._resized(table.clone(), grid, mode))
            while len(self._pos_cache) >= 64:  # one entry per window shape; photos of every shape must not pile up
                self._pos_cache.pop(next(iter(self._pos_cache), None), None)
            self._pos_cache[key] = kept
        return kept[1]

    def _resized(self, patch_part: Tensor, grid: tuple[int, int], mode: str) -> Tensor:
        """:meth:`positions` where the grid is not the native one."""
        h0, w0 = self.native_grid
        image = patch_part.float().T.reshape(1, -1, h0, w0)
        if mode == "scale":
            factor = ((grid[0] + 0.1) / h0, (grid[1] + 0.1) / w0)
            image = F.interpolate(image, scale_factor=factor, mode="bicubic", align_corners=False)
        elif mode in ("square", "square_corners"):
            side = (max(grid), max(grid))
            image = F.interpolate(image, size=side, mode="bilinear", align_corners=mode == "square_corners")
            image = image[..., : grid[0], : grid[1]]
        else:
            method = "bilinear" if mode == "bilinear" else "bicubic"
            image = F.interpolate(image, size=grid, mode=method, align_corners=False, antialias=mode == "antialias")
        return image.flatten(2).transpose(1, 2).to(patch_part.dtype)

    def _resized_by_matrices(self, patch_part: Tensor, grid: tuple[int, int], mode: str) -> Tensor:
        """:meth:`_resized`, bicubic, as two small products: PyTorch's own kernel takes 1.7 ms on an H100."""
        added = 0.1 if mode == "scale" else 0.0
        like = patch_part.float()
        rows, columns = (
            _kept_bicubic(n0, n, (n + added) / n0, like.device) for n0, n in zip(self.native_grid, grid, strict=True)
        )
        image = columns @ like.view(*self.native_grid, -1)
        return (rows @ image.flatten(1)).view(1, grid[0] * grid[1], -1).to(patch_part.dtype)

    def _resized_to_any(self, patch_part: Tensor, grid: tuple[int, int], mode: str) -> Tensor:
        """:meth:`positions` without a decision that depends on ``grid``: one graph serves windows of all sizes."""
        if mode != "scale":
            return self._resized(patch_part, grid, mode)
        h0, w0 = self.native_grid
        table = patch_part.float()
        rows, columns = (_bicubic(n0, n, (n + 0.1) / n0, table) for n0, n in zip((h0, w0), grid, strict=True))
        resized = (rows @ (columns @ table.view(h0, w0, -1)).flatten(1)).view(grid[0] * grid[1], -1)
        index = torch.arange(grid[0] * grid[1], device=table.device)
        native = index[-1] == h0 * w0 - 1
        return torch.where(native, table[index.clamp(max=h0 * w0 - 1)], resized)[None].to(patch_part.dtype)


def _bicubic(size: int, new_size: int, scale: float, like: Tensor) -> Tensor:
    """``[new_size, size]`` weights of torch's bicubic interpolation by a scale factor (a = -0.75, edges repeated)."""
    at = (torch.arange(new_size, dtype=torch.float32, device=like.device) + 0.5) / scale - 0.5
    first = at.floor()
    weights = like.new_zeros(new_size, size)
    for tap in (-1, 0, 1, 2):
        x = (at - first - tap).abs()
        near = (1.25 * x - 2.25) * x * x + 1
        far = ((-0.75 * x + 3.75) * x - 6) * x + 3
        index = (first + tap).clamp(0, size - 1)
        place = torch.arange(size, device=like.device) == index[:, None]
        weights = weights + torch.where(x <= 1, near, far)[:, None] * place
    return weights


@lru_cache(maxsize=256)
def _kept_bicubic(size: int, new_size: int, scale: float, device: torch.device) -> Tensor:
    """:func:`_bicubic` on a device: a function of sizes, not of weights, so that it may be kept."""
    with torch.inference_mode(False), torch.no_grad():
        return _bicubic(size, new_size, scale, torch.zeros(0)).to(device)


class OpenClipTower(VisionTower):
    """open_clip's own ``VisionTransformer`` (OpenAI, LAION, DataComp, MetaCLIP, DFN, nano ...).

    Raises:
        TypeError: if the model has custom blocks, attentional pooling or no projection.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        if visual.attn_pool is not None:
            raise TypeError("this CLIP pools by attention (CoCa): dense features are not defined for it")
        bad = [b for b in visual.transformer.resblocks if not isinstance(b, ResidualAttentionBlock)]
        if bad:
            raise TypeError(
                f"this CLIP has blocks of type {type(bad[0]).__name__}; only plain ViT blocks are supported"
            )
        self.visual = visual
        self.blocks = nn.ModuleList(OpenClipBlock(b) for b in visual.transformer.resblocks)
        self.num_prefix = 1
        self.patch_size = visual.patch_size[0]
        self.native_grid = tuple(visual.grid_size)
        self.width = visual.conv1.out_channels
        self.embed_dim = visual.output_dim

    def embed(self, images: Tensor, pos_embed: str = "size", extra: Tensor | None = None) -> Tensor:
        """As in the base class; ``extra`` ``[B, h * w, d]`` is added to the patch embeddings (Alpha-CLIP's alpha)."""
        grid = self.grid_of(*images.shape[-2:])
        x = self.patches(images)
        return self.tokens(x if extra is None else x + extra.to(x.dtype), grid, pos_embed)

    def patches(self, images: Tensor) -> Tensor:
        """The patch convolution alone, ``[B, h * w, d]``."""
        # the convolution itself: a product over pixels rounds otherwise, which CLIP-DINOiser's hard cut shows
        return self.visual.conv1(images.to(self.visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)

    def tokens(self, patches: Tensor, grid: tuple[int, int], pos_embed: str = "size") -> Tensor:
        """Patches ``[B, h * w, d]`` with positions, after CLS, normed: ``[B, 1 + h * w, d]``."""
        visual, table = self.visual, self.visual.positional_embedding
        x = patches + self.positions(table[1:], grid, pos_embed).to(patches.dtype)
        cls = (visual.class_embedding + table[0]).to(x.dtype).expand(x.shape[0], 1, -1)
        return visual.ln_pre(torch.cat([cls, x], dim=1))

    @property
    def final_norm(self) -> nn.Module:
        return self.visual.ln_post

    def project(self, x: Tensor) -> Tensor:
        return x @ self.visual.proj.to(x.dtype)


class TimmTower(VisionTower):
    """A timm ``VisionTransformer`` inside open_clip's ``TimmModel`` (SigLIP, SigLIP2, ViT-SO400M).

    SigLIP pools with a learnt query (MAP head) instead of a CLS token. A patch's dense embedding is then the MAP head
    applied to that patch alone: value and output projection of the pooling attention, then its MLP, as attention over
    a single token gives.

    Raises:
        TypeError: if the trunk is not a plain ViT.
    """

    block_type = TimmBlock

    def __init__(self, model: TimmModel) -> None:
        super().__init__()
        trunk = model.trunk
        for name in ("patch_embed", "blocks", "norm"):
            if getattr(trunk, name, None) is None:
                raise TypeError(f"timm trunk {type(trunk).__name__} has no {name!r}: not a plain ViT")
        self.trunk, self.head = trunk, model.head
        self.blocks = nn.ModuleList(self.block_type(b) for b in trunk.blocks)
        self.num_prefix = trunk.num_prefix_tokens
        self.patch_size = trunk.patch_embed.patch_size[0]
        self.native_grid = tuple(trunk.patch_embed.grid_size)
        self.width = trunk.embed_dim
        with torch.no_grad():
            self.embed_dim = self.project(trunk.patch_embed.proj.weight.new_zeros(1, 1, self.width)).shape[-1]

    def embed(self, images: Tensor, pos_embed: str = "size") -> Tensor:
        grid, trunk = self.grid_of(*images.shape[-2:]), self.trunk
        p = self.patch_size
        images = images[..., : grid[0] * p, : grid[1] * p].to(trunk.patch_embed.proj.weight.dtype)
        x = trunk.patch_embed.proj(images).flatten(2).transpose(1, 2)
        table = None if trunk.pos_embed is None else trunk.pos_embed[0]  # DINOv3 has rotary positions only
        prefix_positions = 0 if table is None or trunk.no_embed_class else self.num_prefix
        if table is not None:
            x = x + self.positions(table[prefix_positions:], grid, pos_embed).to(x.dtype)
        if self.num_prefix:
            tokens = [t for t in (trunk.cls_token, getattr(trunk, "reg_token", None)) if t is not None]
            prefix = torch.cat(tokens, dim=1)
            if prefix_positions:
                prefix = prefix + table[None, :prefix_positions]
            x = torch.cat([prefix.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        return getattr(trunk, "norm_pre", nn.Identity())(x)

    @property
    def final_norm(self) -> nn.Module:
        return self.trunk.norm

    def project(self, x: Tensor) -> Tensor:
        pool = getattr(self.trunk, "attn_pool", None)
        if pool is not None:
            value = pool.kv(x).chunk(2, dim=-1)[1]
            x = pool.proj(value)
            if pool.mlp is not None:
                x = x + pool.mlp(pool.norm(x))
        return self.head(self.trunk.head(self.trunk.fc_norm(x)))


class RotaryTables:
    """A trunk's rotary embedding on any grid. timm's, when built for one image size, gives the table of that size
    whatever grid it is asked for.

    Args:
        rope: the trunk's, which has no weights.
    """

    def __init__(self, rope: nn.Module) -> None:
        self.rope = rope
        self._tables: dict[tuple, Tensor] = {}

    def __call__(self, grid: tuple[int, int]) -> Tensor:
        """The embedding of ``grid`` (rows, columns)."""
        built_for = getattr(self.rope, "feat_shape", None)
        if built_for is None or tuple(built_for) == tuple(grid):
            return self.rope.get_embed(shape=list(grid))
        native = self.rope.get_embed()
        key = (*grid, native.device, native.dtype)
        if key not in self._tables:
            with torch.inference_mode(False):  # training may use it later
                other = copy.deepcopy(self.rope)
                other.update_feat_shape(list(grid))
                self._tables[key] = other.get_embed()
        return self._tables[key]


class EvaBlock(TransformerBlock):
    """A block of timm's ``Eva`` (EVA-02 CLIP) in pieces; q and k carry the rotary positions.

    Args:
        block: timm's block.
        rope: the trunk's rotary tables, or ``None``.
    """

    def __init__(self, block: nn.Module, rope: RotaryTables | None) -> None:
        super().__init__()
        self.block = block
        self.num_heads, self.scale = block.attn.num_heads, block.attn.scale
        self._rope = rope

    def rotation(self, grid: tuple[int, int] | None) -> Tensor | None:
        """The rotary embedding of ``grid``.

        Raises:
            ValueError: if ``grid`` is missing.
        """
        if self._rope is None:
            return None
        if grid is None:
            raise ValueError("this tower has rotary positions (EVA-02): pass the patch grid to block(...) and qkv(...)")
        return self._rope(grid)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        if getattr(self.block.attn, "gate", None) is not None:
            return self.block(x, rope=self.rotation(grid))
        x = x + self.out(attention(*self.qkv(self.norm1(x), grid), self.scale))
        return x + self.ffn(x)

    def norm1(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def qkv(self, y: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attn, rotation = self.block.attn, self.rotation(grid)
        q, k, v = self.qkv_unrotated(y)
        if rotation is not None:
            prefix, half = attn.num_prefix_tokens, attn.rotate_half
            q, k = (
                torch.cat(
                    [t[:, :, :prefix], apply_rot_embed_cat(t[:, :, prefix:], rotation, half=half)], dim=2
                ).type_as(v)
                for t in (q, k)
            )
        return q, k, v

    def qkv_unrotated(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attn = self.block.attn
        if attn.qkv is not None:
            parts = linear(y, attn.qkv.weight).chunk(3, dim=-1)
            if attn.q_bias is not None:  # apart from the product, whose packed weight belongs to a bias that stays
                parts = [part + bias for part, bias in zip(parts, (attn.q_bias, attn.k_bias, attn.v_bias), strict=True)]
        else:
            parts = [apply_linear(y, layer) for layer in (attn.q_proj, attn.k_proj, attn.v_proj)]
        q, k, v = (self.split_heads(t) for t in parts)
        return attn.q_norm(q), attn.k_norm(k), v

    def value(self, y: Tensor) -> Tensor:
        attn = self.block.attn
        if attn.qkv is None:
            return apply_linear(y, attn.v_proj)
        d = attn.qkv.out_features // 3
        value = linear(y, attn.qkv.weight, None, slice(2 * d, 3 * d))
        return value if attn.v_bias is None else value + attn.v_bias

    def unscaled_out(self, mixed: Tensor) -> Tensor:
        return apply_linear(self.block.attn.norm(mixed), self.block.attn.proj)

    def out(self, mixed: Tensor) -> Tensor:
        z = self.unscaled_out(mixed)
        return z if self.block.gamma_1 is None else self.block.gamma_1 * z

    def norm2(self, x: Tensor) -> Tensor:
        return self.block.norm2(x)

    def ffn(self, x: Tensor) -> Tensor:
        z = self._feed_forward(self.block.norm2(x))
        return z if self.block.gamma_2 is None else self.block.gamma_2 * z

    def _feed_forward(self, y: Tensor) -> Tensor:
        mlp = self.block.mlp
        if type(mlp) is Mlp and isinstance(mlp.norm, nn.Identity):
            return feed_forward(y, mlp.fc1, mlp.act, mlp.fc2)
        if type(mlp) is SwiGLU:
            return apply_linear(mlp.norm(mlp.act(apply_linear(y, mlp.fc1_g)) * apply_linear(y, mlp.fc1_x)), mlp.fc2)
        return mlp(y)


class EvaTower(TimmTower):
    """A timm ``Eva`` trunk inside open_clip's ``TimmModel`` (EVA-02 CLIP B/16, L/14, E/14)."""

    def __init__(self, model: TimmModel) -> None:
        if not isinstance(model.trunk.blocks[0], TimmEvaBlock):
            raise TypeError(f"EVA block {type(model.trunk.blocks[0]).__name__} is not pre-norm: not supported")
        rope = None if model.trunk.rope is None else RotaryTables(model.trunk.rope)
        self.block_type = lambda block: EvaBlock(block, rope)
        super().__init__(model)


def build_tower(visual: nn.Module) -> VisionTower:
    """The tower interface for the ``visual`` of any open_clip model.

    Raises:
        TypeError: naming the module and the reason, when its dense features are not defined (ResNets, CoCa ...).
    """
    if isinstance(visual, VisionTransformer):
        return OpenClipTower(visual)
    if isinstance(visual, TimmModel):
        return EvaTower(visual) if isinstance(visual.trunk, Eva) else TimmTower(visual)
    raise TypeError(f"image tower {type(visual).__name__} is not a vision transformer; ovseg needs a ViT-based CLIP")
