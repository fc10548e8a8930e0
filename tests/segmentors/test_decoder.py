"""The segmentor of trained decoders: its modes, what trains, what does not depend on the batch."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from ovseg import Segmenter
from ovseg.decoders import Decoder, Prediction
from ovseg.errors import NotFinite
from ovseg.out_of_memory import OutOfMemory
from ovseg.registry import DECODERS, MODELS
from ovseg.weights import LoadedClip, get_card
from tests.small_models import small_clip

WORDS = ["cat", "dog", "grass"]


@DECODERS.register_module()
class CosineDecoder(Decoder):
    """Cosines of projected tokens with the words: the smallest decoder there is."""

    needs_inputs = (1,)

    def __init__(self, tower, weights=None, checkpoint=None):
        super().__init__(tower)
        self.project = nn.Linear(tower.width, tower.embed_dim)
        self.load(weights, checkpoint)

    def encode(self, context):
        tokens = context.inputs[1][:, context.num_prefix :] + context.x[:, context.num_prefix :]
        return {"grid": self.project(tokens).transpose(1, 2).unflatten(2, context.grid)}

    def forward(self, features, text):
        dense = F.normalize(features["grid"], dim=1)
        return Prediction(4 * torch.einsum("bdhw,qd->bqhw", dense, text))


@pytest.fixture
def build(monkeypatch):
    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)

    def make(**settings):
        torch.manual_seed(0)
        split = settings.pop("split", False)
        return MODELS.build(
            dict(
                type="DecoderSegmentor",
                backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", split_projections=split),
                decoder=dict(type="CosineDecoder"),
                vocabulary=WORDS,
                templates="plain",
                text_cache=False,
                **{"loss": dict(type="BinaryMapLoss"), **settings},
            )
        )

    return make


def photos(*sizes):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]


def samples(sizes, labels=None):
    found = []
    for i, size in enumerate(sizes):
        sample = SegDataSample(metainfo=dict(ori_shape=size))
        if labels is not None:
            sample.gt_sem_seg = PixelData(data=labels[i][None].int())
        found.append(sample)
    return found


def test_labels_are_the_largest_map_and_do_not_depend_on_the_batch(build):
    model = build().eval()
    sizes = [(70, 90), (64, 64), (50, 130)]
    inputs = photos(*sizes)
    together = model(inputs, samples(sizes), mode="predict")
    for image, size, sample in zip(inputs, sizes, together, strict=True):
        alone = model([image], samples([size]), mode="predict")[0].pred_sem_seg.data
        assert torch.equal(alone, sample.pred_sem_seg.data) and alone.shape == (1, *size)
        (scores,) = model.score([model.prepare(image, size)])
        assert torch.equal(scores.block().argmax(0).int(), alone[0])


def test_only_what_the_patterns_name_trains(build):
    model = build(trained=["decoder.*", "backbone.clip.*.attn.[qv]_proj_weight"], split=True)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    blocks = [f"visual.transformer.resblocks.{i}" for i in range(3)] + [f"transformer.resblocks.{i}" for i in range(2)]
    expected = {f"backbone.clip.{b}.attn.{p}_proj_weight" for b in blocks for p in "qv"}
    assert names == expected | {"decoder.project.weight", "decoder.project.bias"}
    labels = torch.randint(0, 3, (2, 64, 64), generator=torch.Generator().manual_seed(5))
    labels[:, :8] = 255
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    inputs, sizes = photos((64, 64), (64, 64)), [(64, 64)] * 2
    totals = []
    for _ in range(5):
        losses = model(inputs, samples(sizes, labels), mode="loss")
        optimiser.zero_grad()
        losses["loss_maps"].backward()
        optimiser.step()
        totals.append(float(losses["loss_maps"].detach()))
    assert totals[-1] < totals[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    still = {n for n in expected if "visual.transformer.resblocks.2" in n}  # this decoder skips CLIP's last block
    assert names - still <= moved <= names


def test_words_are_followed_when_the_text_tower_has_trained(build):
    model = build(trained=["backbone.clip.transformer.*.v_proj_weight"], split=True).eval()
    before = model.wording().queries.text.clone()
    with torch.no_grad():
        model.backbone.clip.transformer.resblocks[0].attn.v_proj_weight.mul_(1.5)
    assert not torch.allclose(before, model.wording().queries.text)
    torch.testing.assert_close(model.training_text(), model.wording().queries.text)


def test_words_of_training_may_be_others(build):
    model = build(training_vocabulary=WORDS[:2])
    assert model(photos((64, 64)), mode="tensor").maps.shape == (1, 2, 4, 4)
    assert len(model.vocabulary) == 3


def test_a_pattern_without_a_parameter_is_refused(build):
    with pytest.raises(ValueError, match=r"'decoders\.\*' matches no parameter"):
        build(trained=["decoders.*"])


def test_a_mode_or_loss_that_is_not_there_is_named(build):
    model = build()
    with pytest.raises(ValueError, match="mode 'train'"):
        model(photos((64, 64)), mode="train")
    model.criterion = None
    with pytest.raises(ValueError, match=r"set model\.loss"):
        model(photos((64, 64)), samples([(64, 64)]), mode="loss")


def test_facts_travel_with_a_result(build):
    facts = build().describe()
    assert facts["decoder"].startswith("CosineDecoder(") and facts["framing"].startswith("WholePhoto(")


def test_a_segmenter_runs_it(build, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(
        'model = dict(type="DecoderSegmentor", backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),\n'
        '    decoder=dict(type="CosineDecoder"), templates="plain", text_cache=False)\n'
        "test_pipeline = [dict(type='LoadImage'), dict(type='ResizeShortestEdge', short_side=64, max_long=200),\n"
        "    dict(type='PackInputs')]\n"
    )
    torch.manual_seed(0)
    segmenter = Segmenter(config=file, device="cpu")
    segmenter.set_vocabulary(WORDS)
    photo = photos((70, 90))[0].permute(1, 2, 0).numpy()
    result = segmenter.segment(photo, top=2, confidence=True)
    assert result.labels.shape == (70, 90) and (result.top_classes[0] == result.labels).all()
    assert result.confidence.min() >= 0 and result.confidence.max() <= 1
    again = segmenter.encode(photo).segment(WORDS)
    assert (again.labels == result.labels).all()


def test_a_photo_that_does_not_fit_into_memory_and_weights_that_are_no_numbers_are_named(build, monkeypatch):
    model = build().eval()
    photo = model.prepare(photos((64, 80))[0], (64, 80))
    with monkeypatch.context() as patch:
        patch.setattr(model, "features", lambda frames: torch.empty(1 << 60, dtype=torch.uint8))
        with pytest.raises(OutOfMemory, match="a photo of 80 x 64 pixels"):
            model.predict([photo])
    with torch.no_grad():
        model.decoder.project.bias[0] = torch.nan
    with pytest.raises(NotFinite, match="decoder.project.bias"):
        model.predict([photo])


def test_scores_of_seen_words_are_lowered(build):
    image = photos((64, 64))
    plain = build(training_vocabulary=WORDS, unseen=["grass"])
    lowered = build(training_vocabulary=WORDS, unseen=["grass"], lower_seen=0.1)
    before, after = (model.score([model.prepare(image[0], (64, 64))])[0].block() for model in (plain, lowered))
    expected = before - torch.tensor([0.1, 0.1, 0.0])[:, None, None]
    torch.testing.assert_close(after, expected)
    # in other words the names decide, in any order, and a synonym is enough
    words = [("zebra",), ("pup", "dog")]
    got = [
        model.score_map(model.encode([model.prepare(image[0], (64, 64))])[0], model.wording(words))
        for model in (plain, lowered)
    ]
    torch.testing.assert_close(got[1].block(), got[0].block() - torch.tensor([0.0, 0.1, 0.1])[:, None, None])
    assert lowered.describe()["lower_seen"] == 0.1 and "lower_seen" not in plain.describe()


def test_labels_of_unseen_words_teach_nothing(build):
    """Other labels where the unseen word is give the same losses; its text gets no gradient and no comparison."""
    image = photos((64, 64), (64, 64))
    labels = [torch.randint(0, 3, (64, 64), generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    hidden = [each.masked_fill(each == 1, 255) for each in labels]
    model = build(training_vocabulary=WORDS, unseen=["dog"], loss=dict(type="FocalDiceLoss"), trained=["decoder.*"])
    sizes = [(64, 64)] * 2
    losses = [model.train()(image, samples(sizes, each), mode="loss") for each in (labels, hidden)]
    assert losses[0].keys() == losses[1].keys()
    for name in losses[0]:
        torch.testing.assert_close(losses[0][name], losses[1][name])
    two = [torch.where(each == 2, 1, each) for each in hidden]
    alone = build(training_vocabulary=["cat", "grass"], loss=dict(type="FocalDiceLoss"), trained=["decoder.*"])
    for name, value in alone.train()(image, samples(sizes, two), mode="loss").items():
        torch.testing.assert_close(losses[0][name], value)


def test_self_training_labels_what_is_unknown(build):
    image, sizes = photos((64, 64)), [(64, 64)]
    labels = torch.full((64, 64), 255)
    labels[:32] = 0
    model = build(
        training_vocabulary=WORDS, unseen=["dog", "grass"], loss=dict(type="FocalDiceLoss"), trained=["decoder.*"]
    )
    model.train().self_training = True
    maps = model.decode(image).maps
    guess = F.interpolate(maps[:, 1:], size=(64, 64), mode="bilinear", align_corners=False).argmax(1)[0] + 1
    expected = model.criterion(model.decode(image), torch.where(labels == 255, guess, labels)[None], 255)
    got = model(image, samples(sizes, [labels]), mode="loss")
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value)


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(training_vocabulary=WORDS, unseen=["sofa"]), "'sofa' is no word of training"),
        (dict(training_vocabulary=WORDS, unseen=["dog"], words_per_step=2), "give one of them"),
    ],
)
def test_unseen_words_that_make_no_sense_are_refused(build, settings, said):
    with pytest.raises(ValueError, match=said):
        build(**settings)
