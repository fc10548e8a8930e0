"""Which word, and which sentence around it, decides at a pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ovseg.encoded import EncodedImage
from ovseg.explain.attention import check_inside
from ovseg.explain.embeddings import embedding_at
from ovseg.text import Vocabulary


@dataclass(frozen=True)
class ClassAt:
    """A class at a pixel.

    Attributes:
        name: of the class.
        word: the name of it that is nearest to the pixel.
        score: that word's cosine.
        words: all its names with their cosines, best first.
    """

    name: str
    word: str
    score: float
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TemplateAt:
    """A sentence around the words of the two best classes.

    Attributes:
        template: with ``{}`` for the word.
        first, second: its share of the two words' cosines; over all templates they sum to these.
    """

    template: str
    first: float
    second: float

    @property
    def margin(self) -> float:
        """By how much it speaks for the first; the margins of all templates sum to the distance of the two."""
        return self.first - self.second


@dataclass(frozen=True)
class WordsAt:
    """What decides at a pixel.

    Attributes:
        at: ``(x, y)`` of the pixel.
        label: the class that the method gives it in the end.
        classes: the classes nearest to the pixel's embedding, best first.
        templates: every template, the one that speaks most for the first class (against the second) first. Empty with
            one class.
        votes: how many templates alone would put the first class before the second.
    """

    at: tuple[int, int]
    label: str
    classes: tuple[ClassAt, ...]
    templates: tuple[TemplateAt, ...]
    votes: int

    def table(self) -> list[dict[str, object]]:
        """One row per class: ``class, word, score, next word, next score``."""
        rows = []
        for one in self.classes:
            second = one.words[1] if len(one.words) > 1 else ("", None)
            row = {"class": one.name, "word": one.word, "score": one.score}
            rows.append({**row, "next word": second[0], "next score": second[1]})
        return rows


@torch.no_grad()
def words_at(
    encoded: EncodedImage,
    at: tuple[int, int],
    words: Vocabulary | str | Sequence | Mapping | None = None,
    *,
    background: str | None = None,
    most: int = 5,
) -> WordsAt:
    """Which synonym of each class is nearest to a pixel, and which templates put the first class before the second.

    Compared are cosines with the pixel's stitched embedding (:func:`ovseg.explain.embedding_at`). Methods that average
    cosines (most) decide by just these; others make something of them first (probabilities: MaskCLIP; layers and maps:
    CLIPer), and refiners and thresholds act later: ``label`` is what comes out in the end.

    A word's embedding is the mean of its templates' embeddings, made a unit vector, so that its cosine is a sum over
    templates. Texts beside the names (ITACLIP's definitions) are no template and are left out of that sum.

    Args:
        encoded: the photo, from :meth:`ovseg.Segmenter.encode`.
        at: ``(x, y)`` of a pixel.
        words, background: as in :meth:`ovseg.EncodedImage.segment`.
        most: number of classes.

    Raises:
        ValueError: for a pixel outside of the photo, or a photo without patch embeddings.
    """
    check_inside(at, encoded.size)
    model, record = encoded.opened()
    wording = encoded.wording(words, background)
    names, queries = wording.vocabulary.display_names, wording.vocabulary.queries
    embedding = embedding_at(encoded, at)
    cosines = (wording.queries.text @ embedding).tolist()
    by_class: dict[int, list[tuple[str, float]]] = {}
    for query, index, cosine in zip(queries, wording.queries.query_to_class.tolist(), cosines, strict=True):
        by_class.setdefault(index, []).append((query, cosine))
    found = []
    for index, scored in by_class.items():
        scored.sort(key=lambda pair: -pair[1])
        found.append(ClassAt(names[index], *scored[0], tuple(scored)))
    found.sort(key=lambda one: -one.score)
    label = names[int(model.decide(record, wording).labels[at[1], at[0]])]
    templates, votes = [], 0
    if len(found) > 1:
        sentences, alone, shares = model.text_encoder.templates, [], []
        for word in (found[0].word, found[1].word):
            single = model.text_encoder.encode_prompts(sentences.prompts(word)).to(embedding)
            alone.append(single @ embedding)
            shares.append((alone[-1] / (len(single) * single.mean(0).norm())).tolist())
        templates = [TemplateAt(text, *pair) for text, *pair in zip(sentences.texts, *shares, strict=True)]
        templates.sort(key=lambda one: -one.margin)
        votes = int((alone[0] > alone[1]).sum())
    return WordsAt(tuple(at), label, tuple(found[:most]), tuple(templates), votes)
