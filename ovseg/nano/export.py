"""Turn a training checkpoint into the shipped weights: ``python -m ovseg.nano.export CHECKPOINT [--out FILE]``."""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

DEFAULT_OUT = Path(__file__).parents[1] / "assets" / "nano" / "clip.safetensors"
_PREFIX = "clip."


def read_checkpoint(path: Path | str) -> dict[str, torch.Tensor]:
    """The CLIP weights of a checkpoint of ``ClipPretrainer``: averaged ones where the training averaged.

    Only tensors and MMEngine's own log buffers are unpickled.

    Raises:
        ValueError: the checkpoint holds no such weights.
    """
    allowed = [HistoryBuffer, np._core.multiarray._reconstruct, np._core.multiarray.scalar, np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "uint32", "bool")]
    allowed += [getattr]
    with torch.serialization.safe_globals(allowed):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    weights = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    if not weights:
        raise ValueError(f"{path} holds no weights named {_PREFIX}*: is it a checkpoint of ClipPretrainer?")
    return weights


def export(checkpoint: Path | str, out: Path = DEFAULT_OUT) -> int:
    """Write the weights in float16 as safetensors, in one atomic step; returns the size in bytes."""
    weights = {name: tensor.half().contiguous() for name, tensor in read_checkpoint(checkpoint).items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    save_file(weights, partial, metadata={"format": "pt"})
    os.replace(partial, out)
    return out.stat().st_size


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    args = parser.parse_args()
    print(f"{export(args.checkpoint, args.out) / 1e6:.1f} MB in {args.out}")


if __name__ == "__main__":
    main()
