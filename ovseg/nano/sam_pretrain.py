"""Promptable segmentation: training of a small SAM, as an MMEngine model."""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from segment_anything.modeling import ImageEncoderViT, Sam
from torch import Tensor

from ovseg.nano.assets import asset
from ovseg.nano.sam_dataset import MASK_STRIDE
from ovseg.nano.textures import BACKGROUNDS, texture
from ovseg.registry import MODELS
from ovseg.training.prompt_loss import dice_loss, focal_loss
from ovseg.weights import load_clip
from ovseg.weights.sam_model import build_sam


@torch.no_grad()
def start_from_clip(encoder: ImageEncoderViT, weights: str = "nano") -> None:
    """Copy the blocks and the patch embedding of a CLIP of the same width and depth into a SAM's image encoder.

    The original starts from MAE weights (Kirillov et al., section 5). CLIP's LayerNorm in front of its blocks has no
    counterpart and goes into the patch embedding: its gain and shift as they are, its division by what it is on
    average over nano's textures. CLIP's grid of positions is scaled to one window and repeated, so that windowed
    blocks see what they saw in CLIP ("absolute win", Bolya et al., ICLR 2024). Relative positions and neck stay new.

    Args:
        encoder: changed in place.
        weights: name of a CLIP in the weights catalogue.

    Raises:
        ValueError: patch, width or depth differ.
    """
    clip = load_clip(weights)
    visual = clip.model.visual
    ours = (encoder.patch_embed.proj.weight.shape, len(encoder.blocks))
    theirs = (visual.conv1.weight.shape, len(visual.transformer.resblocks))
    if ours != theirs:
        raise ValueError(f"{weights} has patch embedding and depth {theirs}, the SAM {ours}: set the SAM's sizes so")
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (clip.mean, clip.std))
    samples = torch.from_numpy(np.stack([texture(name, 0, (112, 112)) for name in BACKGROUNDS])).permute(0, 3, 1, 2)
    spread = visual.conv1((samples / 255 - mean) / std).std(dim=1).mean()
    norm, window = visual.ln_pre, encoder.blocks[0].window_size or encoder.pos_embed.shape[1]
    places = visual.positional_embedding[1:].T.reshape(1, -1, *visual.grid_size)
    places = F.interpolate(places, size=(window, window), mode="bicubic", align_corners=False)
    gain = (norm.weight / spread).reshape(-1, 1, 1, 1)
    encoder.patch_embed.proj.weight.copy_(visual.conv1.weight * gain)
    encoder.patch_embed.proj.bias.copy_(norm.bias)
    repeats = math.ceil(encoder.pos_embed.shape[1] / window)
    tiled = (places * gain[None, :, :, 0]).tile(1, 1, repeats, repeats)
    encoder.pos_embed.copy_(tiled[..., : encoder.pos_embed.shape[1], : encoder.pos_embed.shape[2]].permute(0, 2, 3, 1))
    for block, source in zip(encoder.blocks, visual.transformer.resblocks, strict=True):
        block.norm1.load_state_dict(source.ln_1.state_dict())
        block.norm2.load_state_dict(source.ln_2.state_dict())
        block.attn.qkv.weight.copy_(source.attn.in_proj_weight)
        block.attn.qkv.bias.copy_(source.attn.in_proj_bias)
        block.attn.proj.load_state_dict(source.attn.out_proj.state_dict())
        block.mlp.lin1.load_state_dict(source.mlp.c_fc.state_dict())
        block.mlp.lin2.load_state_dict(source.mlp.c_proj.state_dict())


@torch.no_grad()
def look_where_prompted(sam: Sam, sharpness: float = 3.0, content: float = 0.2) -> None:
    """Let an untrained mask decoder look at, and mark, the cells near each point: else it takes long to learn to.

    Queries and keys between tokens and image share one random projection, so that their product is that of their
    positional encodings, which is largest where they agree. The learned embeddings start small beside those encodings.

    Args:
        sam: changed in place.
        sharpness: factor on the projections.
        content: factor on the embeddings of prompts and output tokens.
    """
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        attention.q_proj.weight.mul_(sharpness)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
    prompts = sam.prompt_encoder
    for embedding in (*prompts.point_embeddings, prompts.not_a_point_embed, prompts.no_mask_embed):
        embedding.weight.mul_(content)
    for embedding in (sam.mask_decoder.iou_token, sam.mask_decoder.mask_tokens):
        embedding.weight.mul_(content)


