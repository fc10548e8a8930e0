"""Self-supervised pretraining of nano's guide: which patches belong together, learned from images alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import FUNCTIONS
from timm.models import VisionTransformer
from torch import Tensor
from torch.utils.data import Dataset

from ovseg.nano.assets import asset
from ovseg.nano.dataset import RandomScenes
from ovseg.nano.pretrain import _MEAN, _STD, patchify
from ovseg.registry import DATASETS, MODELS
from ovseg.weights.load import build_packaged_vit


@DATASETS.register_module()
class ScenePhotos(RandomScenes):
    """Scenes as photos without any label.

    Arguments as of :class:`ovseg.nano.dataset.RandomScenes`. Items are dicts with ``inputs``, a uint8 tensor
    ``[3, size, size]``, RGB.
    """

    def __getitem__(self, index: int) -> dict:
        scene, _ = self.draw(index)
        return {"inputs": torch.from_numpy(scene.image.transpose(2, 0, 1).copy())}


@DATASETS.register_module()
class SceneViews(Dataset):
    """Two crops of one photo, each with colours of its own.

    Sample ``i`` is a pure function of photo ``i`` and of ``(seed, i)``.

    Args:
        photos: config of a data set whose items hold ``inputs``, a square uint8 RGB image ``[3, S, S]``; whatever else
            they hold is left behind.
        size: edge length of a view in pixels, a multiple of the patch size.
        scale: smallest and largest edge length of a crop, in pixels of the photo, drawn log-uniformly.
        shift: how far each crop's middle lies from the middle they share at most, as a share of their edge length, in
            both directions.
        colour: strength of the random change of colours; 0 leaves them.
        grey: probability that a view has no colour.
        blur: probability that a view is blurred.
        seed: base seed.

    Items are dicts: ``inputs`` uint8 ``[2, 3, size, size]``; ``boxes`` float32 ``[2, 4]``: left, top and edge length of
    each crop in pixels of the photo, and 1 where it is mirrored, else 0.
    """

    def __init__(
        self,
        photos: dict,
        size: int = 80,
        scale: tuple[float, float] = (64, 128),
        shift: float = 0.175,
        colour: float = 0.25,
        grey: float = 0.1,
        blur: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.photos = DATASETS.build(photos)
        self.size, self.scale, self.shift, self.seed = size, tuple(scale), shift, seed
        self.colour, self.grey, self.blur = colour, grey, blur

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng((self.seed, index, 1))
        photo = np.ascontiguousarray(np.asarray(self.photos[index]["inputs"]).transpose(1, 2, 0))
        limit = min(photo.shape[:2])
        edges = np.exp(rng.uniform(*np.log(self.scale), 2)).clip(max=limit)
        middle = rng.uniform(edges.max() / 2, limit - edges.max() / 2, 2)
        views, boxes = [], []
        for edge in edges:
            centre = middle + rng.uniform(-self.shift, self.shift, 2) * edges.mean()
            left, top = (centre - edge / 2).clip(0, limit - edge)
            mirrored = bool(rng.random() < 0.5)
            views.append(self._recolour(rng, self._crop(photo, left, top, edge, mirrored)))
            boxes.append((left, top, edge, float(mirrored)))
        return {"inputs": np.stack(views).transpose(0, 3, 1, 2), "boxes": np.array(boxes, dtype=np.float32)}

    def _crop(self, photo: np.ndarray, left: float, top: float, edge: float, mirrored: bool) -> np.ndarray:
        scale = self.size / edge
        # warpAffine counts from pixel centres.
        matrix = np.array([[scale, 0, scale * (0.5 - left) - 0.5], [0, scale, scale * (0.5 - top) - 0.5]])
        if mirrored:
            matrix[0] = [-scale, 0, self.size - 1 - matrix[0, 2]]
        return cv2.warpAffine(photo, matrix, (self.size, self.size), borderMode=cv2.BORDER_REFLECT_101)

    def _recolour(self, rng: np.random.Generator, view: np.ndarray) -> np.ndarray:
        """Mix the colour channels, change contrast and brightness, blur; the same for all pixels of a view."""
        matrix = np.eye(3) + rng.normal(0, self.colour, (3, 3))
        if rng.random() < self.grey:
            matrix = np.full((3, 3), 1 / 3)
        contrast = np.exp(rng.normal(0, self.colour))
        # Mid-grey stays near mid-grey.
        offset = 127.5 + rng.normal(0, 60 * self.colour, 3) - contrast * matrix @ np.full(3, 127.5)
        view = cv2.transform(view, np.column_stack([contrast * matrix, offset]))
        return cv2.GaussianBlur(view, (3, 3), rng.uniform(0.3, 1.0)) if rng.random() < self.blur else view


@FUNCTIONS.register_module()
def stack_views(batch: Sequence[dict]) -> dict:
    """Collate: ``inputs`` uint8 tensor ``[b, 2, 3, h, w]``, ``boxes`` float32 ``[b, 2, 4]``."""
    return {name: torch.from_numpy(np.stack([item[name] for item in batch])) for name in ("inputs", "boxes")}


def locate(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where the patch centres of the first view lie in the second one.

    Args:
        boxes: ``[b, 2, 4]`` of :class:`SceneViews`.
        grid: rows and columns of patches of the first view.

    Returns:
        ``[b, rows * columns, 2]``: x and y, from 0 to 1 inside the second view.
    """
    rows, columns = ((torch.arange(n, device=boxes.device) + 0.5) / n for n in grid)
    x, y = columns.repeat(grid[0]), rows.repeat_interleave(grid[1])
    (left, top, edge, mirrored), (left2, top2, edge2, mirrored2) = boxes[..., None].permute(1, 2, 0, 3)
    x = (left + edge * torch.where(mirrored > 0, 1 - x, x) - left2) / edge2
    y = (top + edge * y - top2) / edge2
    return torch.stack([torch.where(mirrored2 > 0, 1 - x, x), y], dim=-1)


