"""What the Python API costs, in CPU seconds: the first result of a fresh process, and many vocabularies on one photo.

python tools/bench_api.py first            # a fresh process, step by step
python tools/bench_api.py words --method naclip --vocabularies 20
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings

# Each step in a process that has done nothing before; CPU seconds, so that a busy machine counts little.
STEPS = """
import time
last = time.process_time()
def step(name):
    global last
    now = time.process_time()
    print(f"{name}\\t{now - last:.2f}", flush=True)
    last = now
import ovseg; step("import ovseg")
import torch; step("import torch")
import torchvision; step("import torchvision (brings torch._dynamo)")
import open_clip; step("import open_clip, timm")
import mmengine.runner; step("import mmengine")
import ovseg.apis; step("import the rest of ovseg")
model = ovseg.load("naclip", weights="nano"); step("load nano")
model.set_vocabulary(["cat", "sofa", "grass"]); step("embed three new words")
import numpy
photo = numpy.random.default_rng(0).integers(0, 255, (375, 500, 3), numpy.uint8)
model.segment(photo); step("first photo, 500 x 375")
model.segment(photo); step("second photo")
"""


def first() -> None:
    """Print the steps of a fresh process, with an empty text cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "OVSEG_CACHE": cache}
        done = subprocess.run(
            [sys.executable, "-c", STEPS], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    print("| step | CPU seconds |\n|---|---|")
    for name, seconds in [*rows[:-1], ("all of it", f"{sum(float(s) for _, s in rows[:-1]):.2f}"), rows[-1]]:
        print(f"| {name} | {seconds} |")


def words(method: str, vocabularies: int, classes: int) -> None:
    """Print ``encode`` once and ``segment`` of many vocabularies, against as many ``segment`` of the photo."""
    import numpy as np

    import ovseg

    warnings.filterwarnings("ignore", message=".*has not learned")  # the words are no words
    image = np.random.default_rng(0).integers(0, 255, (375, 500, 3), np.uint8)
    names = [[f"thing {v} {c}" for c in range(classes)] for v in range(vocabularies)]

    def again(model: ovseg.Segmenter) -> list[np.ndarray]:
        found = []
        for some in names:
            model.set_vocabulary(some)
            found.append(model.segment(image).labels)
        return found

    def once(model: ovseg.Segmenter) -> list[np.ndarray]:
        encoded = model.encode(image)
        return [encoded.segment(some).labels for some in names]

    print("| words | segment | encode once | ratio |\n|---|---|---|---|")
    for title, rounds in (("new to the text cache", 1), ("in the text cache", 2)):
        seconds, labels = [], []
        for work in (again, once):
            with tempfile.TemporaryDirectory() as cache:
                os.environ["OVSEG_CACHE"] = cache
                model = ovseg.load(method, weights="nano")
                model.set_vocabulary(["warm"])
                model.segment(image)
                for _ in range(rounds):
                    start = time.process_time()
                    found = work(model)
                    spent = time.process_time() - start
                seconds.append(spent)
                labels.append(found)
        if not all(np.array_equal(a, b) for a, b in zip(*labels, strict=True)):
            raise SystemExit("labels differ")
        print(f"| {title} | {seconds[0]:.2f} s | {seconds[1]:.2f} s | {seconds[0] / seconds[1]:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("first")
    many = kinds.add_parser("words")
    many.add_argument("--method", default="naclip")
    many.add_argument("--vocabularies", type=int, default=20)
    many.add_argument("--classes", type=int, default=20)
    options = parser.parse_args()
    if options.kind == "first":
        first()
    else:
        words(options.method, options.vocabularies, options.classes)


if __name__ == "__main__":
    main()
