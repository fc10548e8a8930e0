"""Mask proposals by a transformer over an image's multi-scale features, with the modules of Hugging Face transformers.

Two forms: masked attention over a multi-scale deformable pixel decoder (Mask2Former, Cheng et al., CVPR 2022), which
FC-CLIP and MAFT+ use, and DETR's decoder over a feature pyramid (MaskFormer, Cheng et al., NeurIPS 2021), which OVSeg
uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
"""Of the four feature maps, and the first of them of the masks."""
_ENCODER_FEEDFORWARD = 1024


@dataclass(frozen=True)
class MaskProposals:
    """Class-agnostic masks of a batch, as one layer of a decoder predicts them.

    Attributes:
        masks: ``[B, Q, h, w]`` logits at stride 4.
        queries: ``[B, Q, d]`` normed query vectors, from which classes are predicted.
        features: ``[B, d, h, w]`` mask features: masks are their products with the queries' mask embeddings.
    """

    masks: Tensor
    queries: Tensor
    features: Tensor


def transformers_package() -> ModuleType:
    """The package transformers.

    Raises:
        ImportError: saying what to install.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "mask transformers (FC-CLIP, MAFT+, OVSeg) need the package transformers: pip install 'ovseg[trained]'"
        ) from error
    return transformers


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers ``widths[0] -> widths[1] -> ...`` with ReLU between them."""
    layers: list[nn.Module] = []
    for first, second in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(first, second), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def sine_positions(maps: Tensor) -> Tensor:
    """DETR's normalised sine positions of maps ``[B, C, h, w]``, of the same shape."""
    transformers_package()
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

    embedding = Mask2FormerSinePositionEmbedding(maps.shape[1] // 2, normalize=True)
    return embedding(maps.shape, maps.device, maps.dtype)


class MaskedAttentionDecoder(nn.Module):
    """Mask2Former's pixel decoder (multi-scale deformable attention) and masked-attention decoder.

    Args:
        channels: of the feature maps at strides 4, 8, 16 and 32.
        queries: number of masks.
        width: d, of queries and mask features.
        encoder_layers: layers of the pixel decoder.
        decoder_layers: layers of the decoder.
        heads: attention heads of both.
        feedforward: hidden width of the decoder's feed-forward layers.

    Raises:
        ImportError: without transformers.
    """

    def __init__(
        self,
        channels: Sequence[int],
        queries: int = 250,
        width: int = 256,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        heads: int = 8,
        feedforward: int = 2048,
    ) -> None:
        super().__init__()
        package = transformers_package()
        from transformers.models.mask2former import modeling_mask2former as mask2former

        config = package.Mask2FormerConfig(
            feature_size=width,
            mask_feature_size=width,
            hidden_dim=width,
            num_queries=queries,
            encoder_feedforward_dim=_ENCODER_FEEDFORWARD,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers + 1,  # counts the prediction before the first layer
            num_attention_heads=heads,
            dim_feedforward=feedforward,
            dropout=0.0,
            pre_norm=False,
            enforce_input_projection=False,
            common_stride=STRIDES[0],
            feature_strides=list(STRIDES),
            activation_function="relu",
        )
        self.pixel_decoder = mask2former.Mask2FormerPixelDecoder(config, list(channels))
        self.transformer = mask2former.Mask2FormerTransformerModule(width, config)
        self.width = width
        self.apply(mask2former.Mask2FormerPreTrainedModel(config)._init_weights)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[MaskProposals], tuple[Tensor, ...]]:
        """Masks of the learned queries and after every layer, the last of them the result.

        Args:
            features: ``[B, C, H / s, W / s]`` float32 for the strides s = 4, 8, 16, 32.

        Returns:
            ``decoder_layers + 1`` proposals; the pixel decoder's maps ``[B, d, H / s, W / s]`` at strides 32, 16, 8.
        """
        pixels = self.pixel_decoder(list(features), return_dict=True)
        found = self.transformer(pixels.multi_scale_features, pixels.mask_features)
        proposals = [
            MaskProposals(masks, queries.transpose(0, 1), pixels.mask_features)
            for masks, queries in zip(found.masks_queries_logits, found.intermediate_hidden_states, strict=True)
        ]
        return proposals, pixels.multi_scale_features


class PyramidDecoder(nn.Module):
    """MaskFormer's feature pyramid and DETR decoder, with a mask for every query.

    Args:
        channels: of the feature maps at strides 4, 8, 16 and 32.
        queries: number of masks.
        width: d, of queries and mask features.
        layers: layers of the decoder.
        heads: its attention heads.
        feedforward: hidden width of its feed-forward layers.
        dropout: of the decoder, in training.

    Raises:
        ImportError: without transformers.
    """

    def __init__(
        self,
        channels: Sequence[int],
        queries: int = 100,
        width: int = 256,
        layers: int = 6,
        heads: int = 8,
        feedforward: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        package = transformers_package()
        from transformers.models.maskformer import modeling_maskformer as maskformer

        decoder = package.DetrConfig(
            d_model=width,
            decoder_layers=layers,
            decoder_attention_heads=heads,
            decoder_ffn_dim=feedforward,
            num_queries=queries,
            activation_function="relu",
            dropout=dropout,
            attention_dropout=dropout,
            activation_dropout=dropout,
            decoder_layerdrop=0.0,
        )
        self.pixel_decoder = maskformer.MaskFormerPixelDecoder(
            in_features=channels[-1], lateral_widths=list(channels[:-1]), feature_size=width, mask_feature_size=width
        )
        self.width = width
        self.transformer = maskformer.MaskFormerTransformerModule(
            channels[-1], package.MaskFormerConfig(decoder_config=decoder)
        )
        self.mask_embed = mlp(width, width, width, width)

    def forward(self, features: Sequence[Tensor]) -> MaskProposals:
        """Masks after the last layer.

        Args:
            features: ``[B, C, H / s, W / s]`` float32 for the strides s = 4, 8, 16, 32.
        """
        pixels = self.pixel_decoder(list(features)).last_hidden_state
        queries = self.transformer(features[-1], return_dict=True).last_hidden_state
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embed(queries), pixels)
        return MaskProposals(masks, queries, pixels)
