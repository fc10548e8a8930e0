"""The benchmarks: how many images and classes, where the official files are, where they belong, what converts them."""

from __future__ import annotations

from dataclasses import dataclass

ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")
"""Endings of archives; which one a file has says nothing about its content, people pack them anew."""


def archive_stem(name: str) -> str:
    """A file name without the ending of an archive, in lower case.

    >>> archive_stem("VOCtrainval_11-May-2012.tar.gz")
    'voctrainval_11-may-2012'
    """
    lower = name.lower()
    ending = next((e for e in ARCHIVES if lower.endswith(e)), "")
    return lower[: len(lower) - len(ending)]


@dataclass(frozen=True)
class Download:
    """One official file.

    Attributes:
        file: its name.
        url: where it is; a page to register at where there is no direct link.
        into: folder under the data root that it is unpacked into (an archive) or copied to (any other file).
        md5: of the official file, where it is known.
        mirrors: other addresses of the same file.
        holds: a folder or file that is in it, by which an archive of another name is known; ``""``: only by its name.
    """

    file: str
    url: str
    into: str
    md5: str | None = None
    mirrors: tuple[str, ...] = ()
    holds: str = ""

    @property
    def is_direct(self) -> bool:
        """Whether the address is the file itself, not a page to register at."""
        return self.url.endswith(f"/{self.file}")

    @property
    def stem(self) -> str:
        """The name without the ending that tells how it is packed."""
        return archive_stem(self.file)


@dataclass(frozen=True)
class Benchmark:
    """What is known of a benchmark beyond its config.

    Attributes:
        title: its name in tables.
        images: numbers of images a complete copy may have.
        num_classes: classes evaluated.
        downloads: official files, in any order.
        converter: name in :data:`ovseg.datasets.convert.CONVERTERS`, or ``None`` where the official maps are used as
            they are.
        made_by: command that makes the data, for those that are not downloaded.
        group: what it is of, where it is part of a collection.
        licence: of photos and labels, where it is told here.
        verify: what is not confirmed by a source, and how the files must lie for it.
    """

    title: str
    images: tuple[int, ...]
    num_classes: int
    downloads: tuple[Download, ...] = ()
    converter: str | None = None
    made_by: str | None = None
    group: str = ""
    licence: str = ""
    verify: str = ""

    @property
    def key(self) -> str:
        """The name in :data:`BENCHMARKS`."""
        return next(name for name, benchmark in BENCHMARKS.items() if benchmark is self)

    def how_to_get(self) -> str:
        """One line: what to download and what to run."""
        if self.made_by:
            return f"Get it: {self.made_by}."
        files = ", ".join(f"{d.file} from {d.url}" for d in self.downloads)
        archives = " ".join(d.file for d in self.downloads)
        return (
            f"Get it: download {files}; then run `python tools/prepare_data.py {self.key} --archive {archives}` "
            "(docs/datasets.md). If it lies elsewhere, set OVSEG_DATA in the environment or the config's data_root."
        )


_VOC, _THOR = "http://host.robots.ox.ac.uk/pascal/VOC", "https://thor.robots.ox.ac.uk/pascal/VOC"
# MD5 sums as torchvision and COCO's users state them.
_VOC2012 = (
    Download(
        "VOCtrainval_11-May-2012.tar",
        f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
        ".",
        "6cd6e144f989b92b3379bac3b3de84fd",
        (f"{_THOR}/voc2012/VOCtrainval_11-May-2012.tar",),
        "VOCdevkit/VOC2012/SegmentationClass",
    ),
)
_VOC2010 = Download(
    "VOCtrainval_03-May-2010.tar",
    f"{_VOC}/voc2010/VOCtrainval_03-May-2010.tar",
    ".",
    "da459979d0c395079b5c75ee67908abb",
    (f"{_THOR}/voc2010/VOCtrainval_03-May-2010.tar",),
    "VOCdevkit/VOC2010/JPEGImages",
)
_CONTEXT = (
    _VOC2010,
    Download(
        "trainval_merged.json",
        "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
        "VOCdevkit/VOC2010",
    ),
)
_COCO = (
    Download(
        "val2017.zip",
        "http://images.cocodataset.org/zips/val2017.zip",
        "coco_stuff164k/images",
        "442b8da7639aecaf257c1dceb8ba8c80",
        holds="val2017/000000000139.jpg",
    ),
    Download(
        "stuffthingmaps_trainval2017.zip",
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip",
        "coco_stuff164k/annotations",
        holds="val2017/000000000139.png",
    ),
)

