"""Evaluation: one streamed confusion matrix, what is read off it, and what travels with a result."""

from ovseg.evaluation.confusion import MIOU_RULE, SegSummary, confusion_update, summarise
from ovseg.evaluation.metric import SegMetric, SplitMetric
from ovseg.evaluation.report import class_table, failure_table, summary_table
from ovseg.evaluation.result import ResultRow, config_hash, make_row
from ovseg.evaluation.spread import bootstrap_miou

__all__ = [
    "MIOU_RULE",
    "ResultRow",
    "SegMetric",
    "SegSummary",
    "SplitMetric",
    "bootstrap_miou",
    "class_table",
    "config_hash",
    "confusion_update",
    "failure_table",
    "make_row",
    "summarise",
    "summary_table",
]