def balanced_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over the last two axes in which covered and free cells weigh the same, however few there are."""
    entropy = F.softplus(logits) - logits * target
    covered = target.sum(dim=(-2, -1)) + 1
    free = (1 - target).sum(dim=(-2, -1)) + 1
    inside, outside = (entropy * target).sum(dim=(-2, -1)), (entropy * (1 - target)).sum(dim=(-2, -1))
    return (inside / covered + outside / free) / 2


#: Loss of the cells, and its weight beside the dice loss.
CELL_LOSSES = {"focal": (focal_loss, 20.0), "balanced": (balanced_loss, 1.0)}


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU over the last two axes of what logits and target (0..1) each claim, both cut in the middle."""
    found, true = logits > 0, target > 0.5
    union = (found | true).sum(dim=(-2, -1))
    return (found & true).sum(dim=(-2, -1)) / union.clamp(min=1)


@MODELS.register_module()
class SamPretrainer(BaseModel):
    """SAM's promptable segmentation task (Kirillov et al., ICCV 2023, section 3 and appendix A).

    Each prompt is a point or a box. Rounds after the first add a point from where the mask was wrong and give the
    mask back as a prompt. Focal and dice loss 20 to 1; the predicted IoU learns by squared error. A lone point has
    three masks of which only the best learns. The single mask, which the original trains from the second prompt
    on, here also learns from the first, so that ``multimask_output=False`` can be asked with one point.

    Args:
        sizes: json file with the arguments of :func:`ovseg.weights.sam_model.build_sam`.
        init: CLIP in the weights catalogue that the image encoder starts from; ``None``: random.
        rounds: prompts per object, the first included.
        easy_steps: the first so many steps have cross entropy in which covered and free cells weigh the same in the
            place of the focal loss, from which an untrained model learns the empty mask first.
        single_steps: the first so many steps have one round.
        affinity: weight of :func:`affinity_loss` on the image embedding and on the values of the last block. Not in
            the original, which learns from 1e9 masks that cells of one object belong together.
        autocast: run the image encoder and the mask decoder in bfloat16; prompts are embedded in float32.
    """

    def __init__(
        self,
        sizes: str,
        init: str | None = "nano",
        rounds: int = 3,
        easy_steps: int = 0,
        single_steps: int = 0,
        affinity: float = 0.0,
        autocast: bool = True,
    ) -> None:
        super().__init__()
        self.sam: Sam = build_sam(json.loads(asset(sizes).read_text(encoding="utf-8")))
        look_where_prompted(self.sam)
        if init is not None:
            start_from_clip(self.sam.image_encoder, init)
        self.rounds, self.easy_steps, self.single_steps = rounds, easy_steps, single_steps
        self.affinity, self.autocast = affinity, autocast
        # In the checkpoint, so that a resumed training knows how far it is.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def encode_image(self, inputs: Tensor, size: Tensor) -> Tensor:
        """Image embeddings ``[b, dim, grid, grid]`` of uint8 ``[b, 3, side, side]``; what pads beyond ``size`` is 0."""
        place = torch.arange(inputs.shape[-1], device=inputs.device)
        inside = (place < size[:, :1])[:, None, :, None] & (place < size[:, 1:])[:, None, None]
        return self.sam.image_encoder((inputs - self.sam.pixel_mean) / self.sam.pixel_std * inside)

    def encode_with_values(self, inputs: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`encode_image` and the values of the last block ``[b, grid, grid, heads, width / heads]``."""
        attention, seen = self.sam.image_encoder.blocks[-1].attn, []
        handle = attention.qkv.register_forward_hook(lambda module, args, out: seen.append(out))
        try:
            embedding = self.encode_image(inputs, size)
        finally:
            handle.remove()
        return embedding, seen[0].chunk(3, dim=-1)[2].unflatten(-1, (attention.num_heads, -1))

    def decode(self, embeddings: Tensor, sparse: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """All masks and predicted IoUs of prompts on different images.

        Args:
            embeddings: the image embedding of each prompt, ``[P, dim, grid, grid]``, float32.
            sparse: embedded points and boxes ``[P, n, dim]``.
            masks: mask prompts ``[P, 1, side, side]``.

        Returns:
            logits ``[P, 4, side, side]``, the single mask first, and IoUs ``[P, 4]``.
        """
        encoder = self.sam.prompt_encoder
        dense = encoder.no_mask_embed.weight[..., None, None] if masks is None else encoder(None, None, masks)[1]
        # The decoder repeats one image for all prompts and adds the mask prompts: the images come with the latter.
        positions = encoder.get_dense_pe()
        with torch.autocast(embeddings.device.type, torch.bfloat16, enabled=self.autocast):
            logits, quality = self.sam.mask_decoder.predict_masks(
                torch.zeros_like(embeddings[:1]), positions, sparse, embeddings + dense
            )
        return logits.float(), quality.float()

    def forward(
        self,
        inputs: Tensor,
        size: Tensor,
        targets: Tensor,
        points: Tensor,
        boxes: Tensor,
        ids: Tensor,
        mode: str = "loss",
    ) -> dict[str, Tensor]:
        """The training losses of a batch of :class:`~ovseg.nano.sam_dataset.SceneMasks`, with a batch axis in front.

        Raises:
            ValueError: for another mode than ``loss``.
        """
        if mode != "loss":
            raise ValueError(f"SamPretrainer only trains: mode must be 'loss', not {mode!r}")
        step = int(self.steps)
        cells = "balanced" if step < self.easy_steps else "focal"
        rounds = 1 if step < self.single_steps else self.rounds
        self.steps += 1
        n_points, n_boxes = points.shape[1], boxes.shape[1]
        targets = torch.cat([targets[:, :n_points].flatten(0, 1), targets[:, n_points:].flatten(0, 1)])[:, None] / 255
        first, boxes = points.flatten(0, 1), boxes.flatten(0, 1)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.autocast):
            images, values = self.encode_with_values(inputs, size)
        images = images.float()
        aid = {}
        if self.affinity:
            cells_of = images.flatten(2).transpose(1, 2)
            heads = values.float().flatten(1, 2).transpose(1, 2)
            aid["loss_embedding"] = self.affinity * affinity_loss(cells_of, ids.flatten(1))
            aid["loss_values"] = self.affinity * affinity_loss(heads, ids.flatten(1)[:, None])
        images = torch.cat([images.repeat_interleave(n, dim=0) for n in (n_points, n_boxes)])
        corrections, labels = first.new_zeros(len(targets), 0, 2), first.new_zeros(len(targets), 0)
        masks, losses = None, []
        for turn in range(rounds):
            logits, quality = self.decode(images, self._sparse(first, boxes, corrections, labels), masks)
            alone = len(first) if turn == 0 else 0
            losses.append(prompt_losses(logits, quality, targets, alone, cells))
            # What goes on to the next round: of a lone point the mask that claims to be best, else the single one.
            best = torch.zeros(len(targets), dtype=torch.int64, device=inputs.device)
            best[:alone] = 1 + quality[:alone, 1:].argmax(dim=1)
            masks = logits.detach().take_along_dim(best[:, None, None, None], dim=1)
            if turn == 0:
                first_iou = mask_iou(masks, targets).mean()
            point, label = correction(masks, targets)
            corrections = torch.cat([corrections, point[:, None]], dim=1)
            labels = torch.cat([labels, label[:, None]], dim=1)
        means = {f"loss_{name}": sum(turn[name] for turn in losses) / len(losses) for name in losses[0]}
        return means | aid | {"iou_first": first_iou, "iou_last": mask_iou(masks, targets).mean()}

    def _sparse(self, points: Tensor, boxes: Tensor, corrections: Tensor, labels: Tensor) -> Tensor:
        """Embedded prompts ``[P, n, dim]``: those that began as a point, then those that began as a box."""
        encoder, n = self.sam.prompt_encoder, len(points)
        all_points = torch.cat([points[:, None], corrections[:n]], dim=1)
        by_point = encoder((all_points, F.pad(labels[:n], (1, 0), value=1.0)), None, None)[0]
        more = (corrections[n:], labels[n:]) if corrections.shape[1] else None
        return torch.cat([by_point, encoder(more, boxes, None)[0]])


def prompt_losses(
    logits: Tensor, quality: Tensor, targets: Tensor, alone: int, cells: str = "focal"
) -> dict[str, Tensor]:
    """Losses of one round.

    Args:
        logits: ``[P, 4, side, side]``, the single mask first.
        quality: predicted IoUs ``[P, 4]``.
        targets: share of each cell that is covered, ``[P, 1, side, side]``.
        alone: the first so many prompts are a lone point, whose other three masks learn as well.
        cells: one of :data:`CELL_LOSSES`.
    """
    cell_loss, weight = CELL_LOSSES[cells]
    pixels, dice = [], []

    def add(logits: Tensor, targets: Tensor) -> None:
        each = torch.stack([weight * cell_loss(logits, targets), dice_loss(logits, targets)])
        each = each.take_along_dim(each.sum(dim=0).argmin(dim=1)[None, :, None], dim=2)[..., 0]
        pixels.append(each[0])
        dice.append(each[1])

    add(logits[:, :1], targets)
    iou = F.mse_loss(quality[:, 0], mask_iou(logits[:, :1], targets)[:, 0])
    if alone:
        add(logits[:alone, 1:], targets[:alone])
        iou = iou + F.mse_loss(quality[:alone, 1:], mask_iou(logits[:alone, 1:], targets[:alone]))
    return {"cells": torch.cat(pixels).mean(), "dice": torch.cat(dice).mean(), "iou": iou}


def affinity_loss(features: Tensor, ids: Tensor, scale: float = 10.0, cut: float = 0.5) -> Tensor:
    """Cross entropy of "these two cells show the same object", read off the cosine of their features.

    Every object weighs the same, however large, and so does every pair of objects; the pairs of cells inside of
    objects together weigh as much as those between objects.

    Args:
        features: ``[..., N, d]``.
        ids: object of each cell ``[..., N]``, broadcast against the features; negative: not counted.
        scale: logit of a cosine 1 above ``cut``.
        cut: cosine at which the cells are held to be of one object with probability one half.
    """
    unit = F.normalize(features, dim=-1)
    logits = scale * (unit @ unit.transpose(-1, -2) - cut)
    counted = ids >= 0
    same = ids[..., :, None] == ids[..., None, :]
    share = counted / (same & counted[..., None, :]).sum(dim=-1).clamp(min=1)
    # The shares of an object's cells sum to one, so those of a photo to its number of objects.
    weight = share[..., :, None] * share[..., None, :]
    objects = share.sum(dim=-1)[..., None, None]
    inside = (F.softplus(-logits) * weight * same).sum(dim=(-2, -1), keepdim=True) / objects.clamp(min=1)
    between = (F.softplus(logits) * weight * ~same).sum(dim=(-2, -1), keepdim=True)
    return (inside + between / (objects * (objects - 1)).clamp(min=1)).mean() / 2


def correction(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """A point from where mask and target differ, or from anywhere where they do not.

    Args:
        logits: ``[P, 1, side, side]``.
        targets: ``[P, 1, side, side]``, 0..1.

    Returns:
        points ``[P, 2]`` (x, y) in pixels of the input, and whether the target covers them: 1.0 or 0.0, ``[P]``.
    """
    true = (targets > 0.5).flatten(1)
    wrong = (logits > 0).flatten(1) != true
    wrong |= ~wrong.any(dim=1, keepdim=True)
    cell = wrong.float().multinomial(1)
    side = logits.shape[-1]
    corner = torch.cat([cell % side, cell // side], dim=1) * MASK_STRIDE
    inside = torch.randint(MASK_STRIDE, corner.shape, device=corner.device)
    return (corner + inside).float(), true.gather(1, cell)[:, 0].float()
