"""An exported graph as the engine of a segmentor."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ovseg.export.graph import ExportError
from ovseg.export.onnx import session, settings_in
from ovseg.registry import ENGINES


@ENGINES.register_module()
class OnnxEngine:
    """onnxruntime computes the windows' scores in place of torch, on the CPU, in fp32 or int8.

    ``model.engine = OnnxEngine('sclip.onnx')``, or ``engine=dict(type='OnnxEngine', path='sclip.onnx')`` in the model's
    config. The vocabulary may be any: it is an input of the graph.

    Args:
        path: file that ``ovseg export`` wrote for the same method and weights.
        threads: of one operator; ``None``: as many as torch uses.

    Raises:
        ExportError: without onnxruntime, or for a file that is no graph of ovseg.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path, self.threads = str(path), threads
        self._session = session(path, threads)
        self.settings = settings_in(path, self._session)

    def check_fits(self, weights_content: str, attention: str) -> None:
        """Raises ExportError unless the file was made of these weights (hash of their content) and this attention."""
        for name, own in (("weights_content", weights_content), ("attention", attention)):
            if self.settings[name] != own:
                raise ExportError(
                    f"{self.path} was exported with {name} {self.settings[name]}, the model has {own}: export it again"
                )

    def takes(self, height: int, width: int) -> bool:
        """Whether the graph is made for windows of this size in pixels."""
        return min(height, width) >= self.settings["smallest_side"]

    def __call__(self, images: Tensor, text: Tensor) -> Tensor:
        """Cosines ``[B, Q, h, w]`` of images ``[B, 3, H, W]`` (RGB 0..255) with words ``[Q, D]``."""
        patch = self.settings["patch"]
        height, width = (side // patch * patch for side in images.shape[-2:])  # what fills no patch is cut off
        inputs = {"images": images[..., :height, :width].contiguous().numpy(), "text": text.contiguous().numpy()}
        return torch.from_numpy(self._session.run(None, inputs)[0])

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.threads)
