"""Time to embed a vocabulary: one class at a time over the full context, against ours cold and cached.

    OMP_NUM_THREADS=1 python tools/bench_text.py [--vocabulary voc21] [--checkpoint ViT-B-16.pt]

Every repeat times a few names the plain way, then ours, so that other work on the machine disturbs both alike; the
table gives medians over the repeats, and ratios are taken within a repeat, from the process's CPU time: with one
thread it is the wall time of a quiet machine. Without a checkpoint the weights are random: the times are the same.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.content import content_sha256
from ovseg.text import Templates, TextEncoder, Vocabulary, get_templates
from ovseg.text.encoder import text_weights


def plain(clip: nn.Module, tokenizer: Callable, templates: Templates, query: str) -> Tensor:
    """One name the plain way: all its prompts, padded to the full context, through ``encode_text``."""
    with torch.no_grad():
        embeddings = clip.encode_text(tokenizer(templates.prompts(query)))
    return F.normalize(F.normalize(embeddings, dim=-1).mean(0), dim=-1)


def timed(function: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """(Wall seconds, CPU seconds) and result of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def one_repeat(
    args: argparse.Namespace, clip: nn.Module, tokenizer: Callable, part: int
) -> Iterator[tuple[str, float, float, float]]:
    """Label, wall seconds, CPU seconds and largest deviation from the plain way of each row of the table."""
    vocabulary, templates = Vocabulary.from_file(args.vocabulary), get_templates(args.templates)
    names = args.names or len(vocabulary.queries)
    scale = len(vocabulary.queries) / names
    index = [(part * names + i) % len(vocabulary.queries) for i in range(names)]
    (wall, cpu), expected = timed(
        lambda: torch.stack([plain(clip, tokenizer, templates, vocabulary.queries[i]) for i in index])
    )
    yield "one class at a time, full context", wall * scale, cpu * scale, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for label, dtype in (
            ("ours, cold", None),
            ("ours, cached", None),
            ("ours, cold, bfloat16", torch.bfloat16),
            ("ours, cached, bfloat16", torch.bfloat16),
        ):
            # a new encoder each time; the loader knows the weights' hash, as in `load_clip(...).sha256`
            encoder = TextEncoder(clip, tokenizer, templates, cache_dir=folder, dtype=dtype)
            (wall, cpu), found = timed(lambda encoder=encoder: encoder.encode(vocabulary))
            yield label, wall, cpu, float((found[index] - expected).abs().max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocabulary", default="voc21", help="packaged name or path (default: voc21)")
    parser.add_argument("--templates", default="openai_80")
    parser.add_argument("--checkpoint", help="OpenAI ViT-B/16 file; random weights without")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--names",
        type=int,
        default=4,
        help="names timed the plain way in each repeat, scaled up to all; 0: all of them",
    )
    args = parser.parse_args()
    if args.checkpoint:
        from ovseg.weights import load_clip

        loaded = load_clip("openai/ViT-B-16", args.checkpoint)
        clip, tokenizer = loaded.model, loaded.tokenizer
    else:
        clip = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None).eval()
        tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for repeat in range(args.repeats):
        reference = None
        for label, wall, cpu, deviation in one_repeat(args, clip, tokenizer, repeat):
            reference = reference or cpu
            rows.setdefault(label, []).append((wall, cpu, reference / cpu, deviation))
    vocabulary = Vocabulary.from_file(args.vocabulary)
    timed_names = min(args.names or len(vocabulary.queries), len(vocabulary.queries))
    print(
        f"{args.vocabulary}: {len(vocabulary)} classes, {len(vocabulary.queries)} names, templates {args.templates}, "
        f"ViT-B/16, {torch.get_num_threads()} thread(s), median of {args.repeats} repeats; "
        f"the first row is scaled up from {timed_names} names a repeat"
    )
    _, hashing = timed(lambda: content_sha256(text_weights(clip)))[0]
    print(f"hashing the weights, where their hash is not known: {hashing:.2f} CPU seconds\n")
    print("| | wall seconds | CPU seconds | faster | largest deviation |\n|---|---|---|---|---|")
    for label, values in rows.items():
        wall, cpu, ratio = (statistics.median(column) for column in list(zip(*values, strict=True))[:3])
        print(f"| {label} | {wall:.4g} | {cpu:.4g} | {ratio:.1f} x | {max(v[3] for v in values):.1e} |")


if __name__ == "__main__":
    main()