def sample(features: Tensor, grid: tuple[int, int], where: Tensor) -> Tensor:
    """Unit features at places of :func:`locate`, interpolated: ``[b, n, d]`` on ``grid`` to ``[b, m, d]``."""
    picture = features.mT.unflatten(2, grid)
    found = F.grid_sample(picture, 2 * where[:, None] - 1, padding_mode="border", align_corners=False)
    return F.normalize(found[:, :, 0].mT, dim=-1)


def likeness(features: Tensor, grid: tuple[int, int], reach: float, sharpness: float) -> Tensor:
    """Weights of each patch's like neighbours, by the distance in the image and the cosine of the features.

    SelfPatch (Yun et al., CVPR 2022, section 3.2) takes the most similar of a patch's eight neighbours as its
    positives; this is a soft form of it with a wider reach.

    Args:
        features: unit vectors ``[b, n, d]``.
        grid: rows and columns of the ``n`` patches.
        reach: standard deviation of the Gaussian in the image, in patches.
        sharpness: factor on the cosines.

    Returns:
        ``[b, n, n]``, rows sum to 1.
    """
    place = torch.cartesian_prod(*(torch.arange(n, device=features.device, dtype=features.dtype) for n in grid))
    nearness = -torch.cdist(place, place).square() / (2 * reach**2)
    return (sharpness * features @ features.mT + nearness).softmax(dim=-1)


