"""Files of FC-CLIP, MAFT+ and OVSeg: their decoders' tensors in the official code and in :mod:`ovseg.decoders`."""

from __future__ import annotations

from .renaming import Renaming

_PIXELS, _PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
_ENCODER = _PIXELS + "transformer.encoder.layers.{i}."
_SELF = _PREDICTOR + "transformer_self_attention_layers.{i}."
_CROSS = _PREDICTOR + "transformer_cross_attention_layers.{i}."
_FEEDFORWARD = _PREDICTOR + "transformer_ffn_layers.{i}."
_OUR_ENCODER, _OUR_LAYER = "proposals.pixel_decoder.encoder.layers.{i}.", "proposals.transformer.decoder.layers.{i}."

FCCLIP = Renaming(
    (
        ("proposals.pixel_decoder.level_embed", _PIXELS + "transformer.level_embed"),
        ("proposals.pixel_decoder.input_projections.{rest}", _PIXELS + "input_proj.{rest}"),
        (_OUR_ENCODER + "self_attn_layer_norm.{rest}", _ENCODER + "norm1.{rest}"),
        (_OUR_ENCODER + "final_layer_norm.{rest}", _ENCODER + "norm2.{rest}"),
        (_OUR_ENCODER + "fc1.{rest}", _ENCODER + "linear1.{rest}"),
        (_OUR_ENCODER + "fc2.{rest}", _ENCODER + "linear2.{rest}"),
        (_OUR_ENCODER + "self_attn.{rest}", _ENCODER + "self_attn.{rest}"),
        ("proposals.pixel_decoder.mask_projection.{rest}", _PIXELS + "mask_features.{rest}"),
        ("proposals.pixel_decoder.adapter_1.1.{rest}", _PIXELS + "adapter_1.norm.{rest}"),
        ("proposals.pixel_decoder.adapter_1.0.{rest}", _PIXELS + "adapter_1.{rest}"),
        ("proposals.pixel_decoder.layer_1.1.{rest}", _PIXELS + "layer_1.norm.{rest}"),
        ("proposals.pixel_decoder.layer_1.0.{rest}", _PIXELS + "layer_1.{rest}"),
        ("proposals.transformer.queries_embedder.{rest}", _PREDICTOR + "query_embed.{rest}"),
        ("proposals.transformer.queries_features.{rest}", _PREDICTOR + "query_feat.{rest}"),
        ("proposals.transformer.level_embed.{rest}", _PREDICTOR + "level_embed.{rest}"),
        ("proposals.transformer.decoder.layernorm.{rest}", _PREDICTOR + "decoder_norm.{rest}"),
        (
            "proposals.transformer.decoder.mask_predictor.mask_embedder.{i}.0.{rest}",
            _PREDICTOR + "mask_embed.layers.{i}.{rest}",
        ),
        (_OUR_LAYER + "self_attn.{qkv}_proj.{rest}", _SELF + "self_attn.in_proj_{rest}"),
        (_OUR_LAYER + "self_attn.{rest}", _SELF + "self_attn.{rest}"),
        (_OUR_LAYER + "self_attn_layer_norm.{rest}", _SELF + "norm.{rest}"),
        (_OUR_LAYER + "cross_attn.{rest}", _CROSS + "multihead_attn.{rest}"),
        (_OUR_LAYER + "cross_attn_layer_norm.{rest}", _CROSS + "norm.{rest}"),
        (_OUR_LAYER + "fc1.{rest}", _FEEDFORWARD + "linear1.{rest}"),
        (_OUR_LAYER + "fc2.{rest}", _FEEDFORWARD + "linear2.{rest}"),
        (_OUR_LAYER + "final_layer_norm.{rest}", _FEEDFORWARD + "norm.{rest}"),
        ("classes.pooled.{rest}", _PREDICTOR + "_mask_pooling_proj.{rest}"),
        ("classes.logit_scale", _PREDICTOR + "logit_scale"),
        *((f"classes.embed.{2 * n}.{{rest}}", _PREDICTOR + f"class_embed.layers.{n}.{{rest}}") for n in range(3)),
    )
)
"""FC-CLIP's: the decoder's tensors outside the table (``void_embedding.weight``) have the same names."""

MAFT_PLUS = Renaming(
    (
        ("transfer.attention.{rest}", "cdt.cross_atten.multihead_attn.{rest}"),
        ("transfer.norm.{rest}", "cdt.cross_atten.norm.{rest}"),
        ("transfer.project.{rest}", "cdt.cross_atten.MLP.{rest}"),
        *((rename.ours, rename.theirs) for rename in FCCLIP.renames),
    )
)
"""MAFT+'s: FC-CLIP's and the content-dependent transfer."""

