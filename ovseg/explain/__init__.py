"""Why a photo is labelled as it is: functions for notebooks; ``ovseg explain`` is thin over them.

They take a photo that :meth:`ovseg.Segmenter.encode` has encoded, and give arrays, dataclasses and pictures.
"""

from ovseg.explain.attention import AttentionAt, attention_at, check_inside
from ovseg.explain.embeddings import EmbeddingColours, embedding_at, embedding_colours
from ovseg.explain.errors import Confusion, ErrorMap, boundary_distance, error_map
from ovseg.explain.heat import HeatMaps, heat_maps
from ovseg.explain.marks import AttentionNotReadable
from ovseg.explain.methods import MethodResult, by_methods
from ovseg.explain.pictures import draw_attention, draw_embeddings, draw_errors, draw_heat_maps, draw_methods
from ovseg.explain.words import ClassAt, TemplateAt, WordsAt, words_at

__all__ = [
    "AttentionAt",
    "AttentionNotReadable",
    "ClassAt",
    "Confusion",
    "EmbeddingColours",
    "ErrorMap",
    "HeatMaps",
    "MethodResult",
    "TemplateAt",
    "WordsAt",
    "attention_at",
    "boundary_distance",
    "by_methods",
    "check_inside",
    "draw_attention",
    "draw_embeddings",
    "draw_errors",
    "draw_heat_maps",
    "draw_methods",
    "embedding_at",
    "embedding_colours",
    "error_map",
    "heat_maps",
    "words_at",
]