_COCO100 = (
    "100 photos of COCO val2017 that only the project's own machines hold; point the environment variable "
    "OVSEG_SHARED at the folder with data/real_mini/coco100"
)

BENCHMARKS: dict[str, Benchmark] = {
    "voc21": Benchmark("VOC21", (1449,), 21, _VOC2012),
    "voc20": Benchmark("VOC20", (1449,), 20, _VOC2012),
    # mmseg's conversion leaves 5,104 of the 5,105 listed images
    "context60": Benchmark("Context60", (5104, 5105), 60, _CONTEXT, "context"),
    "context59": Benchmark("Context59", (5104, 5105), 59, _CONTEXT, "context"),
    "coco_object": Benchmark("COCO-Object", (5000,), 81, _COCO, "coco_object"),
    "coco_stuff": Benchmark("COCO-Stuff", (5000,), 171, _COCO, "coco_stuff"),
    "coco_stuff10k": Benchmark(
        "COCO-Stuff 10k",
        (1000,),
        171,
        (
            Download(
                "cocostuff-10k-v1.1.zip",
                "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip",
                "coco_stuff10k",
                holds="imageLists/test.txt",
            ),
        ),
        "coco_stuff10k",
    ),
    "ade20k": Benchmark(
        "ADE20K",
        (2000,),
        150,
        (
            Download(
                "ADEChallengeData2016.zip",
                "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                "ade",
                holds="ADEChallengeData2016/annotations/validation",
            ),
        ),
    ),
    "cityscapes": Benchmark(
        "Cityscapes",
        (500,),
        19,
        (
            Download(
                "leftImg8bit_trainvaltest.zip",
                "https://www.cityscapes-dataset.com/downloads/",
                "cityscapes",
                holds="leftImg8bit/val",
            ),
            Download(
                "gtFine_trainvaltest.zip",
                "https://www.cityscapes-dataset.com/downloads/",
                "cityscapes",
                holds="gtFine/val",
            ),
        ),
        "cityscapes",
    ),
    "ade847": Benchmark(
        "ADE847",
        (2000,),
        847,
        (
            Download(
                "ADE20K_2021_17_01.zip",
                "https://groups.csail.mit.edu/vision/datasets/ADE20K/request_data/ (registration)",
                ".",
                holds="ADE20K_2021_17_01/images/ADE/validation",
            ),
        ),
        "ade847",
    ),
    "pc459": Benchmark(
        "PC459",
        (5104, 5105),
        459,
        (
            _VOC2010,
            Download(
                "trainval.tar.gz",
                "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
                "VOCdevkit/VOC2010",
            ),
        ),
        "pc459",
    ),
    "scenes": Benchmark(
        "scenes",
        (),
        0,
        made_by="it is part of the repository (data/scenes); `python tools/make_scenes.py` makes it anew",
    ),
    "scenes_noto": Benchmark(
        "scenes_noto",
        (),
        0,
        made_by="it is part of the repository (data/scenes); `python tools/make_scenes.py` makes it anew",
    ),
    "photos": Benchmark("photos", (26,), 21, made_by="it is part of the repository (data/photos)"),
    "coco100_voc21": Benchmark("coco100 (VOC21 names)", (100,), 21, made_by=_COCO100),
    "coco100_voc20": Benchmark("coco100 (VOC20 names)", (100,), 20, made_by=_COCO100),
}