@MODELS.register_module()
class GuidePretrainer(BaseModel):
    """Self-distillation of patches: an average of past students says which patches are alike, the student learns it.

    As in DINO (Caron et al., ICCV 2021) teacher and student see different views of a photo, the teacher is a moving
    average, its outputs are centred and sharpened. Three cross-entropies between the two:

    1. *patch*: over the patches of the second view. The teacher's target for a patch is how alike each of them is to
       the spot the patch shows, after every patch was averaged with its like neighbours (:func:`likeness`). Features
       are centred per image: what a whole image has in common says nothing about its parts.
    2. *world*: the same over patches drawn from all images of the batch, which stand in for DINO's prototypes; features
       are centred over the batches.
    3. *image*: the class token finds its own image among those of the batch, by the teacher's class tokens.

    There is no projection head: the losses act on the tokens after the final LayerNorm, which guided methods read.

    Args:
        guide: json file with ``model_cfg``, the arguments of timm's ``VisionTransformer``.
        momentum: of the teacher, per iteration.
        reach, sharpness: see :func:`likeness`.
        anchors: patches of each image that the second term draws.
        teacher_temperature, student_temperature: of the cosines.
        world_weight, image_weight: weights of the second and third term.
        centre_rate: how fast the centres of terms 2 and 3 follow the batches.
        autocast: run the transformers in bfloat16.

    Attributes:
        guide: the teacher, which is shipped.
        student: what the optimizer changes.
    """

    def __init__(
        self,
        guide: str,
        momentum: float = 0.99,
        reach: float = 2.0,
        sharpness: float = 5.0,
        anchors: int = 8,
        teacher_temperature: float = 0.06,
        student_temperature: float = 0.1,
        world_weight: float = 0.5,
        image_weight: float = 0.2,
        centre_rate: float = 0.1,
        autocast: bool = True,
    ) -> None:
        super().__init__()
        self.student = build_packaged_vit(json.loads(asset(guide).read_text(encoding="utf-8")))
        for block in self.student.blocks:
            block.attn.fused_attn = False  # for a few dozen tokens the fused CPU kernel is slower
        self.guide = copy.deepcopy(self.student).requires_grad_(False)
        self.momentum, self.reach, self.sharpness, self.anchors = momentum, reach, sharpness, anchors
        self.teacher_temperature, self.student_temperature = teacher_temperature, student_temperature
        self.world_weight, self.image_weight = world_weight, image_weight
        self.centre_rate, self.autocast = centre_rate, autocast
        self.register_buffer("centre", torch.zeros(2, self.student.embed_dim))  # of class tokens and of patches
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1) * 255, persistent=False)

    def encode(self, vit: VisionTransformer, images: Tensor) -> Tensor:
        """Tokens after the final norm, class token first.

        Args:
            vit: student or guide.
            images: uint8 ``[b, 3, h, w]``, at most of the model's size; a smaller one gets a random window of the
                positions, so that all of them are trained.

        Returns:
            float32 ``[b, 1 + n, width]``.

        Raises:
            ValueError: the images are larger than the model's grid.
        """
        patch, (height, width) = vit.patch_embed.patch_size[0], vit.patch_embed.grid_size
        rows, columns = images.shape[2] // patch, images.shape[3] // patch
        if rows > height or columns > width:
            raise ValueError(f"views have {rows} x {columns} patches, more than the model's {height} x {width}")
        patches = (patchify(images, patch).unflatten(-1, (3, -1)) - self.mean) / self.std
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            x = F.linear(patches.flatten(2), vit.patch_embed.proj.weight.flatten(1), vit.patch_embed.proj.bias)
            top, left = (int(torch.randint(n, ())) for n in (height - rows + 1, width - columns + 1))
            places = vit.pos_embed[0, 1:].unflatten(0, (height, width))[top : top + rows, left : left + columns]
            token = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1)
            x = torch.cat([token, x + places.flatten(0, 1)], dim=1)
            for block in vit.blocks:
                x = block(x)
            return vit.norm(x).float()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the guide towards the student."""
        for slow, fast in zip(self.guide.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)

    @torch.no_grad()
    def _centred(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Unit class tokens ``[b, d]`` and patches ``[b, n, d]``, the running means taken off."""
        means = torch.stack([tokens[:, 0].mean(0), tokens[:, 1:].mean((0, 1))])
        if self.training:
            self.centre.lerp_(means, self.centre_rate if self.centre.any() else 1.0)
        return F.normalize(tokens[:, 0] - self.centre[0], dim=-1), F.normalize(tokens[:, 1:] - self.centre[1], dim=-1)

    def forward(self, inputs: Tensor, boxes: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        """The training losses of a batch.

        Args:
            inputs: uint8 ``[b, 2, 3, h, w]``: the student's and the teacher's view.
            boxes: float32 ``[b, 2, 4]`` of :class:`SceneViews`.
            mode: ``loss``, the only one.

        Returns:
            the losses, and ``spread``: 1 minus the mean cosine of the student's patches of an image (0: collapsed).
        """
        if mode != "loss":
            raise ValueError(f"GuidePretrainer only trains: mode must be 'loss', not {mode!r}")
        patch = self.student.patch_embed.patch_size[0]
        grid = (inputs.shape[3] // patch, inputs.shape[4] // patch)
        if self.training:
            self._follow()
        tokens = F.normalize(self.encode(self.student, inputs[:, 0]), dim=-1)
        token, patches = tokens[:, 0], tokens[:, 1:]
        with torch.no_grad():
            target = self.encode(self.guide, inputs[:, 1])
            images, world = self._centred(target)
            local = F.normalize(target[:, 1:] - target[:, 1:].mean(1, keepdim=True), dim=-1)
            weights = likeness(local, grid, self.reach, self.sharpness)
            local, world = (F.normalize(weights @ t, dim=-1) for t in (local, world))
            where = locate(boxes, grid)
            inside = ((where > 0) & (where < 1)).all(dim=-1)
            drawn = torch.rand(world.shape[:2], device=world.device).argsort(dim=1)[:, : self.anchors]
            bank = world.gather(1, drawn[..., None].expand(-1, -1, world.shape[-1])).flatten(0, 1)
            local_goal, world_goal = sample(local, grid, where) @ local.mT, sample(world, grid, where) @ bank.T
        own = torch.arange(len(images), device=images.device)
        image_loss = F.cross_entropy(token @ images.T / self.student_temperature, own)
        return {
            "loss_patch": self._distil(local_goal, patches @ local.mT)[inside].mean(),
            "loss_world": self.world_weight * self._distil(world_goal, patches @ bank.T)[inside].mean(),
            "loss_image": self.image_weight * image_loss,
            "spread": 1 - (patches.detach().mean(1).square().sum(-1)).mean(),
        }

    def _distil(self, goal: Tensor, cosines: Tensor) -> Tensor:
        """Cross-entropy of the student's cosines with the teacher's, both ``[b, n, k]``, over the last axis."""
        goal = (goal / self.teacher_temperature).softmax(dim=-1)
        return -(goal * (cosines / self.student_temperature).log_softmax(dim=-1)).sum(dim=-1)