_SWIN, _OUR_SWIN = "backbone.layers.{i}.blocks.{j}.", "swin.swin.encoder.layers.{i}.blocks.{j}."
_DETR = _PREDICTOR + "transformer.decoder."
_DETR_LAYER, _OUR_DETR = _DETR + "layers.{i}.", "proposals.transformer.decoder."
_OUR_DETR_LAYER = _OUR_DETR + "layers.{i}."

OVSEG = Renaming(
    (
        ("proposals.pixel_decoder.fpn.stem.1.{rest}", _PIXELS + "layer_4.norm.{rest}"),
        ("proposals.pixel_decoder.fpn.stem.0.{rest}", _PIXELS + "layer_4.{rest}"),
        *(
            (f"proposals.pixel_decoder.fpn.layers.{n}.{ours}.{{rest}}", f"{_PIXELS}{theirs}_{3 - n}.{norm}{{rest}}")
            for n in range(3)
            for ours, theirs, norm in (
                *(("proj.1", "adapter", "norm."), ("proj.0", "adapter", "")),
                *(("block.1", "layer", "norm."), ("block.0", "layer", "")),
            )
        ),
        ("proposals.pixel_decoder.mask_projection.{rest}", _PIXELS + "mask_features.{rest}"),
        ("proposals.transformer.queries_embedder.{rest}", _PREDICTOR + "query_embed.{rest}"),
        ("proposals.transformer.input_projection.{rest}", _PREDICTOR + "input_proj.{rest}"),
        (_OUR_DETR + "layernorm.{rest}", _DETR + "norm.{rest}"),
        (_OUR_DETR_LAYER + "self_attn.{qkv}_proj.{rest}", _DETR_LAYER + "self_attn.in_proj_{rest}"),
        (_OUR_DETR_LAYER + "self_attn.o_proj.{rest}", _DETR_LAYER + "self_attn.out_proj.{rest}"),
        (_OUR_DETR_LAYER + "encoder_attn.{qkv}_proj.{rest}", _DETR_LAYER + "multihead_attn.in_proj_{rest}"),
        (_OUR_DETR_LAYER + "encoder_attn.o_proj.{rest}", _DETR_LAYER + "multihead_attn.out_proj.{rest}"),
        (_OUR_DETR_LAYER + "self_attn_layer_norm.{rest}", _DETR_LAYER + "norm1.{rest}"),
        (_OUR_DETR_LAYER + "encoder_attn_layer_norm.{rest}", _DETR_LAYER + "norm2.{rest}"),
        (_OUR_DETR_LAYER + "final_layer_norm.{rest}", _DETR_LAYER + "norm3.{rest}"),
        (_OUR_DETR_LAYER + "mlp.fc1.{rest}", _DETR_LAYER + "linear1.{rest}"),
        (_OUR_DETR_LAYER + "mlp.fc2.{rest}", _DETR_LAYER + "linear2.{rest}"),
        *((f"proposals.mask_embed.{2 * n}.{{rest}}", _PREDICTOR + f"mask_embed.layers.{n}.{{rest}}") for n in range(3)),
        *((f"class_embed.{2 * n}.{{rest}}", _PREDICTOR + f"class_embed.layers.{n}.{{rest}}") for n in range(2)),
        ("no_object", "clip_adapter.non_object_embedding"),
        ("mask_embedding", "clip_adapter.clip_model.visual.mask_embedding"),
        ("swin.swin.embeddings.patch_embeddings.projection.{rest}", "backbone.patch_embed.proj.{rest}"),
        ("swin.swin.embeddings.norm.{rest}", "backbone.patch_embed.norm.{rest}"),
        (_OUR_SWIN + "attention.{qkv}_proj.{rest}", _SWIN + "attn.qkv.{rest}"),
        (_OUR_SWIN + "attention.o_proj.{rest}", _SWIN + "attn.proj.{rest}"),
        (_OUR_SWIN + "attention.relative_position_bias.{rest}", _SWIN + "attn.{rest}"),
        (_OUR_SWIN + "layernorm_before.{rest}", _SWIN + "norm1.{rest}"),
        (_OUR_SWIN + "layernorm_after.{rest}", _SWIN + "norm2.{rest}"),
        (_OUR_SWIN + "mlp.{rest}", _SWIN + "mlp.{rest}"),
        ("swin.swin.encoder.layers.{i}.downsample.{rest}", "backbone.layers.{i}.downsample.{rest}"),
        *((f"swin.hidden_states_norms.stage{n + 1}.{{rest}}", f"backbone.norm{n}.{{rest}}") for n in range(4)),
    )
)
"""OVSeg's, with a Swin."""
