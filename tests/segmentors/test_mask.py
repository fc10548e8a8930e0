"""FC-CLIP, MAFT+ and OVSeg with small parts: words, batches, training, panoptic results, region encoder."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ovseg.backbones.mask_prompts import crop_of, encode_masked, patches_with_mask
from ovseg.datasets.nouns import FILL, NounCrop
from ovseg.errors import NotFinite
from ovseg.out_of_memory import OutOfMemory
from ovseg.photo import Photo
from ovseg.regions import MaskPromptedCrop
from ovseg.registry import MODELS
from ovseg.segmentors.mask import NO_SEGMENT
from ovseg.weights import CheckpointError, LoadedClip, get_card
from tests.small_models import small_clip, small_convnext_clip

pytest.importorskip("transformers", reason="mask transformers need transformers (extra 'trained')")
WORDS = [("cat", "kitten"), ("dog",), ("grass", "lawn", "turf")]
SWIN = dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)


@pytest.fixture
def build(monkeypatch):
    init_default_scope("ovseg")

    def load(name, checkpoint=None):
        clip = small_convnext_clip() if "convnext" in name else small_clip()
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        card = get_card("fcclip/convnext_large" if "convnext" in name else "openai/ViT-B-16")
        return LoadedClip(clip, mean, std, card, "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)
    monkeypatch.setattr("ovseg.backbones.convnext.load_clip", load)

    def make(decoder, backbone="convnext", **settings):
        torch.manual_seed(0)
        kind = "ConvNextClip" if backbone == "convnext" else "ClipBackbone"
        model = dict(
            type="MaskSegmentor",
            backbone=dict(type=kind, weights=backbone),
            decoder=decoder,
            vocabulary=dict(names=[list(names) for names in WORDS]),
            templates="plain",
            text_cache=False,
            **settings,
        )
        return MODELS.build(model).eval()

    return make


def fcclip(**settings):
    return dict(type="FcClipDecoder", queries=6, decoder_layers=2, trained_classes=["kitten", "lawn"], **settings)


def maft(**settings):
    return dict(type="MaftPlusDecoder", queries=6, decoder_layers=2, heads=2, **settings)


def ovseg(**settings):
    return dict(type="OvSegDecoder", swin=SWIN, queries=5, batch=2, **settings)


def picture(height, width, seed=0):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


DECODERS = [(fcclip, "convnext"), (maft, "convnext"), (ovseg, "vit")]


@pytest.mark.parametrize(("decoder", "backbone"), DECODERS, ids=["fcclip", "maft_plus", "ovseg"])
def test_a_photo_gets_labels_whatever_is_in_the_batch(build, decoder, backbone):
    model = build(decoder(), backbone)
    photos = [model.prepare(picture(50, 70, 1), (90, 130)), model.prepare(picture(64, 40, 2), (64, 40))]
    both = model.predict(photos)
    assert [tuple(labels.shape) for labels in both] == [(90, 130), (64, 40)]
    assert all(int(labels.max()) < 3 for labels in both)
    (alone,) = model.predict(photos[1:])
    assert torch.equal(both[1], alone)
    assert "framing" in model.describe()


@pytest.mark.parametrize(("decoder", "backbone"), DECODERS, ids=["fcclip", "maft_plus", "ovseg"])
def test_scores_are_masks_times_class_probabilities(build, decoder, backbone):
    model = build(decoder(), backbone)
    photo, wording = model.prepare(picture(50, 70), (75, 105)), model.wording()
    (encoded,) = model.encode([photo])
    with torch.no_grad():
        prediction = model.predict_masks(encoded, wording)
    scores = model.score_map(encoded, wording)
    masks = F.interpolate(prediction.maps, size=(64, 96), mode="bilinear")[:, :, :50, :70].sigmoid()
    plain = torch.einsum("qc,qhw->chw", prediction.classes[0], masks[0])
    plain = F.interpolate(plain[None], size=(75, 105), mode="bilinear")[0]
    torch.testing.assert_close(scores.block(), plain, atol=1e-5, rtol=1e-4)
    assert torch.equal(model.label(scores, photo, wording).long(), scores.block().argmax(0))


def test_masks_that_are_no_numbers_are_named(build):
    model = build(fcclip())
    photo = model.prepare(picture(50, 70), (75, 105))
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(torch.nan)
    for use in (model.predict, model.instances, lambda photos: model.panoptic(photos, ["cat"])):
        with pytest.raises(NotFinite, match=r"a photo of 105 x 75 pixels .* values in decoder\."):
            use([photo])


def test_a_photo_that_does_not_fit_into_memory_is_named(build, monkeypatch):
    model = build(fcclip())

    def full(images):
        raise MemoryError

    monkeypatch.setattr(model, "_features", full)
    with pytest.raises(OutOfMemory, match="a photo of 105 x 75 pixels"):
        model.predict([model.prepare(picture(50, 70), (75, 105))])


def test_a_class_is_seen_if_one_of_its_names_is(build):
    model = build(fcclip())
    assert model.decoder.seen(model.vocabulary).tolist() == [True, False, True]
    assert build(fcclip() | dict(trained_classes=())).decoder.seen(model.vocabulary).tolist() == [False] * 3


def test_the_best_name_of_a_class_counts(build):
    model = build(fcclip(alpha=0.0, beta=0.0))
    photo = model.prepare(picture(64, 64), (64, 64))
    encoded = model.encode([photo])[0]
    with torch.no_grad():
        inside = model.predict_masks(encoded, model.wording()).extras["class_logits"][0]
        words = torch.cat([model.text, F.normalize(model.decoder.void_embedding.weight, dim=-1)])
        products = encoded.features["inside"][0] @ words.T
    wanted = torch.stack([products[:, :2].amax(1), products[:, 2], products[:, 3:6].amax(1), products[:, 6]], 1)
    torch.testing.assert_close(inside, wanted)


def test_panoptic_segments_share_the_photo_out(build):
    model = build(fcclip())
    photo = model.prepare(picture(64, 96), (64, 96), original=picture(64, 96))
    (result,) = model.panoptic([photo], things=["cat", "dog"], overlap=0.0)
    assert result.names == ("cat", "dog", "grass", NO_SEGMENT)
    for number in np.unique(result.regions):
        classes = np.unique(result.labels[result.regions == number])
        assert len(classes) == 1 and (classes[0] == 3) == (number == 0)
    stuff = [n for n in np.unique(result.regions) if n and result.labels[result.regions == n][0] == 2]
    assert len(stuff) <= 1, "stuff of one class is one segment"
    for found in model.instances([photo], things=["cat"])[0]:
        assert found.name == "cat" and found.mask.any() and 0 < found.confidence <= 1
    with pytest.raises(ValueError, match="bird"):
        model.panoptic([photo], things=["bird"])


def _losses(model, ignore=255):
    images = [picture(64, 96, seed) for seed in (1, 2)]
    samples = []
    for seed in (3, 4):
        labels = torch.randint(0, 3, (8, 12), generator=torch.Generator().manual_seed(seed)).float()
        labels = F.interpolate(labels[None, None], scale_factor=8, mode="nearest")[0].int()
        labels[:, :8] = ignore
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels)))
    return model(images, samples, mode="loss")


def test_fcclips_training_leaves_clip_alone(build):
    model = build(fcclip(), loss=dict(type="MaskSetLoss", points=64), trained=["decoder.*"]).train()
    losses = _losses(model)
    assert {"loss_class", "loss_mask", "loss_dice", "loss_class_1"} <= set(losses)
    sum(losses.values()).backward()
    without = [n for n, p in model.decoder.named_parameters() if p.grad is None]
    assert not without, without
    assert all(p.grad is None for p in model.backbone.parameters())


def test_every_word_in_a_step_is_the_step_of_all_words(build):
    settings = dict(loss=dict(type="MaskSetLoss", points=64), trained=["decoder.*"])

    def losses(**more):
        model = build(fcclip(), **settings, **more).train()
        torch.manual_seed(1)
        return _losses(model)

    every, some = losses(), losses(words_per_step=len(WORDS))
    assert {name: float(value.detach()) for name, value in every.items()} == {
        name: float(value.detach()) for name, value in some.items()
    }
    assert torch.isfinite(sum(losses(words_per_step=2).values()))


def test_maft_plus_trains_clip_through_its_own_losses_only(build):
    trained = ["decoder.*", "backbone.clip.visual.trunk.st*"]
    model = build(
        maft(),
        loss=dict(type="MaskAwareLoss", points=64),
        trained=trained,
        teacher=dict(type="ConvNextClip", weights="convnext"),
    ).train()
    losses = _losses(model)
    trunk = [p for n, p in model.backbone.clip.visual.trunk.named_parameters() if n.startswith("stages.3.blocks.0.mlp")]
    masks = sum(
        v for k, v in losses.items() if k.startswith(("loss_class", "loss_mask", "loss_dice")) and "aware" not in k
    )
    assert all(g is None for g in torch.autograd.grad(masks, trunk, retain_graph=True, allow_unused=True))
    (gradient, *_) = torch.autograd.grad(losses["loss_mask_aware"], trunk, retain_graph=True)
    assert gradient.abs().sum() > 0
    assert float(losses["loss_compensation"].detach()) == 0, "student and teacher are the same at the start"
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert not model.teacher.training


def test_training_images_keep_their_size(build):
    model = build(fcclip(), loss=dict(type="MaskSetLoss", points=64), trained=["decoder.*"]).train()
    with pytest.raises(ValueError, match="64 x 90 px would become 64 x 96"):
        model([picture(64, 90)], [None], mode="tensor")


def test_a_decoder_says_which_clip_it_needs(build):
    with pytest.raises(Exception, match="ConvNextClip"):
        build(fcclip(), "vit")
    with pytest.raises(Exception, match="ViT"):
        build(ovseg(), "convnext")
    with pytest.raises(Exception, match="alpha is 2"):
        build(fcclip(alpha=2))


# ------------------------------------------------------------------------------------------------- masked crops
def test_prompts_stand_where_no_pixel_is(build):
    model = build(ovseg(), "vit")
    tower = model.backbone.tower
    crops = torch.randn(2, 3, 64, 64)
    prompts = torch.randn(2, 16, tower.width)
    everything = torch.ones(2, 16)
    with torch.no_grad():
        whole = encode_masked(tower, crops, everything, prompts)
        torch.testing.assert_close(whole, model.backbone.clip.encode_image(crops), atol=1e-4, rtol=1e-4)
        kept = everything.clone()
        kept[:, 5] = 0
        one, other = encode_masked(tower, crops, kept, prompts), crops.clone()
        other[:, :, 16:32, 16:32] = 9.0  # the patch that is hidden
        torch.testing.assert_close(encode_masked(tower, other, kept, prompts), one)
    assert (one - whole).abs().max() > 1e-3
    with pytest.raises(ValueError, match="mask prompts"):
        encode_masked(tower, crops, everything, prompts[:, :9])


def test_a_patch_with_one_pixel_is_kept():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 17, 3] = True
    assert patches_with_mask(mask, 16).tolist() == [[0, 0, 1, 0]]


def test_a_crop_is_the_masks_box_on_the_mean_colour():
    image, mask = torch.ones(3, 20, 30), torch.zeros(20, 30, dtype=torch.bool)
    mask[4:12, 6:22] = True
    mask[4:8, 6:14] = False
    crop, region = crop_of(image, mask, 16)
    assert region.sum() == 16 * 16 * 3 / 4 and region[:8, :8].sum() == 0
    assert crop[:, :5, :5].abs().max() < 1e-6 and (crop[:, 11:, 11:] - 1).abs().max() < 1e-6


def test_clip_alone_leaves_masks_without_a_pixel_out(build):
    model = build(ovseg(ensemble=1.0, threshold=1.0), "vit")
    photo = model.prepare(picture(64, 64), (64, 64))
    encoded = model.encode([photo])[0]
    assert not encoded.features["valid"].any()
    with torch.no_grad():
        assert model.predict_masks(encoded, model.wording()).classes.abs().max() == 0
        model.decoder.ensemble = 0.7
        assert model.predict_masks(encoded, model.wording()).classes.min() > 0


def test_the_region_encoder_is_ovsegs_look_at_a_mask(build, tmp_path):
    model = build(ovseg(), "vit")
    file = tmp_path / "ovseg.pt"
    key = "clip_adapter.clip_model.visual.mask_embedding"
    torch.save({"model": {key: model.decoder.mask_embedding.data, "x": torch.zeros(1)}}, file)
    encoder = MaskPromptedCrop(checkpoint=file, batch=2)
    original = picture(40, 60)
    mask = np.zeros((3, 40, 60), bool)
    mask[0, 3:30, 8:50], mask[1, 20:22, 1:59], mask[2] = True, True, True
    photo = Photo(model.backbone.normalise(original), (40, 60), original)
    with torch.no_grad():
        found = encoder(photo, mask, type("Encoder", (), {"backbone": model.backbone}))
        crops, regions = zip(*(crop_of(photo.image, torch.from_numpy(m), 64) for m in mask), strict=True)
        wanted = model.decoder.encode_crops(torch.stack(crops), torch.stack(regions), model.backbone)
    torch.testing.assert_close(found, F.normalize(wanted, dim=-1), atol=1e-5, rtol=1e-4)
    torch.save({"model": {"x": torch.zeros(1)}}, file)
    with pytest.raises(CheckpointError, match="mask prompts"):
        MaskPromptedCrop(checkpoint=file)


def test_mask_prompts_are_tuned_and_nothing_else(build):
    build(ovseg(), "vit")  # the small CLIP in place
    trainer = MODELS.build(dict(type="MaskAdaptationTrainer", backbone=dict(type="ClipBackbone", weights="vit")))
    crop = NounCrop(["cat", "dog"], size=64)
    labels = np.full((50, 60), 255, np.uint8)
    labels[10:40, 5:30], labels[:8] = 1, 0
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    samples = [crop.transform(dict(image=image, labels=labels, ignore_index=255)) for _ in range(4)]
    assert {sample["captions"] for sample in samples} <= {"cat", "dog"}
    inputs, captions = [s["inputs"] for s in samples], [s["captions"] for s in samples]
    inputs[0][:, :32] = torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1)
    losses = trainer.train()(inputs, captions)
    losses["loss_contrastive"].backward()
    changed = sorted(n for n, p in trainer.named_parameters() if p.grad is not None)
    assert changed == ["backbone.clip.logit_scale", "mask_embedding"]
    assert trainer.mask_embedding.grad.abs().sum() > 0
