"""The memory bank: regions of unlabelled photos, found by their guide's features, with what CLIP sees in them."""

from ovseg.retrieval.bank import BankError, MemoryBank, Neighbours
from ovseg.retrieval.index import BankIndex, Recall, build_index, measure_recall
from ovseg.retrieval.writer import BankWriter

__all__ = [
    "BankError",
    "BankIndex",
    "BankWriter",
    "MemoryBank",
    "Neighbours",
    "Recall",
    "build_index",
    "measure_recall",
]
