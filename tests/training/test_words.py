"""The words of an iteration: all that are shown, and always the same others."""

import pytest
import torch

from ovseg.training import choose_words


def test_shown_words_are_among_them_and_labels_follow():
    labels = torch.tensor([[[3, 255], [90, 3]], [[41, 41], [255, 0]]])
    words, mapped = choose_words(labels, 100, 8, 255)
    assert len(words) == 8 and words == sorted(words) and {0, 3, 41, 90} <= set(words)
    known = labels != 255
    assert torch.equal(torch.tensor(words)[mapped[known]], labels[known]) and (mapped[~known] == 255).all()
    assert choose_words(labels, 100, 8, 255)[0] == words
    assert choose_words(labels.flip(1), 100, 8, 255)[0] != words


def test_more_are_taken_where_more_are_shown():
    words, mapped = choose_words(torch.arange(6).view(1, 2, 3), 6, 2, 255)
    assert words == list(range(6)) and mapped.flatten().tolist() == words


def test_a_label_that_is_no_word_is_named():
    with pytest.raises(ValueError, match="labels from 2 to 9 for 5 words"):
        choose_words(torch.tensor([[[2, 9]]]), 5, 3, 255)
