"""Segment a photo with an exported graph and numpy alone: no torch, no ovseg.

    ovseg export --method sclip --out sclip.onnx --classes "cat, grass, sky"
    pip install numpy pillow onnxruntime
    python demo/onnx_numpy.py sclip.onnx sclip.onnx.words.json photo.jpg labels.png

Windows, their average and the threshold of the background are ovseg's own, from the second file.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def resized(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    """A map of float32, bilinear."""
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR))


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows begin; the last ends with the photo."""
    return [max(min(i, length - crop), 0) for i in range(0, max(length - crop + stride - 1, 0) + 1, stride)]


def segment(model_path: str, words_path: str, photo_path: str) -> tuple[np.ndarray, list[str]]:
    """Labels ``[H, W]`` uint8 of a photo, and the names they stand for."""
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    words = json.loads(Path(words_path).read_text(encoding="utf-8"))
    text, settings = np.array(words["text"], np.float32), words["settings"]
    photo = ImageOps.exif_transpose(Image.open(photo_path)).convert("RGB")
    factor, patch = settings["short_side"] / min(photo.size), settings["patch"]
    width, height = (max(3, round(side * factor / patch)) * patch for side in photo.size)
    if factor < 1:  # as ovseg: four pixels make one, without a filter for what is left out
        scale = (photo.width / width, 0, 0, 0, photo.height / height, 0)
        small = photo.transform((width, height), Image.Transform.AFFINE, scale, Image.Resampling.BILINEAR)
    else:
        small = photo.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, np.float32).transpose(2, 0, 1)[None]
    crop, stride = (settings["windows"][name] or max(width, height) for name in ("crop", "stride"))
    total, visits = np.zeros((len(text), height, width), np.float32), np.zeros((height, width), np.float32)
    for y, x in [(y, x) for y in starts(height, crop, stride) for x in starts(width, crop, stride)]:
        window = pixels[:, :, y : y + crop, x : x + crop]
        scores = session.run(None, {"images": window, "text": text})[0][0]
        if scale := settings["probability_scale"]:  # what is averaged are probabilities then (MaskCLIP)
            scores = np.exp(scale * (scores - scores.max(0)))
            scores /= scores.sum(0)
        rows, columns = window.shape[2:]
        for sums, grid in zip(total, scores, strict=True):
            sums[y : y + rows, x : x + columns] += resized(grid, columns, rows)
        visits[y : y + rows, x : x + columns] += 1
    head, shape = settings["head"], (photo.height, photo.width)
    best, labels, sums = np.full(shape, -np.inf), np.zeros(shape, np.uint8), np.zeros(shape)
    for index, scores in zip(words["word_to_class"], total / visits, strict=True):
        large = resized(scores, *photo.size)
        labels[large > best] = index
        best, sums = np.maximum(best, large), sums + np.exp(head["logit_scale"] * (large - 1.0))
    if head["threshold"] and head["background"] is not None:
        labels[np.exp(head["logit_scale"] * (best - 1)) / sums < head["threshold"]] = head["background"]
    return labels, words["names"]


if __name__ == "__main__":
    found, names = segment(*sys.argv[1:4])
    Image.fromarray(found).save(sys.argv[4])
    for index in np.argsort(-np.bincount(found.ravel(), minlength=len(names))):
        print(f"{(found == index).mean():6.1%}  {names[index]}")
