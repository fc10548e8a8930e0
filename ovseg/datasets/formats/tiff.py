"""TIFF files: the directory of the first picture and its stored samples (TIFF 6.0; BigTIFF).

The samples are read by numpy from uncompressed and deflate data, through libtiff (inside Pillow) from LZW and PackBits,
as plain bytes, and by libjpeg strip by strip. (libtiff leaves rows that damaged JPEG and fax data do not reach as the
memory was.) What the numbers mean (photometric interpretation, alpha, palette) is for the reader to decide
from the layout: general decoders guess it, and guess differently.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from ovseg.datasets.formats.pillow import strict_pillow
from ovseg.datasets.formats.source import FormatError, Source, unpack_bits

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
JPEG, FAX = (7,), (2, 3, 4)
YCBCR = 6
_NONE, _LZW, _DEFLATE, _PACKBITS = 1, 5, (8, 32946), 32773
_PHOTOMETRICS = {4: "a mask", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a camera's raw pattern",
                 32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}  # fmt: skip
_TYPES = {1: "B", 7: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q", 13: "I", 18: "Q"}
_TAGS = {254: "kind", 256: "width", 257: "height", 258: "bits", 259: "compression", 262: "photometric",
         266: "fill_order", 273: "offsets", 274: "orientation", 277: "samples", 278: "strip_rows", 279: "counts",
         284: "planar", 317: "predictor", 320: "colours", 322: "tile_width", 323: "tile_height", 324: "offsets",
         325: "counts", 332: "ink_set", 338: "extra", 339: "sample_format", 347: "jpeg_tables",
         50706: "raw"}  # fmt: skip
_MANY = 1 << 24  # entries of one tag


@dataclass(frozen=True)
class Layout:
    """How the first picture of a file is stored; the fields are TIFF's, checked against each other.

    Attributes:
        width, height: pixels.
        bits: bits per sample, the same for all samples.
        samples: samples per pixel.
        sample_format: 1 unsigned, 2 signed, 3 float.
        photometric: what the samples mean, ``None`` where the file does not say.
        extra: meaning of the samples beyond the colour (0 unspecified, 1 premultiplied and 2 straight alpha), or
            ``None`` where the file does not say.
        pages: further pictures of the file that are no smaller copies or masks of the first.
    """

    width: int
    height: int
    bits: int
    samples: int
    sample_format: int
    photometric: int | None
    compression: int
    planar: int
    predictor: int
    fill_order: int
    orientation: int
    ink_set: int
    extra: tuple[int, ...] | None
    colours: tuple[int, ...]
    segment: tuple[int, int]  # rows and columns of a strip or tile
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    jpeg_tables: bytes
    order: str
    pages: int

    @property
    def meaning(self) -> str:
        """The photometric interpretation in words."""
        return _PHOTOMETRICS.get(self.photometric, f"photometric interpretation {self.photometric}")

    @cached_property
    def palette(self) -> np.ndarray:
        """uint8 ``[N, 3]``; empty where there is none or it has another length than the samples can name."""
        if self.bits > 8 or len(self.colours) != 3 << self.bits:
            return np.zeros((0, 3), np.uint8)
        colours = np.array(self.colours, np.uint16).reshape(3, -1).T
        return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)  # some writers mean 8 bits


def read_layout(source: Source) -> Layout:
    """The first picture's layout.

    Raises:
        FormatError: for a directory that is damaged, contradicts itself or the file's size, or that begins with a
            preview (raw files of cameras).
    """
    head = source.read(0, 16) if source.size >= 16 else source.read(0, 8) + bytes(8)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    if big and struct.unpack(order + "HH", head[4:8]) != (8, 0):
        raise FormatError("damaged header (a BigTIFF with offsets that are not 8 bytes)")
    start = struct.unpack(order + "Q", head[8:])[0] if big else struct.unpack(order + "I", head[4:8])[0]
    tags, following = _directory(source, start, order, big, set(_TAGS))
    if "raw" in tags or tags.get("kind", (0,))[0] & 1 or head[8:10] == b"CR":
        raise FormatError("its first picture is a preview (a camera's raw file?); develop it to JPEG or PNG first")
    return _checked(source, tags, order, _pages(source, following, order, big))


def _directory(source: Source, start: int, order: str, big: bool, wanted: set[int]) -> tuple[dict, int]:
    """The tags that are wanted, each a tuple of ints, and where the next directory begins."""
    entry, number = (20, "Q") if big else (12, "I")
    first = struct.calcsize("=Q" if big else "=H")
    count = struct.unpack(order + ("Q" if big else "H"), source.read(start, first))[0]
    if not 0 < count <= 4096:
        raise FormatError(f"damaged header ({count} entries in its directory)")
    entries = source.read(start + first, count * entry)
    tags: dict[str, tuple[int, ...]] = {}
    for i in range(0, len(entries), entry):
        tag, kind, length = struct.unpack(order + "HH" + number, entries[i : i + entry // 2 + 2])
        if tag not in wanted:
            continue
        if _TAGS[tag] in tags:
            raise FormatError(f"damaged header (tag {tag} comes twice)")
        if kind not in _TYPES or not 0 < length <= _MANY:
            raise FormatError(f"damaged header (tag {tag} has {length} values of type {kind})")
        size = length * struct.calcsize("=" + _TYPES[kind])
        field = entries[i + entry // 2 + 2 : i + entry]
        if size > len(field):
            field = source.read(struct.unpack(order + number, field)[0], size)
        tags[_TAGS[tag]] = struct.unpack(f"{order}{length}{_TYPES[kind]}", field[:size])
    end = start + first + count * entry
    return tags, struct.unpack(order + number, source.read(end, entry // 4 + (3 if big else 1)))[0]


def _pages(source: Source, start: int, order: str, big: bool) -> int:
    """Number of further full pictures; smaller copies and masks (GeoTIFF overviews) do not count."""
    pages, seen = 0, set()
    while start and start not in seen and len(seen) < 1000:
        seen.add(start)
        tags, start = _directory(source, start, order, big, {254})
        pages += not tags.get("kind", (0,))[0] & 5
    return pages


def _checked(source: Source, tags: dict[str, tuple[int, ...]], order: str, pages: int) -> Layout:
    def one(name: str, default: int | None = None) -> int:
        values = tags.get(name, (default,))
        if values[0] is None or len(values) != 1 or values[0] < 0:
            raise FormatError(f"damaged header (its {name.replace('_', ' ')} is missing or no single number)")
        return values[0]

    width, height, samples = one("width"), one("height"), one("samples", 1)
    if not (width and height and 0 < samples <= 64):
        raise FormatError(f"damaged header ({width} x {height} pixels of {samples} samples)")
    bits, formats = tags.get("bits", (1,)), tags.get("sample_format", (1,))
    for name, values in (("bits per sample", bits), ("sample formats", formats)):
        if len(set(values)) != 1 or len(values) not in (1, samples):
            raise FormatError(f"its {samples} samples have {name} {values[:8]}; save it with one kind of samples")
    tiled = "tile_width" in tags or "tile_height" in tags
    segment = (one("tile_height"), one("tile_width")) if tiled else (min(one("strip_rows", height), height), width)
    rows, columns = segment
    planar = one("planar", 1)
    if not rows or not columns or planar not in (1, 2):
        raise FormatError("damaged header (strips or tiles without pixels, or an unknown arrangement of planes)")
    if rows * columns > max(2 * height * width, 1 << 22):
        raise FormatError(f"damaged header (tiles of {columns} x {rows} for {width} x {height} pixels)")
    number = -(-height // rows) * -(-width // columns) * (samples if planar == 2 else 1)
    offsets, counts = tags.get("offsets", ()), tags.get("counts", ())
    if len(offsets) != number or len(counts) != number:
        raise FormatError(f"damaged header ({len(offsets)} and {len(counts)} places for {number} strips or tiles)")
    for offset, count in zip(offsets, counts, strict=True):
        if offset < 8 or count <= 0 or offset + count > source.size:
            raise FormatError(f"truncated or damaged: pixels should end at byte {offset + count:,} of {source.size:,}")
    return Layout(
        width=width,
        height=height,
        bits=bits[0],
        samples=samples,
        sample_format=formats[0],
        photometric=one("photometric") if "photometric" in tags else None,
        compression=one("compression", 1),
        planar=planar,
        predictor=one("predictor", 1),
        fill_order=one("fill_order", 1),
        orientation=one("orientation", 1),
        ink_set=one("ink_set", 1),
        extra=tags.get("extra"),
        colours=tags.get("colours", ()),
        segment=segment,
        tiled=tiled,
        offsets=offsets,
        counts=counts,
        jpeg_tables=bytes(tags.get("jpeg_tables", ())),
        order=order,
        pages=pages,
    )


def read_samples(source: Source, layout: Layout) -> np.ndarray:
    """The numbers as they are stored.

    Returns:
        ``[H, W, samples]`` of the file's type: unsigned or signed, 8 to 32 bits; fewer than 8 bits as uint8.

    Raises:
        FormatError: for a compression, predictor or type that is not read exactly, and for damaged data.
    """
    kind = {1: "u", 2: "i"}.get(layout.sample_format)
    if kind is None:
        raise FormatError("its pixels are float numbers; convert it to 8 or 16 bit first")
    if layout.bits not in (1, 2, 4, 8, 16, 32) or (layout.bits < 8 and (kind == "i" or layout.samples > 1)):
        raise FormatError(f"{layout.samples} samples of {layout.bits} bits are not read; convert it to 8 or 16 bit")
    packed = layout.compression in (_LZW, *_DEFLATE)
    if layout.compression not in (_NONE, _PACKBITS) and not packed:
        raise FormatError(f"compression {layout.compression} is not read; save it with deflate, LZW or without")
    predictor = layout.predictor if packed else 1  # as in libtiff: the tag means nothing elsewhere
    if predictor not in (1, 2) or (predictor == 2 and layout.bits < 8) or layout.fill_order != 1:
        raise FormatError(f"predictor {predictor}, bit order {layout.fill_order} are not read; save it without")
    stored = np.dtype(f"{layout.order}{kind}{max(layout.bits // 8, 1)}")
    array = np.empty((layout.height, layout.width, layout.samples), stored.newbyteorder("="))
    rows, columns = layout.segment
    across, down = -(-layout.width // columns), -(-layout.height // rows)
    together = 1 if layout.planar == 2 else layout.samples
    for index, (offset, count) in enumerate(zip(layout.offsets, layout.counts, strict=True)):
        plane, place = divmod(index, across * down)
        y, x = place // across * rows, place % across * columns
        here = rows if layout.tiled else min(rows, layout.height - y)
        row_bytes = -(-columns * together * layout.bits // 8)
        data = _decompressed(source, offset, count, layout.compression, here, row_bytes, rows)
        block = np.frombuffer(data, np.uint8, here * row_bytes).reshape(here, row_bytes)
        if layout.bits < 8:
            block = unpack_bits(block, columns, layout.bits)[..., None]
        else:
            block = block.view(stored).reshape(here, columns, together).astype(stored.newbyteorder("="), copy=False)
        if predictor == 2:
            block = np.cumsum(block, axis=1, dtype=block.dtype)  # differences along a row, modulo the type
        target = array[y : y + here, x : x + columns, plane : plane + together]
        target[...] = block[: target.shape[0], : target.shape[1]]
    return array


def _decompressed(
    source: Source, offset: int, count: int, compression: int, rows: int, row_bytes: int, full_rows: int
) -> bytes:
    """The bytes of one strip or tile, ``rows`` rows at least; writers may pad a last strip to ``full_rows``."""
    need, most = rows * row_bytes, full_rows * row_bytes
    if compression == _NONE:
        if count < need:
            raise FormatError(f"damaged: a strip or tile of {count:,} bytes where {need:,} are needed")
        return source.read(offset, need)
    if count > 2 * most + 4096:
        raise FormatError(f"damaged: {count:,} compressed bytes for {need:,}")
    data = source.read(offset, count)
    if compression not in _DEFLATE:
        return _through_libtiff(data, compression, rows, row_bytes)
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise FormatError(f"damaged compressed data ({error})") from None
    if len(data) not in (need, most) or not stream.eof:
        raise FormatError(f"truncated or damaged: a strip or tile does not end after its {need:,} bytes")
    return data


def _through_libtiff(data: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """LZW and PackBits by libtiff: as a grey picture of bytes, so that nothing is interpreted."""
    entries = [(256, row_bytes), (257, rows), (258, 8), (259, compression), (262, 1), (273, 8 + 2 + 9 * 12 + 4)]
    entries += [(277, 1), (278, rows), (279, len(data))]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    head += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)
    with strict_pillow(), Image.open(io.BytesIO(head + data), formats=("TIFF",)) as image:
        return image.tobytes()


def read_jpeg(source: Source, layout: Layout) -> np.ndarray:
    """The pixels of JPEG strips or tiles, each of which is a JPEG file without the tables that all share.

    Returns:
        uint8 ``[H, W, 1 or 3]``, grey or RGB.

    Raises:
        FormatError: for layouts on which it was not tested, and for a strip or tile of another size or kind.
    """
    kinds = {(1, BLACK_IS_ZERO): "L", (3, RGB): "RGB", (3, YCBCR): "RGB"}
    mode = kinds.get((layout.samples, layout.photometric))
    if mode is None or layout.bits != 8 or layout.planar != 1 or layout.sample_format != 1:
        raise FormatError(f"JPEG compression of {layout.meaning} is not read; save it with deflate")
    # without an APP14 marker libjpeg guesses from the components' names whether they are RGB
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([layout.photometric == YCBCR])
    begin = b"\xff\xd8" + (adobe if layout.samples == 3 else b"")
    tables = layout.jpeg_tables.removeprefix(b"\xff\xd8").removesuffix(b"\xff\xd9")
    array = np.empty((layout.height, layout.width, layout.samples), np.uint8)
    rows, columns = layout.segment
    across = -(-layout.width // columns)
    for index, (offset, count) in enumerate(zip(layout.offsets, layout.counts, strict=True)):
        y, x = index // across * rows, index % across * columns
        here = rows if layout.tiled else min(rows, layout.height - y)
        data = source.read(offset, count)
        if not data.startswith(b"\xff\xd8"):
            raise FormatError("damaged: a strip or tile is no JPEG")
        with strict_pillow(), Image.open(io.BytesIO(begin + tables + data[2:]), formats=("JPEG",)) as image:
            if image.size != (columns, here) or image.mode != mode:
                raise FormatError(
                    f"damaged: a strip or tile is {image.width} x {image.height} {image.mode}, not {columns} x {here}"
                )
            block = np.asarray(image).reshape(here, columns, layout.samples)
        target = array[y : y + here, x : x + columns]
        target[...] = block[: target.shape[0], : target.shape[1]]
    return array
