"""Small encoders of PNG and TIFF for tests: every layout that the formats have, also those that no library writes."""

from __future__ import annotations

import struct
import zlib

import numpy as np

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def packed(samples: np.ndarray, depth: int) -> np.ndarray:
    """uint8 ``[H, bytes]`` rows of samples ``[H, W, C]``."""
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        return flat.astype(">u2").view(np.uint8).reshape(len(samples), -1)
    bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
    return np.packbits(bits.reshape(len(samples), -1), axis=1)


def filtered(rows: np.ndarray, step: int, filters: list[int]) -> bytes:
    """Rows with PNG's filters, in turn."""
    out, above = b"", np.zeros(rows.shape[1], np.int64)
    for number, row in enumerate(rows.astype(np.int64)):
        kind = filters[number % len(filters)]
        left = np.concatenate([np.zeros(step, np.int64), row])[: len(row)]
        corner = np.concatenate([np.zeros(step, np.int64), above])[: len(row)]
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        predicted = (0, left, above, (left + above) // 2, paeth)[kind]
        out += bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    return out


def png(
    samples: np.ndarray,
    depth: int = 8,
    colour: int = 0,
    palette: np.ndarray | None = None,
    interlaced: bool = False,
    filters: tuple[int, ...] = (0, 1, 2, 3, 4),
    before: bytes = b"",
    after: bytes = b"",
    raw: bytes | None = None,
) -> bytes:
    """A PNG of samples ``[H, W, C]``; ``before``, ``after``: chunks around the pixels; ``raw``: other pixel data."""
    height, width, channels = samples.shape
    step = max(1, depth * channels // 8)
    if raw is None:
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
        raw = b"".join(filtered(packed(p, depth), step, list(filters)) for p in parts if p.size)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    colours = b"" if palette is None else chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    data = zlib.compress(raw)
    cut = len(data) // 2
    pixels = chunk(b"IDAT", data[:cut]) + chunk(b"IDAT", data[cut:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + colours + before + pixels + after + chunk(b"IEND", b"")


def tiff(
    samples: np.ndarray,
    photometric: int | None = 1,
    *,
    bits: int | None = None,
    compression: int = 1,
    planar: int = 1,
    predictor: int = 1,
    order: str = "<",
    big: bool = False,
    tile: tuple[int, int] | None = None,
    strip_rows: int | None = None,
    extra: tuple[int, ...] | None = None,
    pages: tuple[int, ...] = (),
    tags: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """A TIFF of samples ``[H, W, C]`` of any type.

    Args:
        compression: 1 none, 5 LZW (by Pillow), 8 deflate, 32773 PackBits (literal runs).
        tile: rows and columns of tiles.
        pages: kinds (tag 254) of further pictures, each the same one.
        tags: further tags, or other values for those written here.
    """
    height, width, channels = samples.shape
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    bits = bits or samples.dtype.itemsize * 8
    rows, columns = tile or (strip_rows or height, width)
    planes = [samples[..., c : c + 1] for c in range(channels)] if planar == 2 else [samples]
    parts = []
    for plane in planes:
        for y in range(0, height, rows):
            for x in range(0, width, columns):
                block = plane[y : y + rows, x : x + columns]
                if tile:
                    missing = [(0, rows - block.shape[0]), (0, columns - block.shape[1]), (0, 0)]
                    block = np.pad(block, missing, mode="edge")
                parts.append(_compressed(block, bits, compression, predictor, order))
    numbers = {"c": "Q" if big else "I", "t": 16 if big else 4}
    start = 16 if big else 8
    offsets = np.cumsum([start, *map(len, parts)])[:-1].tolist()
    fields = {254: (0,), 256: (width,), 257: (height,), 258: (bits,) * channels, 259: (compression,), 277: (channels,)}
    fields |= {284: (planar,), 317: (predictor,), 339: (kind,) * channels}
    fields |= {} if photometric is None else {262: (photometric,)}
    fields |= {} if extra is None else {338: extra}
    fields |= {322: (columns,), 323: (rows,), 324: offsets} if tile else {278: (rows,), 273: offsets}
    fields |= {325 if tile else 279: [len(part) for part in parts]} | (tags or {})
    body = b"".join(parts)
    body += bytes(-len(body) % 8)
    place = start + len(body)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, place) if big else struct.pack(order + "I", place)
    directories = b""
    for number in range(1 + len(pages)):
        if number:
            fields[254] = (pages[number - 1],)
        here = place + len(directories)
        directories += _directory(fields, here, order, numbers, big, last=number == len(pages))
    return head + body + directories


def _directory(fields: dict, place: int, order: str, numbers: dict, big: bool, last: bool) -> bytes:
    room, entry = (8, 20) if big else (4, 12)
    behind = place + (8 if big else 2) + entry * len(fields) + room
    entries, values = b"", b""
    for tag in sorted(fields):
        data = struct.pack(f"{order}{len(fields[tag])}{numbers['c']}", *fields[tag])
        entries += struct.pack(order + "HH" + numbers["c"], tag, numbers["t"], len(fields[tag]))
        if len(data) > room:
            entries += struct.pack(order + numbers["c"], behind + len(values))
            values += data
        else:
            entries += data.ljust(room, b"\0")
    following = 0 if last else behind + len(values)
    count = struct.pack(order + ("Q" if big else "H"), len(fields))
    return count + entries + struct.pack(order + numbers["c"], following) + values


def _compressed(block: np.ndarray, bits: int, compression: int, predictor: int, order: str) -> bytes:
    if predictor == 2:
        block = np.diff(block, axis=1, prepend=block.dtype.type(0))
    if bits < 8:
        data = packed(block, bits).tobytes()
    else:
        data = np.ascontiguousarray(block).astype(block.dtype.newbyteorder(order)).tobytes()
    if compression in (8, 32946):
        return zlib.compress(data)
    if compression == 32773:
        rows = np.frombuffer(data, np.uint8).reshape(len(block), -1)
        return b"".join(
            bytes([len(row[i : i + 128]) - 1]) + row[i : i + 128].tobytes()
            for row in rows
            for i in range(0, len(row), 128)
        )
    if compression == 5:
        return lzw(data)
    return data


def lzw(data: bytes) -> bytes:
    """TIFF's LZW of codes of 9 bits only: a clear code before the table would need a tenth."""
    codes: list[int] = []
    for i in range(0, len(data), 200):
        codes += [256, *data[i : i + 200]]
    codes.append(257)
    return np.packbits(np.unpackbits(np.array(codes, ">u2").view(np.uint8)).reshape(-1, 16)[:, 7:].ravel()).tobytes()
