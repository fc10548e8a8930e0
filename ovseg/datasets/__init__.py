"""Data sets: reading photos and label maps, the pipeline's transforms, the benchmarks, their conversion."""

from ovseg.datasets.augment import BoxCrops, PointPrompts, RandomView
from ovseg.datasets.benchmarks import BENCHMARKS, Benchmark
from ovseg.datasets.captions import CaptionDataset
from ovseg.datasets.class_names import load_class_names
from ovseg.datasets.dataset import SegmentationDataset
from ovseg.datasets.errors import DatasetNotFound, ImageReadError, MaskReadError, SampleError
from ovseg.datasets.io import MAX_PIXELS, read_image, read_mask
from ovseg.datasets.mess import MESS
from ovseg.datasets.nouns import NounCrop
from ovseg.datasets.packed import PackedDataset
from ovseg.datasets.paired import PairedDataset
from ovseg.datasets.sampler import EvalSampler
from ovseg.datasets.training_views import ColourJitter, CropAndPad, Mirror
from ovseg.datasets.transforms import LoadImage, LoadMask, PackInputs, ResizePIL, ResizeShortestEdge, ResizeShortSide

BENCHMARKS.update(MESS)

__all__ = [
    "BENCHMARKS",
    "MAX_PIXELS",
    "MESS",
    "Benchmark",
    "BoxCrops",
    "CaptionDataset",
    "ColourJitter",
    "CropAndPad",
    "DatasetNotFound",
    "EvalSampler",
    "ImageReadError",
    "LoadImage",
    "LoadMask",
    "MaskReadError",
    "Mirror",
    "NounCrop",
    "PackInputs",
    "PackedDataset",
    "PairedDataset",
    "PointPrompts",
    "RandomView",
    "ResizePIL",
    "ResizeShortSide",
    "ResizeShortestEdge",
    "SampleError",
    "SegmentationDataset",
    "load_class_names",
    "read_image",
    "read_mask",
]
