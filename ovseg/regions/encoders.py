"""Region encoders: from a photo and a mask to one embedding in the text space."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.backbones.clip import ClipBackbone
from ovseg.describing import described
from ovseg.encoder import WindowBatch, WindowEncoder
from ovseg.photo import Photo
from ovseg.region_maps import resize_regions
from ovseg.registry import REGION_ENCODERS
from ovseg.weights import load_state_dict


@described
class RegionEncoder(nn.Module):
    """Embeds the regions of a photo. A new encoder writes :meth:`views`, or :meth:`encode` where no picture will do.

    Args:
        batch: regions encoded at once; does not change the result.
    """

    def __init__(self, batch: int = 16) -> None:
        super().__init__()
        self.batch = int(batch)

    def forward(self, photo: Photo, masks: np.ndarray, encoder: WindowEncoder) -> Tensor:
        """Unit embeddings ``[M, D]`` of masks, bool ``[M, H, W]`` at the photo's original size, none empty."""
        parts = [
            self.encode(photo, masks[start : start + self.batch], encoder.backbone)
            for start in range(0, len(masks), self.batch)
        ]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def encode(self, photo: Photo, masks: np.ndarray, backbone: ClipBackbone) -> Tensor:
        """Embeddings ``[m, D]`` of a batch of masks; here of the pictures that :meth:`views` makes."""
        image = photo.require_original().permute(1, 2, 0).cpu().numpy()
        size = input_size(backbone)
        views = [torch.from_numpy(self.view(image, mask, size, backbone)).permute(2, 0, 1) for mask in masks]
        return backbone.clip.encode_image(torch.stack([backbone.normalise(v) for v in views]))

    def view(self, image: np.ndarray, mask: np.ndarray, size: int, backbone: ClipBackbone) -> np.ndarray:
        """The picture that shows one region: uint8 ``[size, size, 3]`` from uint8 ``[H, W, 3]`` and bool ``[H, W]``."""
        raise NotImplementedError


def input_size(backbone: ClipBackbone) -> int:
    """Side of CLIP's training images in pixels."""
    return backbone.tower.native_grid[0] * backbone.patch_size


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """To a square, aspect ratio given up; averaging where it gets smaller."""
    smaller = size * size < image.shape[0] * image.shape[1]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def box_of(mask: np.ndarray, margin: float = 0.0) -> tuple[slice, slice]:
    """Rows and columns of the mask's box, enlarged on every side by ``margin`` of its longer side."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    extra = int(round(margin * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)))
    return (
        slice(max(rows[0] - extra, 0), min(rows[-1] + 1 + extra, mask.shape[0])),
        slice(max(columns[0] - extra, 0), min(columns[-1] + 1 + extra, mask.shape[1])),
    )


def mask_on_grid(masks: np.ndarray | Tensor, grid: tuple[int, int], device: torch.device) -> Tensor:
    """Share of every patch that a mask covers, ``[m, h * w]`` in 0..1."""
    return F.adaptive_avg_pool2d(torch.as_tensor(masks).to(device).float()[:, None], grid).flatten(1)


@REGION_ENCODERS.register_module()
class RegionCrop(RegionEncoder):
    """The region's box, cut out.

    Args:
        margin: context around the box, in units of its longer side.
        batch: see :class:`RegionEncoder`.
    """

    def __init__(self, margin: float = 0.1, batch: int = 16) -> None:
        super().__init__(batch)
        self.margin = float(margin)

    def view(self, image: np.ndarray, mask: np.ndarray, size: int, backbone: ClipBackbone) -> np.ndarray:
        return shrink(image[box_of(mask, self.margin)], size)


@REGION_ENCODERS.register_module()
class MaskedCrop(RegionCrop):
    """The box with everything outside the mask in CLIP's mean colour (OVSeg, Liang et al., CVPR 2023).

    Args:
        margin, batch: see :class:`RegionCrop`.
    """

    def view(self, image: np.ndarray, mask: np.ndarray, size: int, backbone: ClipBackbone) -> np.ndarray:
        box = box_of(mask, self.margin)
        mean = backbone.mean.flatten().cpu().numpy().round().astype(np.uint8)
        return shrink(np.where(mask[box][..., None], image[box], mean), size)


@REGION_ENCODERS.register_module()
class BlurReverse(RegionEncoder):
    """The whole photo with everything outside the mask blurred (FGVP, Yang et al., NeurIPS 2023: blur reverse mask).

    Args:
        sigma: of the blur in pixels of the photo.
        batch: see :class:`RegionEncoder`.
    """

    def __init__(self, sigma: float = 10.0, batch: int = 16) -> None:
        super().__init__(batch)
        self.sigma = float(sigma)

    def view(self, image: np.ndarray, mask: np.ndarray, size: int, backbone: ClipBackbone) -> np.ndarray:
        return shrink(np.where(mask[..., None], image, cv2.GaussianBlur(image, (0, 0), self.sigma)), size)


@REGION_ENCODERS.register_module()
class RedCircle(RegionEncoder):
    """The whole photo with a red ellipse around the region (Shtedritski et al., ICCV 2023).

    Args:
        thickness: of the line as a share of the photo's shorter side.
        batch: see :class:`RegionEncoder`.
    """

    def __init__(self, thickness: float = 0.01, batch: int = 16) -> None:
        super().__init__(batch)
        self.thickness = float(thickness)

    def view(self, image: np.ndarray, mask: np.ndarray, size: int, backbone: ClipBackbone) -> np.ndarray:
        rows, columns = box_of(mask)
        centre = ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2)
        axes = ((columns.stop - columns.start) * 2**0.5, (rows.stop - rows.start) * 2**0.5)  # ellipse around the box
        line = max(1, round(self.thickness * min(image.shape[:2])))
        return shrink(cv2.ellipse(image.copy(), (centre, axes, 0.0), (255, 0, 0), line), size)


@REGION_ENCODERS.register_module()
class MaskPooling(RegionEncoder):
    """Mean of the dense features inside the mask, from the segmentor's own attention in its own windows."""

    def forward(self, photo: Photo, masks: np.ndarray, encoder: WindowEncoder) -> Tensor:
        layout = encoder.layout(photo)
        windows = encoder.cut(photo, layout).windows
        places = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
        (h, w), (ph, pw), (top, left) = layout.window, layout.padded, layout.offset
        inside = resize_regions(torch.from_numpy(masks), layout.image_size).to(windows.device)
        for lost in (~inside.flatten(1).any(1)).nonzero().flatten().tolist():  # small masks between the samples
            whole = torch.from_numpy(masks[lost]).float()[None]
            inside[lost] = (F.adaptive_max_pool2d(whole, layout.image_size)[0] > 0).to(inside.device)
        total = windows.new_zeros(len(masks), encoder.backbone.tower.embed_dim)
        for start in range(0, len(windows), encoder.windows.batch):
            some = slice(start, start + encoder.windows.batch)
            features = encoder.encode(WindowBatch(windows[some]))
            dense = F.normalize(features.patches.float(), dim=-1)
            for patches, (y, x) in zip(dense, places[some], strict=True):
                part = F.pad(inside[:, y : y + h, x : x + w], (left, pw - w - left, top, ph - h - top))
                total += mask_on_grid(part, features.grid, dense.device) @ patches
        return F.normalize(total, dim=-1)


