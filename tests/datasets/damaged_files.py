"""Damaged files by the thousand: what the readers of photos, label maps and mask codes make of them.

:mod:`tests.hardening.run` tries them.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import lru_cache

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.datasets import ImageReadError, MaskReadError, read_image, read_mask
from ovseg.rle import MaskCodeError, decode_segmentation, encode_mask
from tests.datasets.encoders import chunk, png, tiff

MAX_PIXELS = 10**6
SIZE = (19, 23)
VARIANTS = 16  # of the whole files of every kind


class Wrong(AssertionError):
    """An outcome that must not be."""


# --------------------------------------------------------------------------------------- the files to begin with
def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(x / rng.uniform(2, 9) + y / rng.uniform(2, 9) + rng.uniform(0, 6)) for _ in range(3)]
    return ((np.dstack(waves) + 1) * 120 + rng.integers(0, 16, (*size, 3))).astype(np.uint8)


def label_map(rng: np.random.Generator, classes: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint16)
    for _ in range(6):
        y, x = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1])
        labels[y : y + 8, x : x + 9] = rng.integers(0, classes)
    return labels


@lru_cache(maxsize=64)
def photo_files(kind: str, variant: int) -> list[bytes]:
    rng = np.random.default_rng(variant)
    rgb, other = smooth(rng), smooth(rng)
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb[..., 0])
    wide = rgb.astype(np.uint16) * 257 + rng.integers(0, 99, rgb.shape).astype(np.uint16)
    alpha = np.dstack([wide, wide[..., :1]])
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind == "PNG":
        plain = [encoded(image, kind), encoded(grey, kind), encoded(image.convert("P"), kind, exif=exif)]
        return [
            *plain,
            encoded(image.convert("RGBA"), kind),
            png(rgb, 8, 2, interlaced=True),
            png(rgb[..., :1] >> 6, 2),
        ]
    if kind == "PNG 16 bit":
        return [png(wide, 16, 2), png(wide[..., :1], 16), png(alpha, 16, 6), png(wide, 16, 2, interlaced=True)]
    if kind == "animated PNG":
        frames = [Image.fromarray(other), Image.fromarray(smooth(rng))]
        return [
            encoded(image, "PNG", save_all=True, append_images=frames, duration=40, default_image=d) for d in (0, 1)
        ]
    if kind == "JPEG":
        more = [encoded(grey, kind), encoded(image.convert("CMYK"), kind), encoded(image, kind, exif=exif)]
        return [encoded(image, kind), encoded(image, kind, progressive=True), *more]
    if kind == "TIFF 8 bit":
        packed = [encoded(image, "TIFF", compression=c) for c in ("tiff_lzw", "packbits", "jpeg")]
        own = [tiff(rgb, 2, compression=8, predictor=2, strip_rows=5), tiff(rgb, 2, planar=2, tile=(16, 16))]
        return [*packed, *own, tiff(alpha.astype(np.uint8), 2, extra=(2,)), tiff(rgb[..., :1], 0, order=">")]
    if kind == "TIFF 16 bit":
        plain = [tiff(wide, 2, strip_rows=6), tiff(wide, 2, planar=2, order=">"), tiff(alpha, 2, extra=(1,), big=True)]
        return [*plain, tiff(wide, 2, compression=5, predictor=2), tiff(wide[..., :1], 1, compression=8, tile=(16, 16))]
    if kind == "PNM":
        text = b" ".join(b"%d" % v for v in rgb.ravel().tolist())
        head = b" 23 19 255\n"
        bits = np.packbits(rgb[..., 0] > 99, axis=1).tobytes()
        both = [b"P6" + head + rgb.tobytes(), b"P5" + head + rgb[..., 0].tobytes(), b"P3" + head + text]
        return [*both, b"P6 23 19 60000\n" + np.minimum(wide, 60000).astype(">u2").tobytes(), b"P4 23 19\n" + bits]
    if kind == "WebP":
        lossless = encoded(image.convert("RGBA"), "WEBP", lossless=True)
        animated = encoded(image, "WEBP", save_all=True, append_images=[Image.fromarray(other)])
        return [encoded(image, "WEBP"), lossless, animated]
    if kind == "GIF":
        frames = {"save_all": True, "append_images": [Image.fromarray(other)]}
        return [encoded(image, kind), encoded(image, kind, **frames), encoded(grey, kind, transparency=3)]
    if kind == "BMP":
        return [
            encoded(image, kind),
            encoded(grey, kind),
            encoded(image.convert("P"), kind),
            encoded(image.convert("1"), kind),
        ]
    name = {"JPEG 2000": "JPEG2000", "AVIF": "AVIF"}[kind]
    return [encoded(image, name), encoded(grey, name)]


@lru_cache(maxsize=64)
def label_files(kind: str, variant: int) -> list[tuple[bytes, np.ndarray]]:
    rng = np.random.default_rng(variant)
    few, some, many = (label_map(rng, classes) for classes in (4, 21, 847))
    colours = rng.integers(0, 256, (256, 3))
    if kind.startswith("label PNG 8 bit"):
        return [
            (encoded(Image.fromarray(some.astype(np.uint8)), "PNG"), some),
            (png(some[..., None], interlaced=True), some),
        ]
    if kind == "label PNG 16 bit":
        return [(encoded(Image.fromarray(many), "PNG"), many), (png(many[..., None], 16, interlaced=True), many)]
    if kind == "label PNG palette":
        return [(png(some[..., None], 8, 3, colours), some), (png(few[..., None], 2, 3, colours[:4]), few)]
    if kind == "label PNG 1, 2, 4 bit":
        one = few % 2
        return [(png(one[..., None], 1), one), (png(few[..., None], 2), few), (png(some[..., None] % 16, 4), some % 16)]
    if kind == "label TIFF":
        small, wide = some[..., None].astype(np.uint8), many[..., None]
        files = [
            (encoded(Image.fromarray(many), "TIFF"), many),
            (tiff(wide, compression=8, predictor=2, tile=(16, 16)), many),
        ]
        files += [(tiff(small, compression=5, strip_rows=6), some), (tiff(small, compression=32773), some)]
        palette = tuple((colours.T.ravel() * 257).tolist())
        return [*files, (tiff(small, 3, tags={320: palette}), some), (tiff(small.astype(np.int32), big=True), some)]
    if kind == "label PGM":
        text = b"P2 23 19 20\n" + b" ".join(b"%d" % v for v in some.ravel().tolist())
        wide = b"P5 23 19 846\n" + many.astype(">u2").tobytes()
        return [(b"P5 23 19 20\n" + some.astype(np.uint8).tobytes(), some), (wide, many), (text, some)]
    image = Image.fromarray(some.astype(np.uint8)).convert("P")
    image.putdata(some.ravel())
    image.putpalette(colours.astype(np.uint8).tobytes())
    return [(encoded(image, "BMP"), some)]


# ---------------------------------------------------------------------------------------------------- the damage
VALUES = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def damage(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """One to three changes: bits, bytes, numbers in the header, cuts, gaps, doublings, a piece of another file."""
    for _ in range(rng.integers(1, 4)):
        out = bytearray(data)
        if not out:
            return data
        how, at = rng.integers(8), int(rng.integers(len(out)))
        length = int(rng.integers(1, 33))
        if how == 0:
            out[at] ^= 1 << rng.integers(8)
        elif how == 1:
            out[at] = rng.integers(256)
        elif how == 2:
            out[min(at, int(rng.integers(80)))] = VALUES[rng.integers(10)]
        elif how == 3:
            del out[at:]
        elif how == 4:
            del out[at : at + length]
        elif how == 5:
            out[at:at] = out[at : at + length]
        elif how == 6:
            start = int(rng.integers(len(other)))
            out[at : at + length] = other[start : start + length]
        else:
            number = struct.pack((">I", "<I", ">H", "<H")[rng.integers(4)], int(rng.choice(VALUES)) & 0xFFFF)
            out[at : at + len(number)] = number
        data = bytes(out)
    return data


def damage_png(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """A chunk changed, doubled, dropped or moved, or other pixels, all with right checksums."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    at, how = int(rng.integers(len(chunks))), rng.integers(6)
    kind, content = chunks[at]
    if how == 0 and content:
        chunks[at] = kind, damage(rng, content, other)
    elif how == 1:
        chunks.insert(at, chunks[at])
    elif how == 2:
        del chunks[at]
    elif how == 3:
        chunks.insert(int(rng.integers(len(chunks))), chunks.pop(at))
    elif how == 4:
        content = bytearray(chunks[0][1])
        content[rng.integers(len(content))] = VALUES[rng.integers(10)]
        chunks[0] = chunks[0][0], bytes(content)
    else:
        pixels = [i for i, (name, _) in enumerate(chunks) if name == b"IDAT"]
        raw = zlib.decompress(b"".join(chunks[i][1] for i in pixels))
        chunks[pixels[0]] = b"IDAT", zlib.compress(damage(rng, raw, other))
        for i in reversed(pixels[1:]):
            del chunks[i]
    return data[:8] + b"".join(chunk(*part) for part in chunks)


