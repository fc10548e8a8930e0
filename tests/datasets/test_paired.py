"""Two data sets side by side."""

import pytest
from torch.utils.data import Dataset

from ovseg.datasets import PairedDataset
from ovseg.registry import DATASETS


class Numbers(Dataset):
    def __init__(self, count, start=0):
        self.count, self.start, self.metainfo = count, start, {"classes": ("n",)}

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"inputs": self.start + index}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(DATASETS._module_dict, "Numbers", Numbers)


def test_items_come_together_and_the_shorter_begins_anew():
    paired = PairedDataset(dict(type="Numbers", count=5), dict(type="Numbers", count=2, start=10))
    assert len(paired) == 5 and paired.metainfo == {"classes": ("n",)}
    assert [tuple(paired[i].items()) for i in range(3)] == [
        (("inputs", i), ("prompted_inputs", 10 + i % 2)) for i in range(3)
    ]


def test_a_data_set_without_items_is_named():
    with pytest.raises(ValueError, match="second is a data set without items"):
        PairedDataset(dict(type="Numbers", count=5), dict(type="Numbers", count=0))
