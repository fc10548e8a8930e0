"""DeCLIP's training: what learns, what is kept, and the weights between the original and the student."""

import numpy as np
import open_clip
import pytest
import torch
from mmengine.runner import Runner
from safetensors.torch import load_file

from ovseg.datasets.augment import BoxCrops
from ovseg.registry import MODELS
from ovseg.weights import LoadedClip, get_card
from tests.small_guides import use_small_guides
from tests.small_models import small_clip

TRAINED = [
    "clip.visual.transformer.resblocks.[01].*",
    "clip.visual.transformer.resblocks.2.ln_1.*",
    "clip.visual.transformer.resblocks.2.attn.*",
]


@pytest.fixture
def make(monkeypatch):
    use_small_guides(monkeypatch)

    def load(name, checkpoint=None):
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return LoadedClip(small_clip(), mean, std, get_card(name), "0" * 64, open_clip.tokenize)

    monkeypatch.setattr("ovseg.backbones.clip.load_clip", load)

    def build(**settings):
        torch.manual_seed(0)
        return MODELS.build(config() | settings)

    return build


def config():
    return dict(
        type="DeclipTrainer",
        student=dict(
            type="OpenVocabSegmentor",
            backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
            attention=dict(type="DeclipAttention"),
            vocabulary=["cat", "dog"],
            templates="plain",
            text_cache=False,
        ),
        foundation=dict(type="DinoBackbone", weights="dino/vitb16"),
        trained=TRAINED,
    )


def samples(count=2):
    np.random.seed(0)
    coarse = np.random.randint(0, 256, (count, 6, 8, 3), np.uint8).repeat(12, 1).repeat(12, 2)
    view = BoxCrops(size=64, crop=64, most_rows=2)
    found = [view(dict(image=photo)) for photo in coarse]
    return dict(
        inputs=[torch.from_numpy(f["image"]).permute(2, 0, 1) for f in found],
        boxes=[torch.from_numpy(f["boxes"]) for f in found],
        crops=[torch.from_numpy(f["crops"]) for f in found],
    )


def test_the_named_blocks_learn_and_the_original_stays(make):
    trainer = make()
    assert len(list(trainer.named_parameters())) == len(list(trainer.clip.named_parameters()))
    before = {name: p.detach().clone() for name, p in trainer.named_parameters()}
    original = {name: p.clone() for name, p in trainer.original.clip.named_parameters()}
    optimiser = torch.optim.AdamW([p for p in trainer.parameters() if p.requires_grad], lr=1e-3, weight_decay=0)
    trainer.train()
    batch, totals = samples(), []
    for _ in range(8):
        losses = trainer(**batch, mode="loss")
        assert set(losses) == {"loss_content", "loss_context"}
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        totals.append(float(sum(losses.values()).detach()))
    assert totals[-1] < 0.9 * totals[0]
    moved = {name for name, p in trainer.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in trainer.named_parameters() if p.requires_grad}
    assert all("resblocks" in name and ".2.mlp" not in name and ".2.ln_2" not in name for name in moved)
    assert all(torch.equal(p, original[name]) for name, p in trainer.original.clip.named_parameters())
    half = trainer.ensemble(0.25)
    for name, p in trainer.clip.named_parameters():
        torch.testing.assert_close(half[name], 0.25 * p.detach() + 0.75 * original[name])


def test_losses_are_weighted_and_do_not_depend_on_the_batch(make):
    trainer, batch = make(content_weight=2.0, context_weight=0.5).eval(), samples()
    plain = make(content_weight=1.0, context_weight=1.0).eval()(**batch, mode="loss")
    losses = trainer(**batch, mode="loss")
    torch.testing.assert_close(losses["loss_content"], 2 * plain["loss_content"])
    torch.testing.assert_close(losses["loss_context"], 0.5 * plain["loss_context"])
    alone = [trainer(**{k: v[i : i + 1] for k, v in batch.items()}, mode="loss") for i in range(2)]
    mean = (alone[0]["loss_context"] + alone[1]["loss_context"]) / 2
    torch.testing.assert_close(losses["loss_context"], mean, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_said(make):
    with pytest.raises(ValueError, match="BoxCrops"):
        make()(samples()["inputs"], mode="loss")
    with pytest.raises(ValueError, match="needs DeclipAttention"):
        make(student=config()["student"] | dict(attention=dict(type="PlainAttention")))
    with pytest.raises(ValueError, match="matches no parameter"):
        make(trained=["visual.*"])


def test_the_ensemble_is_saved_after_every_epoch(make, tmp_path):
    trainer, batch = make(), samples()

    class Photos(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {key: value[index] for key, value in batch.items()}

    Runner(
        model=trainer,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=2,
            dataset=Photos(),
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="pseudo_collate"),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-3)),
        custom_hooks=[dict(type="WeightEnsembleHook", alpha=0.7)],
        default_scope="ovseg",
        experiment_name="declip",
    ).train()
    saved = load_file(tmp_path / "ensemble_epoch_2.safetensors")
    assert (tmp_path / "ensemble_epoch_1.safetensors").is_file()
    expected = trainer.ensemble(0.7)
    assert set(saved) == set(trainer.clip.state_dict())
    assert all(torch.equal(saved[name], expected[name]) for name in saved)
