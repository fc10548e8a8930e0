"""Heads: from scores per query to one label per pixel."""

from ovseg.heads.class_head import ClassHead
from ovseg.heads.class_maps import ClassMapHead
from ovseg.heads.early_max import EarlyMaxHead
from ovseg.heads.evidence import Evidence
from ovseg.heads.max_query import MaxQueryHead

__all__ = ["ClassHead", "ClassMapHead", "EarlyMaxHead", "Evidence", "MaxQueryHead"]
