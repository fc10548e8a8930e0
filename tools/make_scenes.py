"""Draw the mini benchmark ``scenes``: images with true masks, byte for byte the same each time.

    python -m ovseg.nano.sprites fetch
    python tools/make_scenes.py --out data/scenes

Two splits with the same words: ``scenes`` (Fluent sprites, the ones nano was trained on, in new compositions) and
``scenes_noto`` (the same words drawn by other artists, never trained on). ``manifest.sha256`` lists every file.
"""

import argparse
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.nano import sprites as sprite_files
from ovseg.nano.compose import Scene, SpriteBook, jitter, paste
from ovseg.nano.dataset import class_names
from ovseg.nano.textures import BACKGROUNDS, texture

#: (height, width) in pixels.
SIZES = ((224, 224), (256, 320), (320, 240), (336, 336), (288, 384))
#: Seeds far from those of training (0, below 10 million for textures) and of its validation scenes.
SEEDS = {"scenes": 1_000_000_007, "scenes_noto": 2_000_000_011}
COUNTS = {"scenes": 240, "scenes_noto": 212}
#: Sprites per scene; longer side of a sprite in pixels, at most this share of the image's shorter side.
ITEMS = (3, 7)
EDGE = (60, 176)
MAX_SHARE = 0.6
#: A sprite may hide at most this share of another one.
MAX_HIDDEN = 0.35


def _in_turn(rng: np.random.Generator, count: int) -> Iterator[int]:
    """Indices below ``count``, in a new random order each round: every class occurs equally often."""
    while True:
        yield from rng.permutation(count).tolist()


def draw_scene(rng: np.random.Generator, scene: Scene, book: SpriteBook, items: list[int]) -> list[int]:
    """Paste ``items`` where they hide little of each other, in place; returns those that found room."""
    height, width = scene.mask.shape
    largest = min(EDGE[1], MAX_SHARE * min(height, width))
    placed: list[int] = []
    areas: list[int] = []
    for index in items:
        for _ in range(40):
            edge = np.exp(rng.uniform(*np.log([EDGE[0], largest])))
            margin = 0.35 * edge
            centre = (rng.uniform(margin, height - margin), rng.uniform(margin, width - margin))
            sprite = book.draw(rng, index, edge)
            sprite = jitter(rng, sprite, 0.05)
            trial = Scene(scene.image.copy(), scene.mask.copy())
            paste(trial, len(placed), sprite, centre, edge, rng.normal(0, 10), bool(rng.random() < 0.5))
            counts = np.bincount(trial.mask.ravel(), minlength=len(placed) + 2)[1:]
            if counts[-1] > 0 and all(c >= (1 - MAX_HIDDEN) * a for c, a in zip(counts, areas, strict=False)):
                scene.image[:], scene.mask[:] = trial.image, trial.mask
                areas.append(int(counts[-1]))
                placed.append(index)
                break
    return placed


def draw_split(split: str, sprites: Mapping[str, np.ndarray], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (uint8 ``[h, w, 3]`` RGB) and masks (uint8 ``[h, w]``, lines of ``classes.txt`` from 0) of a split."""
    words = class_names()
    book = SpriteBook(sprites, [c for c in sprite_files.concepts() if c.benchmark])
    if not book.words:
        raise ValueError(f"none of the benchmark's words has a sprite among the {len(sprites)} given")
    seed = SEEDS[split]
    rng = np.random.default_rng(seed)
    turn, backgrounds = _in_turn(rng, len(book.words)), _in_turn(rng, len(BACKGROUNDS))
    left_over: list[int] = []
    for i in range(count):
        size = SIZES[i % len(SIZES)]
        background = BACKGROUNDS[next(backgrounds)]
        scene = Scene(texture(background, seed + i, size), np.zeros(size, dtype=np.uint8))
        wanted = int(rng.integers(ITEMS[0], ITEMS[1] + 1))
        items = left_over[:wanted]
        while len(items) < wanted:
            items.append(next(turn))
        placed = draw_scene(rng, scene, book, items)
        # What found no room comes first in the next scene.
        left_over = [index for index in items if index not in placed] + left_over[wanted:]
        names = [background, *(book.words[index] for index in placed)]
        lookup = np.array([words.index(name) for name in names], dtype=np.uint8)
        yield scene.image, lookup[scene.mask]


def write_split(folder: Path, split: str, sprites: Mapping[str, np.ndarray], count: int) -> None:
    """Write ``images/NNNN.jpg`` and ``masks/NNNN.png`` of a split."""
    for kind in ("images", "masks"):
        (folder / split / kind).mkdir(parents=True, exist_ok=True)
    for i, (image, mask) in enumerate(draw_split(split, sprites, count)):
        Image.fromarray(image).save(folder / split / "images" / f"{i:04d}.jpg", quality=88)
        Image.fromarray(mask).save(folder / split / "masks" / f"{i:04d}.png", optimize=True)


def manifest(folder: Path) -> str:
    """Lines ``sha256  path`` of all images, masks and the class file below ``folder``."""
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix in (".jpg", ".png") or p.name == "classes.txt"]
    return "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in paths)


def noto_sprites(draw: Callable[[str], np.ndarray | None] = sprite_files.noto) -> dict[str, np.ndarray]:
    """The Noto glyphs of the benchmark's words, for those that have one."""
    names = [name for c in sprite_files.concepts() if c.benchmark for name in c.sprites]
    glyphs = {name: draw(name) for name in names}
    return {name: glyph for name, glyph in glyphs.items() if glyph is not None}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/scenes"))
    parser.add_argument("--sprites", type=Path, default=sprite_files.DEFAULT_PACK, help="sprite pack or folder")
    parser.add_argument("--splits", nargs="+", choices=list(SEEDS), default=list(SEEDS))
    parser.add_argument("--count", type=int, help="scenes per split (default: 240 and 212)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "classes.txt").write_text("\n".join(class_names()) + "\n", encoding="utf-8")
    for split in args.splits:
        sprites = noto_sprites() if split == "scenes_noto" else sprite_files.load(args.sprites)
        write_split(args.out, split, sprites, args.count or COUNTS[split])
    (args.out / "manifest.sha256").write_text(manifest(args.out), encoding="utf-8")


if __name__ == "__main__":
    main()
