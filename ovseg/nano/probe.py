"""A small validation set and the four ways of reading patches, to watch a training. Not the benchmark."""

import csv
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from ovseg.nano import sprites as sprite_files
from ovseg.nano.compose import Scene, SpriteBook
from ovseg.nano.dataset import SceneStyle, scatter
from ovseg.nano.pretrain import _MEAN, _STD, encode_text, value_path
from ovseg.nano.textures import BACKGROUNDS, texture
from ovseg.registry import HOOKS

TEMPLATES = ("a photo of a {}.", "a {} in a scene.", "a picture of the {}.", "{}")
METHODS = ("clip", "maskclip", "value", "qq", "kk", "naclip")


def validation_scenes(
    sprites: dict[str, np.ndarray], count: int, size: tuple[int, int] = (224, 224), seed: int = 555_000_000
) -> tuple[list[str], list[tuple[np.ndarray, np.ndarray]]]:
    """Scenes of benchmark words with masks of class indices: ``(words, [(image uint8 [h, w, 3], mask [h, w])])``."""
    book = SpriteBook(sprites, [c for c in sprite_files.concepts() if c.benchmark])
    words = [*book.words, *BACKGROUNDS]
    order = np.random.default_rng(seed).permutation(len(book.words))
    style = SceneStyle(edge=(60, 150), items=(3, 6), colour=0.0, margin=-0.1)
    scenes = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        background = int(rng.integers(len(BACKGROUNDS)))
        scene = Scene(texture(BACKGROUNDS[background], seed + i, size), np.zeros(size, dtype=np.uint8))
        items = [int(order[(i * 5 + j) % len(order)]) for j in range(5)]
        scatter(rng, scene, book, items, style)
        scenes.append((scene.image, np.array([len(book.words) + background, *items], dtype=np.uint8)[scene.mask]))
    return words, scenes


def last_block(visual: nn.Module, x: Tensor, method: str, grid: tuple[int, int]) -> Tensor:
    """Patch embeddings ``[b, n, d]`` from the tokens that enter the last block, by the named method."""
    block = visual.transformer.resblocks[-1]
    if method == "clip":
        z = block(x)
    elif method in ("value", "maskclip"):
        z = value_path(visual, x)
        if method == "maskclip":
            z = x + z
            z = z + block.mlp(block.ln_2(z))
    else:
        attn = block.attn
        qkv = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        s = k if method in ("kk", "naclip") else q
        logits = s @ s.transpose(-1, -2) * s.shape[-1] ** -0.5
        if method == "naclip":
            cells = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).float()
            logits[..., 1:, 1:] += torch.exp(-torch.cdist(cells, cells).square() / 50)
        z = attn.out_proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return visual.ln_post(z[:, 1:]) @ visual.proj


def tokens(visual: nn.Module, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Tokens that enter the last block, for uint8 images ``[b, 3, h, w]`` of any size divisible by the patch."""
    mean, std = (torch.tensor(t).view(3, 1, 1) * 255 for t in (_MEAN, _STD))
    x = visual.conv1((images - mean) / std)
    grid = x.shape[-2:]
    place = visual.positional_embedding
    side = visual.grid_size
    patches = place[1:].T.reshape(1, -1, *side)
    if tuple(grid) != tuple(side):
        patches = F.interpolate(patches, size=tuple(grid), mode="bicubic", align_corners=False)
    x = x.flatten(2).mT + patches.flatten(2).mT
    token = (visual.class_embedding + place[0]).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([token, x], dim=1))
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    return x, tuple(grid)


def word_embeddings(clip: nn.Module, words: list[str]) -> Tensor:
    """Unit embeddings ``[words, d]``, mean over a few templates."""
    each = [F.normalize(encode_text(clip, [t.format(w) for w in words]), dim=-1) for t in TEMPLATES]
    return F.normalize(torch.stack(each).mean(dim=0), dim=-1)


def mean_iou(confusion: Tensor) -> float:
    """mIoU in percent over the classes that occur, from an int64 confusion matrix ``[true, predicted]``."""
    hit = confusion.diag()
    union = confusion.sum(0) + confusion.sum(1) - hit
    present = confusion.sum(1) > 0
    return float((hit[present] / union[present]).mean() * 100)


@torch.no_grad()
def evaluate(clip: nn.Module, words: list[str], scenes: list, methods: tuple[str, ...] = METHODS) -> dict[str, float]:
    """mIoU in percent per method, whole images in one pass."""
    texts = word_embeddings(clip, words)
    confusion = {m: torch.zeros(len(words), len(words), dtype=torch.int64) for m in methods}
    for start in range(0, len(scenes), 8):
        batch = scenes[start : start + 8]
        x, grid = tokens(clip.visual, torch.from_numpy(np.stack([s[0] for s in batch])).permute(0, 3, 1, 2))
        truth = torch.from_numpy(np.stack([s[1] for s in batch])).long()
        for method in methods:
            scores = F.normalize(last_block(clip.visual, x, method, grid), dim=-1) @ texts.T
            scores = scores.mT.unflatten(-1, grid)
            # Half the resolution is enough to compare methods.
            size = [edge // 2 for edge in truth.shape[1:]]
            labels = F.interpolate(scores, size=size, mode="bilinear", align_corners=False).argmax(dim=1)
            pairs = truth[:, ::2, ::2].flatten() * len(words) + labels.flatten()
            confusion[method] += pairs.bincount(minlength=len(words) ** 2).view_as(confusion[method])
    return {m: mean_iou(c) for m, c in confusion.items()}


@HOOKS.register_module()
class ProbeHook(Hook):
    """Every ``interval`` iterations: mIoU of the averaged weights on validation scenes, appended to ``probe.csv``.

    Args:
        sprites: sprite pack or folder.
        interval: iterations between two probes.
        count: number of scenes.
    """

    priority = "LOW"

    def __init__(self, sprites: str = str(sprite_files.DEFAULT_PACK), interval: int = 500, count: int = 64) -> None:
        self.interval = interval
        self.words, self.scenes = validation_scenes(sprite_files.load(sprites), count)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Figures in percent of the model that is trained, with averaged weights where there are some."""
        return evaluate(model.clip, self.words, self.scenes)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Probe when due."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        averaged = [hook.ema_model.module for hook in runner.hooks if hasattr(hook, "ema_model")]
        model = averaged[0] if averaged else runner.model
        model.eval()
        result = self.measure(model)
        model.train()
        row = {"iteration": runner.iter + 1}
        row |= {name: round(runner.message_hub.get_scalar(f"train/{name}").mean(200), 4) for name in ("loss", "time")}
        row |= {name: round(value, 2) for name, value in result.items()}
        path = Path(runner.work_dir) / "probe.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        runner.logger.info("probe " + "  ".join(f"{k} {v}" for k, v in row.items()))
