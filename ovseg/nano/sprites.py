"""The sprites that scenes are composed of: fetched once from the npm registry, packed into one array.

``python -m ovseg.nano.sprites fetch`` asks the user's own npm client for ``@lobehub/fluent-emoji-3d`` (Microsoft's
Fluent Emoji, MIT) and writes ``data/sprites/fluent.npz``. The Noto glyphs of the same concepts come from the font of
the Debian package ``fonts-noto-color-emoji``.
"""

import argparse
import csv
import dataclasses
import functools
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

NPM_PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
NOTO_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
DEFAULT_PACK = Path(os.environ.get("OVSEG_DATA", "data")) / "sprites" / "fluent.npz"
#: Edge length in pixels of a packed sprite.
SIZE = 128


@dataclasses.dataclass(frozen=True)
class Concept:
    """A word and the sprite files that show it; ``benchmark``: the word is a class of the scenes benchmark."""

    word: str
    benchmark: bool
    sprites: tuple[str, ...]


@functools.lru_cache
def concepts() -> tuple[Concept, ...]:
    """All concepts of ``concepts.tsv``, benchmark words first."""
    with (Path(__file__).parent / "concepts.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return tuple(Concept(r["word"], r["benchmark"] == "1", tuple(r["sprites"].split(";"))) for r in rows)


def _fit(image: Image.Image) -> np.ndarray:
    """Crop to what is visible, scale so that the longer side fills :data:`SIZE`, centre -> uint8 [SIZE, SIZE, 4]."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        raise ValueError("the sprite is fully transparent")
    image = image.crop(box)
    # Premultiplied, so that the colour of transparent pixels cannot bleed into the edge.
    scale = SIZE / max(image.size)
    size = tuple(max(1, round(edge * scale)) for edge in image.size)
    image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS)
    canvas = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    top, left = (SIZE - size[1]) // 2, (SIZE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = np.asarray(image)
    # The resampling filter overshoots at edges: a premultiplied colour may not exceed alpha.
    np.minimum(canvas[..., :3], canvas[..., 3:], out=canvas[..., :3])
    return canvas


def _pack(files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    return {name: _fit(Image.open(io.BytesIO(content))) for name, content in files.items()}


def load_folder(folder: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read sprites (webp or png with alpha) of a folder -> ``{file name: uint8 [128, 128, 4], premultiplied RGBA}``."""
    paths = sorted(folder.iterdir()) if names is None else [folder / name for name in names]
    return _pack({path.name: path.read_bytes() for path in paths if path.suffix in (".webp", ".png")})


def load(path: Path | str = DEFAULT_PACK) -> dict[str, np.ndarray]:
    """Read a sprite pack written by ``fetch``, or a folder of sprite images.

    Returns:
        ``{file name: uint8 array [128, 128, 4]}``, RGBA with colours premultiplied by alpha.

    Raises:
        FileNotFoundError: there is no such pack; the message tells how to fetch it.
    """
    path = Path(path)
    in_checkout = Path(__file__).resolve().parents[2] / path
    if not path.exists() and in_checkout.exists():  # a relative path, and started from another folder
        path = in_checkout
    if path.is_dir():
        return load_folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no sprites at {path}: run `python -m ovseg.nano.sprites fetch --out {path}` first, or set OVSEG_DATA"
        )
    with np.load(path, allow_pickle=False) as pack:
        return dict(zip(pack["names"].tolist(), pack["sprites"], strict=True))


def save(sprites: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a sprite pack that :func:`load` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, names=np.array(list(sprites)), sprites=np.stack(list(sprites.values())))


def noto(name: str, font: Path = NOTO_FONT) -> np.ndarray | None:
    """The Noto glyph of the code points that sprite file ``name`` has -> uint8 [128, 128, 4], or None without one."""
    text = "".join(chr(int(code, 16)) for code in Path(name).stem.split("-"))
    # 109 is the only size that the bitmap font holds.
    face = ImageFont.truetype(str(font), 109)
    image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((30, 30), text, font=face, embedded_color=True)
    return None if image.getbbox() is None else _fit(image)


def fetch(out: Path = DEFAULT_PACK) -> int:
    """Download the sprites of all concepts with ``npm pack`` and pack them; returns how many there are."""
    wanted = {f"package/assets/{name}": name for concept in concepts() for name in concept.sprites}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", NPM_PACKAGE, "--pack-destination", folder], check=True)
        (archive,) = Path(folder).glob("*.tgz")
        files = {}
        # Members are read into memory by name and never extracted: a path in the archive cannot reach the disk.
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name in wanted:
                    files[wanted[member.name]] = tar.extractfile(member).read()
    missing = sorted(set(wanted.values()) - files.keys())
    if missing:
        raise FileNotFoundError(f"{NPM_PACKAGE} lacks {len(missing)} sprites, among them {', '.join(missing[:5])}")
    save(_pack(files), out)
    return len(files)


def main() -> None:
    """Command line: ``python -m ovseg.nano.sprites fetch [--out PACK]``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", choices=["fetch"])
    parser.add_argument("--out", type=Path, default=DEFAULT_PACK)
    args = parser.parse_args()
    print(f"{fetch(args.out)} sprites in {args.out}")


if __name__ == "__main__":
    main()
