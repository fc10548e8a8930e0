"""nano-photo's training, from a tiny copy of the layouts that it reads."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image

from ovseg.nano.photo_pretrain import PhotoClipPretrainer, Words
from ovseg.nano.photo_scenes import LABEL_BOOST, PhotoComposer, PhotoFeatures, crop, stack_features, teacher_targets
from ovseg.nano.photo_sources import LabelledPhotos, caption_vocabulary, caption_words, captioned_photos, content_hash
from ovseg.nano.teacher import ARCH, Teacher, load_teacher
from ovseg.nano.wordnet import ancestors, read_names, read_nouns, write_names

ROOT = Path(__file__).parents[2]
WNIDS = ("n02123045", "n02279972", "n02814533", "n04146614")  # tabby, monarch, beach wagon, school bus
TINY = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {
            "stem": ARCH,
            "image_size": 64,
            "patch_size": 16,
            "width": 64,
            "layers": 2,
            "head_width": 32,
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
}


def write_labelled(folder: Path, part: str, size: int) -> None:
    rng, chunks = np.random.default_rng(size), []
    for _ in range(8):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (size, size + 8, 3), dtype=np.uint8)).save(buffer, "JPEG")
        chunks.append(buffer.getvalue())
    folder.mkdir()
    (folder / f"{part}.jpegs.bin").write_bytes(b"".join(chunks))
    offsets = np.cumsum([0, *map(len, chunks)])
    np.savez(folder / f"{part}.index.npz", offsets=offsets, labels=np.arange(8) % len(WNIDS))
    rows = [f"{i}\t{wnid}\tname {i}\n" for i, wnid in enumerate(WNIDS)]
    (folder / "classes.tsv").write_text("".join(rows))


def write_mini(folder: Path, seed: int, masks: bool, labels: str = "") -> None:
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    for i in range(3):
        pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{seed}{i}.png")
        if masks:
            (folder / "masks").mkdir(exist_ok=True)
            mask = np.zeros((80, 96), dtype=np.uint8)
            mask[:, 40:] = 1 + i % 2
            mask[0, 0] = 3  # one pixel: not in the caption
            Image.fromarray(mask).save(folder / "masks" / f"{seed}{i}.png")
    (folder / "labels.tsv").write_text(labels)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photos in the layouts of ../shared/data, one of them both captioned and measured on."""
    root = tmp_path_factory.mktemp("photos")
    write_labelled(root / "imagenet_samples", "all", 90)
    write_labelled(root / "photos64", "train", 64)
    mini = root / "real_mini"
    write_mini(mini / "coco_stuff", 1, True, "0\tsky-other\n1\tperson\n2\tbus\n3\tdog\n255\tIGNORE (unlabeled)\n")
    write_mini(mini / "ade20k", 2, True, "0\tIGNORE (other)\n1\twall\n2\tplant, flora\n3\tsky\n")
    write_mini(mini / "coco100", 3, False)
    write_mini(mini / "voc2012", 4, False)
    Image.open(mini / "coco_stuff/images/11.png").save(mini / "coco100/images/copy.bmp")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A random teacher under the names of efficientnet-lite-pytorch (here: any others), in the same order."""
    torch.manual_seed(0)
    state = timm.create_model(ARCH, pretrained=False).state_dict()
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save({f"_{i}": tensor for i, tensor in enumerate(state.values())}, path)
    return str(path)


def test_wordnets_format_is_read_and_names_are_ordered_from_near_to_far(tmp_path):
    (tmp_path / "data.noun").write_text(
        "  1 a line of the licence\n"
        "00000001 03 n 01 entity 0 000 | all there is\n"
        "00000002 06 n 02 motor_vehicle 0 car 1 001 @ 00000001 n 0000 | it moves\n"
        '00000003 06 n 01 beach_wagon 0 002 @ 00000002 n 0000 ~ 00000001 n 0000 | a long car; "a | b"\n'
    )
    synsets = read_nouns(tmp_path / "data.noun")
    assert synsets["00000002"] == (["motor vehicle", "car"], ["00000001"])
    assert ancestors(synsets, "00000003") == ["00000002", "00000001"], "a hyponym (~) is no ancestor"
    (tmp_path / "classes.tsv").write_text("0\tn00000003\twhatever\n")
    assert write_names(tmp_path / "data.noun", tmp_path / "classes.tsv", tmp_path / "out.tsv") == 4
    (tmp_path / "hand.tsv").write_text("# by hand\nauto|wagon\t0\n")
    names = read_names(tmp_path / "out.tsv", tmp_path / "hand.tsv")[0]
    assert names.own == ("beach wagon",) and names.wider[:2] == ("motor vehicle", "car")
    assert names.ordinary == ("auto", "wagon")


def test_the_shipped_names_know_every_class_at_every_level():
    names = read_names()
    assert len(names) == 1000 and all(n.own for n in names)
    assert {"airplane", "aeroplane", "aircraft", "vehicle"} <= {*names[404].wider} and names[404].own == ("airliner",)
    assert "artifact" not in names[404].wider, "too general to tell anything"
    assert "person" in names[982].ordinary and "cow" in names[345].ordinary
    notice = (ROOT / "ovseg/nano/imagenet_names.tsv").read_text(encoding="utf-8").split("\n0\t")[0]
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice and "AS IS" in notice


def test_captions_name_what_covers_enough_and_no_measured_photo_is_among_them(root):
    mini = root / "real_mini"
    measured = {content_hash(path) for path in (mini / "coco100" / "images").iterdir()}
    photos = captioned_photos(mini / "coco_stuff", measured)
    assert [photo.path.stem for photo in photos] == ["10", "12"], "the same pixels in another file are left out"
    assert photos[0].words == (("sky", "blue sky"), ("person", "man", "woman", "people", "human"))
    assert caption_words("wall-brick") == ("wall",) and caption_words("metal") == ()
    assert caption_words("building, edifice") == ("building", "buildings")
    assert ("dog",) in caption_vocabulary([mini / "coco_stuff"])


def test_classes_of_labelled_photos_are_imagenets(root):
    photos = LabelledPhotos(root / "photos64", "train")
    assert photos.classes.tolist() == [281, 323, 436, 779] * 2
    assert photos.image(3).shape == (64, 72, 3)


def test_crop_has_the_size_asked_for_and_stays_inside():
    rng = np.random.default_rng(0)
    photo = np.full((50, 90, 3), 7, dtype=np.uint8)
    for size in ((32, 32), (64, 20), (10, 80)):
        part = crop(rng, photo, size, 0.5, 1.5)
        assert part.shape == (*size, 3) and (part == 7).all()


@pytest.fixture(scope="module")
def composer(root):
    mini = root / "real_mini"
    return PhotoComposer(
        LabelledPhotos(root / "imagenet_samples", "all"),
        LabelledPhotos(root / "photos64", "train"),
        captioned_photos(mini / "coco_stuff", ()),
        size=64,
    )


def test_a_canvas_is_a_function_of_its_number_and_its_cells_know_their_photo(composer):
    kinds = set()
    for i in range(40):
        canvas, again = composer.draw(i), composer.draw(i)
        np.testing.assert_array_equal(canvas.image, again.image)
        assert canvas.image.shape == (64, 64, 3) and canvas.owner.shape == (4, 4)
        owners = set(np.unique(canvas.owner)) - {255}
        assert owners <= set(range(len(canvas.classes)))
        assert bool(canvas.caption) == (255 in canvas.owner) or (canvas.classes and canvas.caption)
        kinds.add((min(len(canvas.classes), 2), bool(canvas.caption)))
    assert {(1, False), (1, True), (2, False), (0, True)} <= kinds


def test_targets_trust_the_label_where_there_is_one():
    logits = torch.zeros(2, 2, 1000)
    logits[..., 5] = 4.0
    owner = torch.tensor([[0, 0], [255, 255]], dtype=torch.uint8)
    classes, probability = teacher_targets(logits, owner, [9])
    p = logits[0, 0].softmax(0)
    expected = p[9] * LABEL_BOOST / (1 + p[9] * (LABEL_BOOST - 1))
    labelled, free = classes[0].tolist(), classes[2].tolist()
    assert labelled[:2] == [5, 9] and free[0] == 5
    torch.testing.assert_close(probability[0, 1], expected)
    torch.testing.assert_close(probability[2, 0], p[5])


def test_teachers_cells_are_its_classifier_on_its_last_map(teacher):
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    fine, coarse, logits = Teacher(teacher)(images)
    model = load_teacher(teacher)
    expected = model.forward_features((images / 255 - 0.5) / 0.5)
    assert fine.shape == (1, 112, 4, 4) and logits.shape == (1, 4, 4, 1000)
    assert (coarse - expected).abs().mean() < 0.02 < expected.std(), "bfloat16"
    at_cells = F.interpolate(
        model.classifier(coarse.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), scale_factor=2, mode="bilinear"
    )
    torch.testing.assert_close(logits.permute(0, 3, 1, 2), at_cells, atol=1e-4, rtol=1e-4)
    # the mean over the cells is what the network says of the image
    torch.testing.assert_close(
        model.classifier(expected.mean(dim=(2, 3))), model((images / 255 - 0.5) / 0.5), atol=1e-4, rtol=1e-4
    )


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="EfficientNet-Lite0 of 1,000 classes"):
        load_teacher(tmp_path / "other.pth")


@pytest.fixture(scope="module")
def features(root, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return PhotoFeatures(str(root), str(folder), teacher, canvases=20, size=64, held_out=["10"], held_out_samples=3)


def test_features_are_kept_and_gone_on_with(features, root, teacher):
    whole = {name: np.load(features.folder / f"{name}.npy") for name in ("fine", "coarse", "classes", "probability")}
    known = features.folder / "canvases.jsonl"
    lines = known.read_text().splitlines()
    assert len(lines) == 20 and len(features) == 4_000_000
    item = features[23]
    np.testing.assert_array_equal(item["coarse"], whole["coarse"][3])
    assert item["labels"] == json.loads(lines[3])["classes"]
    # interrupted after the first batch: the rest is computed again, the same
    known.write_text("\n".join(lines[:16]) + "\n")
    np.lib.format.open_memmap(features.folder / "fine.npy", "r+")[16:] = 0
    PhotoFeatures(str(root), str(features.folder), teacher, canvases=20, size=64, held_out=["10"])
    np.testing.assert_allclose(np.load(features.folder / "fine.npy"), whole["fine"], atol=0.05)
    with pytest.raises(ValueError, match="other settings"):
        PhotoFeatures(str(root), str(features.folder), teacher, canvases=20, size=64, seed=1)


@pytest.fixture(scope="module")
def model(root, teacher, tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "clip.json"
    config.write_text(json.dumps(TINY))
    torch.manual_seed(0)
    return PhotoClipPretrainer(str(config), str(root), teacher, keep=1.0, dropout=0.0, autocast=False)


def test_training_sees_the_patches_that_the_tower_sees(model, features, teacher):
    """The enlargement as a matrix, all cells kept: the tokens of the real tower in another order."""
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    patches = model.clip.visual.conv1
    with torch.no_grad():
        fine, coarse = patches.features((images / 255 - 0.5) / 0.5)
        join = patches.join
        torch.nn.init.normal_(join.weight, std=0.02)
        torch.nn.init.normal_(join.bias, std=0.02)
        model.eval()
        token, *_ = model.encode_features(fine, coarse)
        torch.testing.assert_close(token, model.clip.encode_image((images / 255 - 0.5) / 0.5), atol=1e-3, rtol=1e-3)


def test_the_stem_stays_as_it_is_and_the_losses_fall(model, features):
    model.train()
    stem = {name: tensor.clone() for name, tensor in model.clip.visual.conv1.stem.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    totals = []
    for _ in range(8):
        model._rng = np.random.default_rng(0)  # the same words each time
        losses = model(**stack_features([features[i] for i in range(16)]))
        assert {"loss_cells", "loss_residual", "loss_token", "loss_slot", "loss_phrase", "loss_patch"} <= losses.keys()
        total = sum(value for name, value in losses.items() if name.startswith("loss"))
        assert total.isfinite()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]
    for name, tensor in model.clip.visual.conv1.stem.state_dict().items():
        torch.testing.assert_close(tensor, stem[name], rtol=0, atol=0)


def test_rare_words_stop_competing_at_their_step(root, teacher, features, tmp_path):
    """What fewer than four captions name competes up to that step; the number of steps is saved with the weights."""
    config = tmp_path / "clip.json"
    config.write_text(json.dumps(TINY))
    torch.manual_seed(0)
    model = PhotoClipPretrainer(str(config), str(root), teacher, keep=1.0, autocast=False, rare_from=2)
    named = model.competing[1] & ~model.competing[4]
    assert named.any() and not (model.competing[4] & ~model.competing[1]).any()
    used, original = [], model._dense
    model._dense = lambda value, texts, *rest: used.append(len(texts)) or original(value, texts, *rest)
    batch = stack_features([features[i] for i in range(16)])
    for _ in range(3):
        model._rng = np.random.default_rng(0)  # the same words each time
        model(**batch)
    assert used[0] == used[1] > used[2]
    assert model.state_dict()["steps"] == 3


def test_words_of_a_step_name_the_batch(root):
    words = Words([("sky", "blue sky"), ("zebra crossing",)])
    drawn = words.draw(np.random.default_rng(0), [404], {"zebra crossing"}).tolist()
    assert any(words.classes[404, i] for i in drawn) and words.index["zebra crossing"] in drawn
    assert len(drawn) == len(set(drawn)) < 400


def test_captions_overrule_the_teacher(model):
    """A dog is what captions would name: where the caption has none, the teacher's dogs count a twentieth."""
    classes = torch.tensor([[[207, 404]]])
    probability = torch.tensor([[[0.8, 0.2]]])
    model.vocabulary.nameable[404] = False
    kept = model._agreed(classes, probability, [[]], [[["sky", "blue sky"]]])
    torch.testing.assert_close(kept, torch.tensor([[[0.04, 0.2]]]))
    kept = model._agreed(classes, probability, [[]], [[["dog"]]])
    torch.testing.assert_close(kept, probability)
    kept = model._agreed(classes, probability, [[207]], [[["sky", "blue sky"]]])
    torch.testing.assert_close(kept, probability)
    torch.testing.assert_close(model._agreed(classes, probability, [[]], [[]]), probability)


def test_photos_are_what_their_manifest_says():
    folder = ROOT / "data" / "photos"
    listed = {}
    for line in (folder / "manifest.sha256").read_text().splitlines():
        digest, name = line.split("  ")
        listed[name] = digest
    files = {p.relative_to(folder).as_posix(): p for part in ("images", "masks") for p in (folder / part).iterdir()}
    assert listed.keys() == files.keys() and len(listed) == 52
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name
    licences = [line.split("\t") for line in (folder / "licences.tsv").read_text().splitlines()[1:]]
    assert {f"images/{row[0]}" for row in licences} == {name for name in files if name.startswith("images/")}
    assert {row[1] for row in licences} == {"CC BY 2.0", "CC BY-SA 2.0"}
    assert all(row[4].startswith("https://www.flickr.com/photo.gne?id=") for row in licences)