def damage_tiff(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """One field of the directory changed: tag, type, count or value."""
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    if big:
        start, entry, first = struct.unpack(order + "Q", data[8:16])[0], 20, 8
    else:
        start, entry, first = struct.unpack(order + "I", data[4:8])[0], 12, 2
    count = struct.unpack(order + ("Q" if big else "H"), data[start : start + first])[0]
    out = bytearray(data)
    at = start + first + entry * int(rng.integers(count))
    part = int(rng.integers(4))
    offset, letter = ((0, "H"), (2, "H"), (4, "Q" if big else "I"), (entry - (8 if big else 4), "Q" if big else "I"))[
        part
    ]
    tags = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 325, 338, 339)
    value = int(rng.choice(tags if part == 0 else VALUES))
    out[at + offset : at + offset + struct.calcsize("=" + letter)] = struct.pack(
        order + letter, value % 65536 if letter == "H" else value
    )
    return bytes(out)


# ------------------------------------------------------------------------------------------------ what must hold
def stir(rng: np.random.Generator) -> None:
    """Fill memory that is then free with other bytes: pixels that nobody wrote show."""
    for size in (2**10, 2**13, 2**16, 2**19):
        np.full(size, rng.integers(256), np.uint8)


def twice(read, data: bytes, error: type[Exception], rng: np.random.Generator) -> np.ndarray | None:
    """The array that both reads give, ``None`` where both refuse."""
    results = []
    for _ in range(2):
        stir(rng)
        try:
            results.append(read(data))
        except error:
            results.append(None)
    first, second = results
    if (first is None) != (second is None) or (first is not None and not np.array_equal(first, second)):
        raise Wrong("two reads differ")
    return first


