"""What can be wrong with data, as exceptions that name the file, the fault and the remedy."""

from __future__ import annotations


class SampleError(ValueError):
    """One sample cannot be used; an evaluation may record it and go on (see ``SegmentationDataset(on_error=...)``)."""


class ImageReadError(SampleError):
    """A photo cannot be read.

    Args:
        source: path of the photo, or what it is otherwise known as.
        reason: what is wrong with it, and where possible what to do.
    """

    def __init__(self, source: object, reason: str) -> None:
        super().__init__(f"cannot read image {source}: {reason}")
        self.source, self.reason = str(source), reason

    def __reduce__(self):  # a worker process sends it to the main process
        return type(self), (self.source, self.reason)


class MaskReadError(SampleError):
    """A label map cannot be read, or does not fit its photo or its data set.

    Args:
        source: path of the label map.
        reason: what is wrong with it, and where possible what to do.
    """

    def __init__(self, source: object, reason: str) -> None:
        super().__init__(f"cannot use mask {source}: {reason}")
        self.source, self.reason = str(source), reason

    def __reduce__(self):
        return type(self), (self.source, self.reason)


class DatasetNotFound(FileNotFoundError):
    """A data set is not where its config expects it. The message says how to get it."""
