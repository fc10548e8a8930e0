"""The memory bank: regions of unlabelled photos, found by their guide's features, with what CLIP sees in them."""

from ovseg.retrieval.bank import BankError, MemoryBank, Neighbours
from ovseg.retrieval.writer import BankWriter

__all__ = ["BankError", "BankWriter", "MemoryBank", "Neighbours"]
