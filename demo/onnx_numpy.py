"""Segment a photo with an exported graph and numpy alone: no torch, no ovseg.

    ovseg export --method sclip --out sclip.onnx --classes "cat, grass, sky"
    pip install numpy pillow onnxruntime
    python demo/onnx_numpy.py sclip.onnx sclip.onnx.words.json photo.jpg labels.png

The photo is one window here; ovseg itself cuts large photos into overlapping windows and averages their scores.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

SHORT_SIDE = 336


def segment(model_path: str, words_path: str, photo_path: str) -> tuple[np.ndarray, list[str]]:
    """Labels ``[H, W]`` uint8 of a photo, and the names they stand for."""
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    words = json.loads(Path(words_path).read_text(encoding="utf-8"))
    patch = words["settings"]["patch"]
    photo = ImageOps.exif_transpose(Image.open(photo_path)).convert("RGB")
    factor = SHORT_SIDE / min(photo.size)
    size = [max(2, round(side * factor / patch)) * patch for side in photo.size]
    pixels = np.asarray(photo.resize(size, Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1)[None]
    scores = session.run(None, {"images": pixels, "text": np.array(words["text"], np.float32)})[0][0]
    best, labels = np.full((photo.height, photo.width), -np.inf, np.float32), np.zeros(photo.size[::-1], np.uint8)
    for index, grid in zip(words["word_to_class"], scores, strict=True):
        large = np.asarray(Image.fromarray(grid).resize(photo.size, Image.Resampling.BILINEAR))
        labels[large > best] = index
        best = np.maximum(best, large)
    return labels, words["names"]


if __name__ == "__main__":
    found, names = segment(*sys.argv[1:4])
    Image.fromarray(found).save(sys.argv[4])
    for index in np.argsort(-np.bincount(found.ravel(), minlength=len(names))):
        print(f"{(found == index).mean():6.1%}  {names[index]}")