def try_photo(kind: str, rng: np.random.Generator) -> tuple[str, bytes]:
    files = photo_files(kind, int(rng.integers(VARIANTS)))
    whole, other = files[rng.integers(len(files))], files[rng.integers(len(files))]
    data = damage(rng, whole, other)
    if kind.startswith("TIFF") and rng.random() < 0.5:
        data = damage_tiff(rng, whole, other)
    elif "PNG" in kind and rng.random() < 0.6:
        data = damage_png(rng, whole, other)
    found = twice(lambda d: read_image(d, MAX_PIXELS), data, ImageReadError, rng)
    if found is None:
        return "refused", data
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3 or not 0 < found[..., 0].size <= MAX_PIXELS:
        raise Wrong(f"{found.dtype} {found.shape}")
    return ("identical" if np.array_equal(found, read_image(whole)) else "other content"), data


def try_labels(kind: str, rng: np.random.Generator) -> tuple[str, bytes]:
    files = label_files(kind, int(rng.integers(VARIANTS)))
    (whole, want), (other, _) = files[rng.integers(len(files))], files[rng.integers(len(files))]
    repaired = kind.endswith("repaired")
    data = damage_png(rng, whole, other) if repaired else damage(rng, whole, other)
    if kind == "label TIFF" and rng.random() < 0.5:
        data = damage_tiff(rng, whole, other)
    found = twice(lambda d: read_mask(d, MAX_PIXELS), data, MaskReadError, rng)
    if found is None:
        return "refused", data
    if found.dtype != np.int32 or found.ndim != 2:
        raise Wrong(f"{found.dtype} {found.shape}")
    same = np.array_equal(found, want)
    if "PNG" in kind and not repaired and not same:
        raise Wrong("other labels from a file whose checksums are wrong")
    return ("identical" if same else "other content"), data


