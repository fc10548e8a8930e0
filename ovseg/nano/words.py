"""The word lists beside nano's and nano-photo's weights: ``python -m ovseg.nano.words [--photos ../shared/data]``."""

import argparse
from pathlib import Path

from ovseg.nano import sprites as sprite_files
from ovseg.nano.assets import ASSETS
from ovseg.nano.textures import BACKGROUNDS
from ovseg.text import Vocabulary
from ovseg.weights.words import write_words


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder with real_mini: nano-photo's list is written as well")
    args = parser.parse_args()
    words = [*(concept.word for concept in sprite_files.concepts()), *BACKGROUNDS]
    write_words(ASSETS / "nano" / "clip.safetensors", words, "Words of nano's training captions.")
    if args.photos:
        from ovseg.nano.photo_pretrain import Words
        from ovseg.nano.photo_sources import caption_vocabulary

        folders = [args.photos / "real_mini" / name for name in ("coco_stuff", "ade20k")]
        background = Vocabulary.from_file("voc21_photo", background=0).classes[0]
        comment = "Words of nano-photo's training; most are WordNet's (its notice: ovseg/nano/imagenet_names.tsv)."
        weights = ASSETS / "nano_photo" / "clip.safetensors"
        write_words(weights, Words(caption_vocabulary(folders)).words, comment, background)


if __name__ == "__main__":
    main()
