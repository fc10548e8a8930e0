"""Training of a small SAM: prompts and masks of scenes, losses, start from a CLIP, export and loading."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from ovseg.nano.export import export
from ovseg.nano.sam_dataset import SceneMasks, _majority, stack_prompts
from ovseg.nano.sam_pretrain import (
    SamPretrainer,
    affinity_loss,
    balanced_loss,
    correction,
    dice_loss,
    focal_loss,
    mask_iou,
    prompt_losses,
    start_from_clip,
)
from ovseg.nano.sam_probe import evaluate_masks, middle
from ovseg.weights import catalogue, get_card, load_clip, load_sam
from ovseg.weights.sam_model import build_sam
from tests.nano.conftest import FIXTURES

TINY = dict(
    image_size=64,
    patch_size=16,
    width=48,
    depth=2,
    heads=2,
    window_size=2,
    global_blocks=[1],
    dim=32,
    decoder_depth=1,
    decoder_heads=2,
    decoder_mlp=32,
    iou_hidden=16,
    mask_channels=8,
    mean=[0.5, 0.5, 0.5],
    std=[0.25, 0.25, 0.25],
)


def scenes(**kwargs) -> SceneMasks:
    style = dict(edge=(30, 60), items=(2, 4))
    settings = dict(image_size=64, crop=(80, 96), size=96, points=3, boxes=2, style=style, seed=5)
    return SceneMasks(**{"sprites": str(FIXTURES), **settings, **kwargs})


@pytest.fixture
def sizes(tmp_path):
    path = tmp_path / "sam.json"
    path.write_text(json.dumps(TINY))
    return path


# ------------------------------------------------------------------------------------------------ data
def test_prompts_lie_where_their_masks_are():
    data = scenes(group_share=0.0)
    for index in range(12):
        item = data[index]
        h, w = item["size"]
        assert item["inputs"].shape == (3, 64, 64) and max(h, w) == 64 and item["targets"].shape == (5, 16, 16)
        assert not item["inputs"][:, h:].any() and not item["inputs"][:, :, w:].any()
        for target, (x, y) in zip(item["targets"][:3], item["points"], strict=True):
            assert target[int(y) // 4, int(x) // 4] > 0
        for target, (x0, y0, x1, y1) in zip(item["targets"][3:], item["boxes"], strict=True):
            rows, columns = np.flatnonzero(target.any(1)) * 4, np.flatnonzero(target.any(0)) * 4
            found = [columns[0], rows[0], columns[-1] + 4, rows[-1] + 4]
            # a cell of four pixels, and a corner moved by at most 64 * 20 / 1024 pixels
            assert np.abs(np.subtract([x0, y0, x1, y1], found)).max() <= 4 + 64 * 20 / 1024


def test_items_are_repeatable_and_the_scenes_do_not_depend_on_what_is_asked():
    first, again, more = scenes()[3], scenes()[3], scenes(points=1, boxes=0)[3]
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert np.array_equal(first["inputs"], more["inputs"]) and more["boxes"].shape == (0, 4)
    assert not np.array_equal(first["inputs"], scenes(seed=6)[3]["inputs"])


def test_a_group_contains_the_object_that_was_pointed_at():
    alone, together = scenes(group_share=0.0), scenes(group_share=1.0)
    larger = 0
    for index in range(20):
        a, b = alone[index]["targets"][:3].astype(int), together[index]["targets"][:3].astype(int)
        assert (b >= a).all()
        larger += int((b > a).any())
    assert larger > 3


def test_the_background_is_an_object_where_it_counts():
    with_it, without = scenes(background_share=1.0, points=8), scenes(background_share=0.0, points=8)
    covered = [(data[1]["targets"] > 127).any(0).mean() for data in (with_it, without)]
    assert covered[0] > covered[1]


def test_a_crop_must_fit_into_the_scene():
    with pytest.raises(ValueError, match="raise size"):
        scenes(crop=(80, 128))


# ---------------------------------------------------------------------------------------------- losses
def test_losses_by_hand():
    logits, target = torch.tensor([[0.3, -1.2], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    t = target.double().numpy()
    right = np.where(t == 1, p, 1 - p)
    focal = (np.where(t == 1, 0.25, 0.75) * (1 - right) ** 2 * -np.log(right)).mean()
    assert float(focal_loss(logits, target)) == pytest.approx(focal, rel=1e-5)
    assert float(dice_loss(logits, target)) == pytest.approx(1 - (2 * (p * t).sum() + 1) / (p.sum() + 2 + 1), rel=1e-5)
    balanced = (-np.log(right)[t == 1].sum() / 3 - np.log(right)[t == 0].sum() / 3) / 2
    assert float(balanced_loss(logits, target)) == pytest.approx(balanced, rel=1e-5)
    assert float(mask_iou(logits, target)) == 1.0 and float(mask_iou(-logits, target)) == 0.0


def test_only_the_best_of_three_masks_learns():
    logits = torch.zeros(1, 4, 4, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, 2, :2] = 3.0
    targets = torch.zeros(1, 1, 4, 4)
    targets[0, 0, :2] = 1
    losses = prompt_losses(logits, torch.zeros(1, 4), targets, alone=1)
    (losses["cells"] + losses["dice"]).backward()
    touched = logits.grad.flatten(2).abs().sum(2)[0] > 0
    assert touched.tolist() == [True, False, True, False]  # the single mask and the second of the three
    assert float(losses["iou"]) > 0


def test_corrections_lie_where_the_mask_is_wrong():
    targets = torch.zeros(2, 1, 16, 16)
    targets[:, 0, 4:8, 4:8] = 1
    logits = torch.where(targets > 0, 1.0, -1.0)
    logits[0, 0, 5, 6] = -1.0  # missed
    logits[1, 0, 12, 3] = 1.0  # too much
    points, labels = correction(logits, targets)
    assert (points // 4).tolist() == [[6, 5], [3, 12]] and labels.tolist() == [1.0, 0.0]
    assert correction(targets - 0.5, targets)[0].isfinite().all()  # nothing wrong: anywhere


def test_affinity_by_hand_every_object_weighs_the_same():
    torch.manual_seed(0)
    ids, features = torch.tensor([0, 0, 0, 2, 2, 5, -1]), torch.randn(7, 4, dtype=torch.float64)
    unit = torch.nn.functional.normalize(features, dim=-1)
    logits = 10 * (unit @ unit.T - 0.5)
    blocks = {(a, b): logits[ids == a][:, ids == b] for a in (0, 2, 5) for b in (0, 2, 5)}
    inside = np.mean([-block.sigmoid().log().mean() for (a, b), block in blocks.items() if a == b])
    between = np.mean([-(-block).sigmoid().log().mean() for (a, b), block in blocks.items() if a != b])
    assert float(affinity_loss(features, ids)) == pytest.approx((inside + between) / 2, rel=1e-6)
    batch = affinity_loss(features.expand(2, 3, 7, 4), torch.stack([ids, torch.zeros(7, dtype=ids.dtype)])[:, None])
    alone = affinity_loss(features, torch.zeros(7, dtype=ids.dtype))  # one object: no pairs between objects
    assert float(batch) == pytest.approx((float(affinity_loss(features, ids)) + float(alone)) / 2, rel=1e-6)


def test_cells_are_named_by_their_majority():
    item = scenes()[2]
    h, w = (-(-int(side) // 16) for side in item["size"])
    assert item["ids"].shape == (4, 4) and item["ids"].dtype == np.int64
    assert (item["ids"][h:] == -1).all() and (item["ids"][:, w:] == -1).all() and (item["ids"][:h, :w] >= 0).any()
    half = np.zeros((32, 32), np.uint8)
    half[:16, :8], half[:16, 8:16], half[:9, 16:] = 1, 2, 3
    assert _majority(half, (32, 32), 16).tolist() == [[-1, 3], [0, 0]]


# ------------------------------------------------------------------------------------------- the model
@torch.no_grad()
def test_values_of_the_last_block_come_along_and_no_hook_stays(sizes):
    model = SamPretrainer(str(sizes), init=None, autocast=False).eval()
    batch = stack_prompts([scenes()[2]])
    embedding, values = model.encode_with_values(batch["inputs"], batch["size"])
    torch.testing.assert_close(embedding, model.encode_image(batch["inputs"], batch["size"]))
    encoder = model.sam.image_encoder
    assert values.shape == (1, 4, 4, encoder.blocks[-1].attn.num_heads, TINY["width"] // TINY["heads"])
    assert not any(module._forward_hooks for module in model.modules())
    block, seen = encoder.blocks[-1], []
    handle = block.norm1.register_forward_hook(lambda module, args, out: seen.append(out))
    model.encode_image(batch["inputs"], batch["size"])
    handle.remove()
    weight, bias = block.attn.qkv.weight.chunk(3)[2], block.attn.qkv.bias.chunk(3)[2]
    torch.testing.assert_close(values.flatten(3), torch.nn.functional.linear(seen[0], weight, bias))


def test_training_lowers_the_loss(sizes):
    torch.manual_seed(0)
    model = SamPretrainer(str(sizes), init=None, rounds=2, affinity=1.0, autocast=False).train()
    data = scenes()
    batch = stack_prompts([data[i] for i in range(2)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(25):
        out = model(**batch)
        loss = sum(value for name, value in out.items() if name.startswith("loss_"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert np.isfinite(history).all() and np.mean(history[-5:]) < 0.8 * np.mean(history[:3])
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused, unused
    with pytest.raises(ValueError, match="mode must be 'loss'"):
        model(**batch, mode="predict")


@torch.no_grad()
def test_training_sees_and_prompts_as_segment_anything_does(sizes):
    torch.manual_seed(0)
    model = SamPretrainer(str(sizes), init=None, autocast=False).eval()
    item = scenes(permute_share=0.0)[2]
    h, w = item["size"]
    batch = stack_prompts([item])
    ours = model.encode_image(batch["inputs"], batch["size"])
    theirs = model.sam.image_encoder(model.sam.preprocess(batch["inputs"][:, :, :h, :w].float()))
    torch.testing.assert_close(ours, theirs)
    points, boxes = batch["points"][0, :2], batch["boxes"][0, :2]
    more, labels = torch.tensor([[[5.0, 6.0]]] * 4), torch.zeros(4, 1)
    masks = torch.randn(4, 1, 16, 16)
    sparse = model._sparse(points, boxes, more, labels)
    logits, quality = model.decode(ours.expand(4, -1, -1, -1), sparse, masks)
    encoder = model.sam.prompt_encoder
    for some, prompt in (
        (slice(0, 2), ((torch.cat([points[:, None], more[:2]], 1), torch.tensor([[1.0, 0.0]] * 2)), None)),
        (slice(2, 4), ((more[2:], labels[2:]), boxes)),
    ):
        s, d = encoder(*prompt, masks[some])
        for multimask, which in ((True, slice(1, 4)), (False, slice(0, 1))):
            want, iou = model.sam.mask_decoder(theirs, encoder.get_dense_pe(), s, d, multimask)
            torch.testing.assert_close(logits[some, which], want, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(quality[some, which], iou, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_encoder_starts_as_nanos_image_tower():
    shape = dict(TINY, image_size=128, width=192, depth=6, heads=3, window_size=7, global_blocks=[5])
    sam, visual = build_sam(shape), load_clip("nano").model.visual
    start_from_clip(sam.image_encoder)
    block, source = sam.image_encoder.blocks[2], visual.transformer.resblocks[2]
    x = torch.randn(1, 7, 7, 192)
    assert torch.allclose(block(x).flatten(1, 2), source(x.flatten(1, 2)), atol=1e-2)  # LayerNorm's epsilon differs
    assert torch.equal(sam.image_encoder.pos_embed[0, 7, 0], sam.image_encoder.pos_embed[0, 0, 0])
    with pytest.raises(ValueError, match="set the SAM's sizes"):
        start_from_clip(build_sam(TINY).image_encoder)


@torch.no_grad()
def test_an_easy_start_has_one_round_and_is_not_repeated_after_a_resume(sizes):
    model = SamPretrainer(str(sizes), init=None, rounds=2, easy_steps=1, single_steps=1, autocast=False)
    data = scenes()
    batch = stack_prompts([data[0]])
    rounds = []
    model.decode = lambda *args, decode=model.decode: (rounds.append(len(rounds)), decode(*args))[1]
    model(**batch)
    assert len(rounds) == 1
    model(**batch)
    assert len(rounds) == 3
    again = SamPretrainer(str(sizes), init=None, rounds=2, easy_steps=1, single_steps=1)
    again.load_state_dict(model.state_dict())
    assert int(again.steps) == 2


@torch.no_grad()
def test_an_untrained_decoder_looks_near_the_point(sizes):
    torch.manual_seed(0)
    sam = SamPretrainer(str(sizes), init=None).sam
    encoder, attention = sam.prompt_encoder, sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    places = encoder.get_dense_pe().flatten(2).mT
    point = encoder.pe_layer.forward_with_coords(torch.tensor([[[40.0, 24.0]]]), (64, 64))
    q, k = (attention._separate_heads(t, 2) for t in (attention.q_proj(point), attention.k_proj(places)))
    looked = (q @ k.mT).mean(1)[0, 0].argmax()
    assert divmod(int(looked), 4) in ((1, 2), (1, 1))  # the cell of the point or the one it borders on


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="not a multiple of patch_size"):
        build_sam(dict(TINY, image_size=60))


# ------------------------------------------------------------------------------------------- from here on
def test_exported_weights_run_in_segment_anythings_own_classes(sizes, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = SamPretrainer(str(sizes), init=None)
    paths = [tmp_path / "1.pth", tmp_path / "2.pth"]
    for path in paths:
        torch.save({"state_dict": model.state_dict()}, path)
    export(paths, sizes.with_suffix(".safetensors"), part="sam")
    card = replace(get_card("nano_sam"), name="tiny_sam", packaged=sizes.with_suffix(""))
    monkeypatch.setitem(catalogue(), "tiny_sam", card)
    loaded = load_sam("tiny_sam")
    for name, value in loaded.model.state_dict().items():
        torch.testing.assert_close(value, model.sam.state_dict()[name], atol=1e-3, rtol=1e-3)
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    predictor = SamPredictor(loaded.model)
    predictor.set_image(image)
    masks, _, low = predictor.predict(np.array([[30, 20]]), np.array([1]))
    assert masks.shape == (3, 50, 70) and low.shape == (3, 16, 16)
    generator = SamAutomaticMaskGenerator(loaded.model, 2, pred_iou_thresh=-9, stability_score_thresh=-9)
    assert all(record["segmentation"].shape == (50, 70) for record in generator.generate(image))


def test_shipped_sam_finds_what_it_is_pointed_at(sprites):
    card = get_card("nano_sam")
    if not card.packaged.with_suffix(".safetensors").is_file():
        pytest.skip("the SAM's weights are not in this checkout")
    assert card.packaged.with_suffix(".safetensors").stat().st_size <= 15_000_000
    from ovseg.nano.probe import validation_scenes

    words, found = validation_scenes(sprites, 4, (256, 320), seed=778_000_000)
    result = evaluate_masks(load_sam("nano_sam").model, found, len(words) - 8)
    assert result["single"] > 35 and result["oracle"] >= result["point"]  # the card says 53 for the single mask


def test_the_middle_is_far_from_the_edge():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 4:] = True
    assert middle(mask) == (6, 4)
