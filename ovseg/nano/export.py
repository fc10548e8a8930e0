"""Turn training checkpoints into the shipped weights: ``python -m ovseg.nano.export CHECKPOINT ... [--part sam]``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from ovseg.nano import assets

#: Name of the file in the assets: prefix of the weights in the training's checkpoint.
PARTS = {"clip": "clip.", "sam": "sam.", "guide": "guide.", "dinoiser": ""}
ASSETS = assets.ASSETS / "nano"


def read_checkpoint(path: Path | str, part: str = "clip") -> dict[str, torch.Tensor]:
    """The weights of one part of a checkpoint of a nano training: averaged ones where the training averaged.

    Only tensors and MMEngine's own log buffers are unpickled.

    Raises:
        ValueError: the checkpoint holds no such weights.
    """
    allowed = [HistoryBuffer, np._core.multiarray._reconstruct, np._core.multiarray.scalar, np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "uint32", "bool")]
    allowed += [getattr]
    with torch.serialization.safe_globals(allowed):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    prefix = PARTS[part]
    state = checkpoint["state_dict"]
    weights = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not weights:
        raise ValueError(f"{path} holds no weights named {prefix}*: is it a checkpoint of another training?")
    return weights


def mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean in float16; counters (integers) are the first one's."""
    if not tensors[0].is_floating_point():
        return tensors[0].contiguous()
    return torch.stack([t.float() for t in tensors]).mean(0).half().contiguous()


def export(checkpoints: Path | str | Sequence[Path | str], out: Path | None = None, part: str = "clip") -> int:
    """Write the weights in float16 as safetensors, in one atomic step; returns the size in bytes.

    Args:
        checkpoints: one, or several of one training, whose mean is written.
        out: the file; default: where ovseg looks for what it ships.
        part: one of :data:`PARTS`.

    Raises:
        ValueError: a checkpoint holds no such weights.
    """
    paths = [checkpoints] if isinstance(checkpoints, (Path, str)) else checkpoints
    each = [read_checkpoint(path, part) for path in paths]
    weights = {name: mean([w[name] for w in each]) for name in each[0]}
    out = ASSETS / f"{part}.safetensors" if out is None else out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    save_file(weights, partial, metadata={"format": "pt"})
    os.replace(partial, out)
    return out.stat().st_size


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="several: their mean")
    parser.add_argument("--part", choices=PARTS, default="clip")
    parser.add_argument("--out", type=Path, help="default: where ovseg looks for what it ships")
    args = parser.parse_args()
    size = export(args.checkpoints, args.out, args.part)
    print(f"{size / 1e6:.1f} MB in {args.out or ASSETS / f'{args.part}.safetensors'}")


if __name__ == "__main__":
    main()
