"""Segment a photo without torch or ovseg: onnx_numpy.py sclip.onnx sclip.onnx.words.json photo.jpg labels.png"""

import json
import sys

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image, ImageOps


def resize(grid: np.ndarray, *sides: int) -> np.ndarray:  # bilinear, [..., h, w] to [..., *sides]
    at = [(m, ((np.arange(n) + 0.5) * m / n - 0.5).clip(0, m - 1)) for m, n in zip(grid.shape[-2:], sides, strict=True)]
    down, across = (np.maximum(0, 1 - abs(x[:, None] - np.arange(m))).astype(np.float32) for m, x in at)
    return down @ grid @ across.T


model_file, words_file, photo_file, labels_file = sys.argv[1:]
session, words = InferenceSession(model_file, providers=["CPUExecutionProvider"]), json.load(open(words_file))
pixels = np.float32(ImageOps.exif_transpose(Image.open(photo_file)).convert("RGB")).transpose(2, 0, 1)
text, settings, shape = np.float32(words["text"]), words["settings"], pixels.shape[1:]
gain, threshold, background = (settings["head"][name] for name in ("logit_scale", "threshold", "background"))
sides = [max(3, round(n * settings["short_side"] / min(shape) / settings["patch"])) * settings["patch"] for n in shape]
pixels, sums, visits = np.rint(resize(pixels, *sides)), np.zeros((len(text), *sides), np.float32), np.zeros(sides)
crop, stride = (settings["windows"][name] or max(sides) for name in ("crop", "stride"))
tops, lefts = ([min(i, max(n - crop, 0)) for i in range(0, max(n - crop, 0) + stride, stride)] for n in sides)
for window in [np.s_[..., y : y + crop, x : x + crop] for y in tops for x in lefts]:
    scores = session.run(None, {"images": pixels[None][window], "text": text})[0][0]
    if scale := settings["probability_scale"]:  # what is averaged are probabilities then (MaskCLIP)
        scores = (chances := np.exp(scale * (scores - scores.max(0)))) / chances.sum(0)
    sums[window] += resize(scores, *visits[window].shape)
    visits[window] += 1
labels, best, total = np.zeros(shape, np.uint8), np.full(shape, -np.inf), np.zeros(shape)
for index, scores in zip(words["word_to_class"], (resize(one / visits, *shape) for one in sums), strict=True):
    labels[scores > best] = index
    best, total = np.maximum(best, scores), total + np.exp(gain * (scores - 1))
if threshold and background is not None:
    labels[np.exp(gain * (best - 1)) / total < threshold] = background
Image.fromarray(labels).save(labels_file)
for index in np.argsort(-np.bincount(labels.ravel(), minlength=len(words["names"]))):
    print(f"{(labels == index).mean():6.1%}  {words['names'][index]}")