@REGION_ENCODERS.register_module()
class FovealAttention(RegionEncoder):
    """The whole photo; in every block CLS looks more at the region (FALIP, Zhuang et al., ECCV 2024).

    ``alpha`` times the mask, on the grid of patches, is added to the attention logits of CLS.

    Args:
        alpha: added where a patch lies wholly inside the region.
        batch: see :class:`RegionEncoder`.
    """

    def __init__(self, alpha: float = 2.0, batch: int = 16) -> None:
        super().__init__(batch)
        self.alpha = float(alpha)

    def encode(self, photo: Photo, masks: np.ndarray, backbone: ClipBackbone) -> Tensor:
        tower, size = backbone.tower, input_size(backbone)
        _need_cls(self, backbone)
        image = torch.from_numpy(shrink(photo.require_original().permute(1, 2, 0).cpu().numpy(), size))
        images = backbone.normalise(image.permute(2, 0, 1))[None].expand(len(masks), -1, -1, -1)
        grid = tower.grid_of(size, size)
        x = tower.embed(images, backbone.pos_embed)
        bias = x.new_zeros(len(masks), 1, x.shape[1], x.shape[1])
        bias[:, 0, 0, tower.num_prefix :] = self.alpha * mask_on_grid(masks, grid, x.device)
        for block in tower.blocks:
            q, k, v = block.qkv(block.norm1(x), grid)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=block.scale)
            x = x + block.out(mixed.transpose(1, 2).flatten(2))
            x = x + block.ffn(x)
        return tower.project(tower.post_norm(x[:, 0]))


@REGION_ENCODERS.register_module()
class AlphaChannel(RegionEncoder):
    """The whole photo with the mask as a fourth channel (Alpha-CLIP, Sun et al., CVPR 2024).

    Args:
        checkpoint: Alpha-CLIP's file, of which ``visual.conv1_alpha.weight`` is read here; give the same file as the
            CLIP's checkpoint, since Alpha-CLIP tunes the image tower too.
        batch: see :class:`RegionEncoder`.

    Raises:
        ValueError: if the file has no alpha filter.
    """

    def __init__(self, checkpoint: str | Path, batch: int = 16) -> None:
        super().__init__(batch)
        state = load_state_dict(Path(checkpoint))
        weight = next((state[k] for k in state if k.endswith("conv1_alpha.weight")), None)
        if weight is None:
            raise ValueError(f"{checkpoint} holds no 'visual.conv1_alpha.weight': it is not a checkpoint of Alpha-CLIP")
        self.register_buffer("weight", weight.float())

    def encode(self, photo: Photo, masks: np.ndarray, backbone: ClipBackbone) -> Tensor:
        tower, size = backbone.tower, input_size(backbone)
        _need_cls(self, backbone)
        image = torch.from_numpy(shrink(photo.require_original().permute(1, 2, 0).cpu().numpy(), size))
        images = backbone.normalise(image.permute(2, 0, 1))[None].expand(len(masks), -1, -1, -1)
        alpha = F.interpolate(torch.from_numpy(masks).float()[:, None], size=(size, size), mode="area").to(images)
        alpha = (alpha - 0.5) / 0.26  # Alpha-CLIP's normalisation of the mask
        extra = F.conv2d(alpha, self.weight.to(alpha), stride=tower.patch_size).flatten(2).transpose(1, 2)
        x = tower.embed(images, backbone.pos_embed, extra=extra)
        grid = tower.grid_of(size, size)
        for block in tower.blocks:
            x = block(x, grid)
        return tower.project(tower.post_norm(x[:, 0]))


def _need_cls(encoder: RegionEncoder, backbone: ClipBackbone) -> None:
    if not backbone.tower.num_prefix:
        raise ValueError(f"{type(encoder).__name__} works on the CLS token, which this CLIP does not have")
