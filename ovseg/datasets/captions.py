"""Photos with captions, for trainings that look at no mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset

from ovseg.datasets.errors import DatasetNotFound, SampleError
from ovseg.registry import DATASETS, SCOPE, TRANSFORMS


@DATASETS.register_module()
class CaptionDataset(BaseDataset):
    """Pairs of a photo and a caption; of a photo with several captions each is a pair.

    Samples begin with ``img_path``, ``name`` and ``captions`` (the text of one).

    Args:
        captions: file of the pairs below ``data_root``: COCO's ``captions_*.json``, or lines of a photo's path, a tab
            and its caption.
        data_root: folder that the other two are relative to.
        img_dir: folder of the photos.
        on_error: ``'raise'``: a photo that cannot be read is an error; ``'another'``: another pair takes its place,
            as for downloads from the web, where some are broken.
        pipeline: configs of transforms; the last one packs, e.g. ``PackInputs(keys=("captions",))``.
        indices, lazy_init: as in MMEngine's ``BaseDataset``.

    Raises:
        DatasetNotFound: when the folder or the file is missing.
        ValueError: for another ``on_error``, or a file that holds no pairs.
    """

    def __init__(
        self,
        captions: str,
        data_root: str = "",
        img_dir: str = "images",
        on_error: str = "raise",
        pipeline: Sequence[dict | Callable] = (),
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
    ) -> None:
        if on_error not in ("raise", "another"):
            raise ValueError(f"on_error={on_error!r}; it is 'raise' or 'another'")
        self.root, self.img_dir, self.captions, self.on_error = Path(data_root), img_dir, captions, on_error
        super().__init__(
            ann_file="",
            data_root="",
            data_prefix={},
            indices=indices,
            pipeline=[TRANSFORMS.build({"_scope_": SCOPE, **s}) if isinstance(s, Mapping) else s for s in pipeline],
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """The pairs in the order of the file.

        Raises:
            DatasetNotFound, ValueError: see the class.
        """
        folder, path = self.root / self.img_dir, self.root / self.captions
        for there, what in ((folder, "photos"), (path, "captions")):
            if not there.exists():
                raise DatasetNotFound(
                    f"data set not found: {what} expected at {there}, which does not exist. Check data_root, img_dir "
                    "and captions in the config."
                )
        pairs = _of_json(path) if path.suffix.lower() == ".json" else _of_lines(path)
        if not pairs:
            raise ValueError(f"{path} holds no pair of a photo and a caption")
        return [dict(name=name, img_path=str(folder / name), captions=caption) for name, caption in pairs]

    def prepare_data(self, idx: int) -> dict | None:
        """One sample through the pipeline; ``None`` where another shall be drawn."""
        try:
            return self.pipeline(self.get_data_info(idx))
        except SampleError:
            if self.on_error == "raise":
                raise
            return None


def _of_json(path: Path) -> list[tuple[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        files = {image["id"]: image["file_name"] for image in content["images"]}
        return [(files[entry["image_id"]], entry["caption"].strip()) for entry in content["annotations"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no file of COCO's captions (images, annotations): {error!r}") from error


def _of_lines(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        name, tab, caption = line.partition("\t")
        if not line.strip():
            continue
        if not tab or not name.strip() or not caption.strip():
            raise ValueError(f"{path}, line {number}: write a photo's path, a tab and its caption")
        pairs.append((name.strip(), caption.strip()))
    return pairs
