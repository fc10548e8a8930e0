"""CAT-Seg (Cho et al., CVPR 2024): cosines of patches and words as a cost volume, refined over image and words."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.decoders.base import Decoder, Features, Prediction
from ovseg.decoders.cost_layers import HEAD_DIM, AggregatorLayer, UpBlock, in_parts
from ovseg.registry import ATTENTIONS, DECODERS
from ovseg.structures import AttentionContext, FeatureMap, Tower

REJECTED = -100.0
"""Logit of words that are not looked at: a probability of zero."""


@DECODERS.register_module()
class CatSegDecoder(Decoder):
    """Cost aggregation (CAT-Seg, section 3.3): cosine per patch and word, two layers, two steps of upsampling.

    Gives a map of logits per word on four times the patch grid. Of more than ``max_words`` words, those enter whose
    largest cosine in the image is highest; the others get the logit -100.

    Args:
        tower: the image encoder.
        weights: name of a CAT-Seg of the catalogue; ``None``: random, for training.
        checkpoint: file to read instead of the catalogue's.
        guidance_blocks: blocks (0-based) whose output guides the upsampling, to twice and to four times the grid:
            (3, 7) of ViT-B, (7, 15) of ViT-L.
        attention: config of the attention that gives the dense features; ``None``: CAT-Seg's, every token's own value
            with the residual of the class token.
        dim: channels of the cost maps, a multiple of 32.
        guidance_dim: channels of the guidance of image and words.
        num_layers: layers of aggregation.
        window: side of the windows of the spatial layers in cells; must divide the patch grid.
        up_dims: channels after each step of upsampling, multiples of 16.
        up_guidance: channels of the middle layers' guidance there.
        middle_dims: channels to which the middle layers are upsampled.
        pooling: cells along a side that the class layers average in evaluation.
        training_pooling: likewise in training.
        max_words: see above; also the number of words the class layers are filled up to.
        values: bound on the numbers that are worked on at once in evaluation; results do not depend on it.

    Raises:
        ValueError: for channels that do not divide.
    """

    def __init__(
        self,
        tower: Tower,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        guidance_blocks: tuple[int, int] = (3, 7),
        attention: dict | None = None,
        dim: int = 128,
        guidance_dim: int = 128,
        num_layers: int = 2,
        window: int = 12,
        up_dims: tuple[int, int] = (64, 32),
        up_guidance: tuple[int, int] = (32, 16),
        middle_dims: tuple[int, int] = (256, 128),
        pooling: int = 1,
        training_pooling: int = 2,
        max_words: int = 256,
        values: int = 2**22,
    ) -> None:
        super().__init__(tower)
        if dim % HEAD_DIM or any(n % 16 for n in up_dims):
            raise ValueError(f"dim {dim} must be a multiple of {HEAD_DIM}, up_dims {up_dims} multiples of 16")
        self.needs_inputs = tuple(block + 1 for block in guidance_blocks)
        self.attention = ATTENTIONS.build(attention or dict(type="ValueAttention", residual="cls"))
        self.window, self.max_words, self.values = window, max_words, values
        self.pooling, self.training_pooling = pooling, training_pooling
        self.upsample1 = nn.ConvTranspose2d(tower.width, middle_dims[0], 2, stride=2)
        self.upsample2 = nn.ConvTranspose2d(tower.width, middle_dims[1], 4, stride=4)
        self.conv1 = nn.Conv2d(1, dim, 7, padding=3)
        self.guidance_projection = _relu(nn.Conv2d(tower.embed_dim, guidance_dim, 3, padding=1))
        self.text_guidance_projection = _relu(nn.Linear(tower.embed_dim, guidance_dim))
        self.decoder_guidance_projection = nn.ModuleList(
            _relu(nn.Conv2d(middle, guided, 3, padding=1))
            for middle, guided in zip(middle_dims, up_guidance, strict=True)
        )
        self.layers = nn.ModuleList(AggregatorLayer(dim, guidance_dim, window, max_words) for _ in range(num_layers))
        self.decoder1 = UpBlock(dim, up_guidance[0], up_dims[0])
        self.decoder2 = UpBlock(up_dims[0], up_guidance[1], up_dims[1])
        self.head = nn.Conv2d(up_dims[1], 1, 3, padding=1)
        self.load(weights, checkpoint)

    def encode(self, context: AttentionContext) -> Features:
        """``dense`` ``[B, D, h, w]`` unit vectors and the guidance ``image``, ``middle1``, ``middle2``.

        Raises:
            ValueError: if the windows do not divide the grid.
        """
        if any(side % self.window for side in context.grid):
            raise ValueError(
                f"the decoder's windows of {self.window} cells do not divide the patch grid {context.grid}: set the "
                "framing's side, or the decoder's window"
            )
        tokens = self.attention(context)
        tower = context.tower
        dense = FeatureMap(tower.project(tower.post_norm(tokens.patches)), context.grid).as_image()
        first, second = (
            FeatureMap(context.inputs[index], context.grid, context.num_prefix).as_image()
            for index in self.needs_inputs_of(len(tower.blocks))
        )
        project1, project2 = self.decoder_guidance_projection
        return {
            "dense": F.normalize(dense, dim=1),
            "image": self.guidance_projection(dense).permute(0, 2, 3, 1),
            "middle1": project1(self.upsample1(first)),
            "middle2": project2(self.upsample2(second)),
        }

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """Logits ``[B, T, 4h, 4w]``; image by image, unless gradients are kept."""
        words = self.text_guidance_projection(text)
        cost = torch.einsum("bdhw,td->bthw", features["dense"], text)
        if torch.is_grad_enabled() and len(text) <= self.max_words:
            return Prediction(self._aggregate(cost, features, words))
        images = []
        for index in range(len(cost)):
            own = {name: tensor[index : index + 1] for name, tensor in features.items()}
            images.append(self._of_best_words(cost[index : index + 1], own, words))
        return Prediction(torch.cat(images))

    def _of_best_words(self, cost: Tensor, features: Features, words: Tensor) -> Tensor:
        """Logits ``[1, T, 4h, 4w]`` of one image."""
        if len(words) <= self.max_words:
            return self._aggregate(cost, features, words)
        kept = cost[0].amax((1, 2)).topk(self.max_words).indices.sort().values
        logits = self._aggregate(cost[:, kept], features, words[kept])
        everything = logits.new_full((1, len(words), *logits.shape[2:]), REJECTED)
        return everything.index_copy(1, kept, logits)

    def _aggregate(self, cost: Tensor, features: Features, words: Tensor) -> Tensor:
        batch, count = cost.shape[:2]
        x = self.conv1(cost.flatten(0, 1)[:, None]).permute(0, 2, 3, 1).unflatten(0, (batch, count))
        pooling = self.training_pooling if self.training else self.pooling
        for layer in self.layers:
            x = layer(x, features["image"], words, pooling, self.values)
        maps = x.permute(0, 1, 4, 2, 3)
        return torch.stack([self._upsample(own, features, index) for index, own in enumerate(maps)])

    def _upsample(self, maps: Tensor, features: Features, index: int) -> Tensor:
        """``[T, C, h, w]`` maps of the image ``index`` to its logits ``[T, 4h, 4w]``."""
        guides = [features[name][index : index + 1] for name in ("middle1", "middle2")]

        def run(part: Tensor) -> Tensor:
            return self.head(self.decoder2(self.decoder1(part, guides[0]), guides[1]))[:, 0]

        # maps grow fourfold on the way, twice
        return in_parts(run, maps, 0, self.values // 4)


def _relu(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.ReLU())
