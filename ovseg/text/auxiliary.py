"""Auxiliary texts: a definition (or a synonym) of each class, mixed into the embedding of its names.

ITACLIP's text engineering (Aydın et al., CVPR workshops 2025): ``(1 - a) * name + a * definition``.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ovseg.describing import described
from ovseg.text.encoder import TextEncoder
from ovseg.text.vocabulary import Vocabulary

PACKAGED_DIR = Path(__file__).parent / "definitions"


@described
class AuxiliaryText:
    """One further text per foreground class.

    Args:
        file: name of a packaged file (``ovseg/text/definitions/<name>.txt``) or a path. UTF-8, one class per line:
            its first name in the vocabulary, the separator, the text.
        weight: share ``a`` of the text in the mixture, 0 to 1.
        separator: what stands between name and text; ITACLIP's own files use ``'>='``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: a weight out of range, a line without separator, a class with two lines.
    """

    def __init__(self, file: str | Path, weight: float, separator: str = ": ") -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f"the weight of auxiliary texts is {weight}; it must lie between 0 and 1")
        packaged = PACKAGED_DIR / f"{file}.txt"
        path = packaged if packaged.is_file() else Path(file).expanduser()
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in PACKAGED_DIR.glob("*.txt")))
            raise FileNotFoundError(f"auxiliary texts {str(file)!r}: neither a file nor a packaged name ({known})")
        self.source, self.weight = str(file), float(weight)
        self.texts: dict[str, str] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            if not line.strip():
                continue
            name, found, text = (part.strip() for part in line.partition(separator))
            if not (name and text and found):
                raise ValueError(f"{path}, line {number}: expected 'class{separator}text', got {line!r}")
            if name in self.texts:
                raise ValueError(f"{path}, line {number}: a second text for {name!r}; keep one")
            self.texts[name] = text

    def mix(self, embeddings: Tensor, vocabulary: Vocabulary, encoder: TextEncoder) -> Tensor:
        """Embeddings ``[Q, D]`` of a vocabulary's queries with the texts mixed in.

        All names of a class share its text; the background's names stay as they are. The mixture is *not* normalised
        again, as in ITACLIP's code: its length (about 0.99) scales the cosines of the class a little.

        Raises:
            ValueError: if a foreground class has no text, naming it.
        """
        foreground = [i for i in range(len(vocabulary)) if i != vocabulary.background]
        missing = [vocabulary.names[i] for i in foreground if vocabulary.names[i] not in self.texts]
        if missing:
            raise ValueError(
                f"auxiliary texts {self.source!r} lack {len(missing)} classes of the vocabulary: "
                f"{', '.join(missing[:5])}; add a line for each, or leave auxiliary_text out of the config"
            )
        texts = [self.texts[vocabulary.names[i]] for i in foreground]
        encoded = dict(
            zip(foreground, encoder.encode(Vocabulary.from_names(texts, allow_duplicates=True)), strict=True)
        )
        mixed = embeddings.clone()
        for query, index in enumerate(vocabulary.query_to_class.tolist()):
            if index in encoded:
                mixed[query] = (1 - self.weight) * embeddings[query] + self.weight * encoded[index].to(embeddings)
        return mixed
