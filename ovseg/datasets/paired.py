"""Two data sets side by side, for trainings with two teachers."""

from __future__ import annotations

from torch.utils.data import Dataset

from ovseg.registry import DATASETS


@DATASETS.register_module()
class PairedDataset(Dataset):
    """Items of one data set, each with one of another, which begins anew where it is shorter.

    Args:
        first: config of a data set; it gives the length.
        second: config of a data set; what it gives is called ``prefix`` and its own name.
        prefix: see above.

    Raises:
        ValueError: for data sets without items.
    """

    def __init__(self, first: dict, second: dict, prefix: str = "prompted_") -> None:
        self.first, self.second, self.prefix = DATASETS.build(first), DATASETS.build(second), prefix
        for name, data in (("first", self.first), ("second", self.second)):
            if not len(data):
                raise ValueError(f"{name} is a data set without items")

    @property
    def metainfo(self) -> dict:
        """Of the first data set."""
        return getattr(self.first, "metainfo", {})

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int) -> dict:
        other = self.second[index % len(self.second)]
        return {**self.first[index], **{self.prefix + key: value for key, value in other.items()}}