def try_runs(kind: str, rng: np.random.Generator) -> tuple[str, object]:
    mask = label_map(rng, 2) > 0
    code = encode_mask(mask)
    if rng.random() < 0.5:
        flat = np.concatenate([[False], mask.T.ravel()])
        edges = np.flatnonzero(flat[1:] != flat[:-1]).tolist()
        code["counts"] = np.diff([0, *edges, mask.size]).tolist()
    odd = (0, 1, -1, 2**31, 2**62, 10**30, 0.5, float("nan"), True, None, "1", [])
    if isinstance(code["counts"], list):
        for _ in range(rng.integers(1, 3)):
            runs, at = code["counts"], int(rng.integers(len(code["counts"])))
            how = rng.integers(4)
            runs[at : at + 1] = ([odd[rng.integers(len(odd))]], [], [runs[at], runs[at]], [rng.integers(50).item()])[
                how
            ]
            if not runs:
                break
    else:
        code["counts"] = damage(rng, code["counts"].encode(), b"0123456789PQRSabcdefgo").decode("latin-1")
    if rng.random() < 0.2:
        code["size"] = [[19, 23], [23, 19], [2**20, 2**20], [-1, 5], [19], None, [19.0, 23]][rng.integers(7)]
    elif rng.random() < 0.3 and isinstance(code["counts"], list):  # another mask, and whole
        runs = rng.integers(0, 60, 7).tolist()
        code["counts"] = [*runs, mask.size - sum(runs)]
    found = twice(lambda c: decode_segmentation(c, SIZE), code, MaskCodeError, rng)
    if found is None:
        return "refused", code
    theirs = code if isinstance(code["counts"], str) else coco_mask.frPyObjects(code, *SIZE)
    if not np.array_equal(found, coco_mask.decode(theirs)):
        raise Wrong("another mask than pycocotools")
    return ("identical" if np.array_equal(found, mask) else "other content"), code


def try_polygons(kind: str, rng: np.random.Generator) -> tuple[str, object]:
    polygons = [(rng.random((rng.integers(3, 8), 2)) * SIZE[::-1]).round(2).ravel().tolist() for _ in range(2)]
    whole = decode_segmentation(polygons, SIZE)
    odd = (0, -3.5, 22.99, 23, 40, 1e3, 1e9, -1e9, 1e300, float("nan"), float("inf"), 10**30, "5", None, True, [1, 2])
    for _ in range(rng.integers(1, 4)):
        points = polygons[rng.integers(len(polygons))]
        if not points:
            break
        at, how = int(rng.integers(len(points))), rng.integers(5)
        points[at : at + 1] = ([odd[rng.integers(len(odd))]], [], [points[at]] * 2, [float(rng.normal(10, 30))], [])[
            how
        ]
        if how == 4:
            del points[: rng.integers(len(points) + 1)]
    found = twice(lambda p: decode_segmentation(p, SIZE), polygons, MaskCodeError, rng)
    if found is None:
        return "refused", polygons
    if not np.array_equal(found, coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE)))):
        raise Wrong("another mask than pycocotools")
    return ("identical" if np.array_equal(found, whole) else "other content"), polygons


PNG_LABELS = ("label PNG 8 bit", "label PNG 16 bit", "label PNG palette", "label PNG 1, 2, 4 bit")
LABELS = (*PNG_LABELS, "label PNG 8 bit, checksums repaired", "label TIFF", "label PGM", "label BMP")
PHOTOS = ("PNG", "PNG 16 bit", "animated PNG", "JPEG", "TIFF 8 bit", "TIFF 16 bit", "PNM", "WebP", "GIF", "BMP")
PHOTOS += ("JPEG 2000", "AVIF")
KINDS = {
    **dict.fromkeys(LABELS, try_labels),
    **dict.fromkeys(PHOTOS, try_photo),
    "run lengths": try_runs,
    "polygons": try_polygons,
}
