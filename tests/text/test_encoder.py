"""TextEncoder: averaging over templates, caching, other text towers, and parity with the official code."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from ovseg.content import content_sha256
from ovseg.text import TextEncoder, Vocabulary, get_templates
from ovseg.text.encoder import text_weights
from tests.small_models import small_clip
from tests.standins import PARITY, standin
from tests.text.test_causal import custom_text_clip
from tests.weight_edits import EDITS

TOKENIZER = open_clip.get_tokenizer("ViT-B-16")
WORDS = Vocabulary.from_list(["sky; wall", "cat", "sofa; couch"])


class CountingTokenizer:
    """Counts the prompts that are encoded; ``encode`` is the tokenizer's own."""

    encode = staticmethod(TOKENIZER.encode)

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, prompts: list[str]) -> torch.Tensor:
        self.prompts += prompts
        return TOKENIZER(prompts)

    def encoded(self, words) -> set[str]:
        """Which of the words were in a prompt since the last call."""
        found = {word for word in words if any(f"bad photo of the {word}." in prompt for prompt in self.prompts)}
        self.prompts.clear()
        return found


def by_hand(model, words, templates="openai_80") -> torch.Tensor:
    """The rule of the official code: one name at a time, full context."""
    rows = []
    with torch.no_grad():
        for word in words:
            embeddings = model.encode_text(TOKENIZER(get_templates(templates).prompts(word)))
            rows.append(F.normalize(F.normalize(embeddings, dim=-1).mean(0), dim=-1))
    return torch.stack(rows)


@pytest.mark.parametrize("templates", ["openai_80", "simple", "photo", "plain"])
def test_average_over_templates(templates, tmp_path):
    model = small_clip()
    found = TextEncoder(model, TOKENIZER, templates, cache_dir=tmp_path).encode(WORDS)
    assert found.dtype == torch.float32 and found.shape == (5, 32) and not found.requires_grad
    torch.testing.assert_close(found, by_hand(model, WORDS.queries, templates), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))


def test_templates_apart_are_each_templates_own_embedding(tmp_path):
    model = small_clip()
    apart = TextEncoder(model, TOKENIZER, "simple", cache_dir=tmp_path, templates_apart=True)
    mean = TextEncoder(model, TOKENIZER, "simple", cache_dir=tmp_path)  # the two share a cache, and no entry of it
    found = apart.encode(WORDS)
    assert found.shape == (5, 7, 32)
    for i, word in enumerate(WORDS.queries):
        with torch.no_grad():
            prompts = model.encode_text(TOKENIZER(get_templates("simple").prompts(word)))
        torch.testing.assert_close(found[i], F.normalize(prompts, dim=-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(mean.encode(WORDS), F.normalize(found.mean(1), dim=-1), atol=1e-5, rtol=0)
    assert torch.equal(apart.encode(WORDS), found)  # from the cache


def test_duplicates_keep_their_place():
    v = Vocabulary.from_list(["cat", "bed; bed"], allow_duplicates=True)
    found = TextEncoder(small_clip(), TOKENIZER, "photo", cache=False).encode(v)
    assert torch.equal(found[1], found[2]) and not torch.equal(found[0], found[1])


def test_blocks_do_not_matter(monkeypatch):
    encoder = TextEncoder(small_clip(), TOKENIZER, "simple", cache=False)
    whole = encoder.encode(WORDS)
    monkeypatch.setattr("ovseg.text.encoder.PROMPTS_PER_BLOCK", 1)
    monkeypatch.setattr("ovseg.text.causal.MAX_NODES", {"cpu": 5})
    torch.testing.assert_close(encoder.encode(WORDS), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("text", [dict(no_causal_mask=True), dict(pool_type="last"), dict(qk_norm=True)])
def test_other_towers_use_their_own_encode_text(text, tmp_path):
    model = custom_text_clip(**text)
    encoder = TextEncoder(model, TOKENIZER, "simple", cache_dir=tmp_path)
    assert encoder.fallback_reason
    torch.testing.assert_close(encoder.encode(WORDS), by_hand(model, WORDS.queries, "simple"), atol=1e-6, rtol=0)
    low = TextEncoder(model, TOKENIZER, "simple", cache_dir=tmp_path, dtype=torch.bfloat16).encode(WORDS)
    assert 0 < (low - encoder.encode(WORDS)).abs().max() < 0.05


def test_encode_prompts():
    model = small_clip()
    encoder = TextEncoder(model, TOKENIZER, cache=False)
    assert encoder.fallback_reason is None
    prompts = ["a cat on a mat", "two dogs", "a cat on a mat"]
    expected = F.normalize(model.encode_text(TOKENIZER(prompts)), dim=-1)
    torch.testing.assert_close(encoder.encode_prompts(prompts), expected, atol=1e-5, rtol=0)
    with pytest.raises(TypeError, match="list of prompts"):
        encoder.encode_prompts("a cat")
    with pytest.raises(ValueError, match="no prompts"):
        encoder.encode_prompts([])


def test_only_new_words_are_encoded(tmp_path):
    tokenizer, model = CountingTokenizer(), small_clip()
    first = TextEncoder(model, tokenizer, cache_dir=tmp_path).encode(WORDS)
    assert tokenizer.encoded(WORDS.queries) == set(WORDS.queries)
    more = Vocabulary.from_list(["sky; wall", "dog", "cat", "sofa; couch"])
    again = TextEncoder(model, tokenizer, cache_dir=tmp_path).encode(more)
    assert tokenizer.encoded(more.queries) == {"dog"}
    assert torch.equal(again[[0, 1, 3, 4, 5]], first)


def test_key_holds_everything_that_changes_the_embedding(tmp_path):
    tokenizer = CountingTokenizer()

    def encoded(model, *args, **kwargs) -> bool:
        TextEncoder(model, tokenizer, *args, cache_dir=tmp_path, **kwargs).encode(WORDS)
        return tokenizer.encoded(WORDS.queries) == set(WORDS.queries)

    assert encoded(small_clip())
    assert not encoded(small_clip())
    assert encoded(small_clip(seed=1)), "other weights"
    assert encoded(small_clip(quick_gelu=True)), "same weights, other activation"
    assert encoded(small_clip(), "simple"), "other templates"
    assert encoded(small_clip(), dtype=torch.bfloat16), "other precision"


def test_fingerprint_sees_every_text_weight_and_no_other():
    model = small_clip()
    before = content_sha256(text_weights(model))
    with torch.no_grad():
        model.visual.conv1.weight.add_(1)
        model.logit_scale.add_(1)
    assert content_sha256(text_weights(model)) == before
    for name, parameter in model.named_parameters():
        if not name.startswith(("visual.", "logit_")):
            with torch.no_grad():
                parameter.view(-1)[-1].add_(1e-3)
            after = content_sha256(text_weights(model))
            assert after != before, name
            before = after


@pytest.mark.parametrize("edit", EDITS)
def test_changed_weights_never_find_the_embeddings_of_the_old_ones(edit, tmp_path):
    model = small_clip()
    encoder = TextEncoder(model, TOKENIZER, "photo", cache_dir=tmp_path)
    before = encoder.encode(WORDS)
    edited = EDITS[edit](model)
    encoder = encoder if edited is model else TextEncoder(edited, TOKENIZER, "photo", cache_dir=tmp_path)
    expected = TextEncoder(edited, TOKENIZER, "photo", cache=False).encode(WORDS)
    assert not torch.allclose(before, expected, atol=1e-3)
    assert torch.equal(encoder.encode(WORDS), expected)
    # nor are the old ones' overwritten
    assert torch.equal(TextEncoder(small_clip(), TOKENIZER, "photo", cache_dir=tmp_path).encode(WORDS), before)


def test_a_copied_encoder_is_of_the_copied_model(tmp_path):
    first = TextEncoder(small_clip(), TOKENIZER, "photo", cache_dir=tmp_path)
    before = first.encode(WORDS)
    second = copy.deepcopy(first)
    second.clip.token_embedding.weight.data.mul_(-1)
    assert not torch.allclose(second.encode(WORDS), before, atol=1e-3) and torch.equal(first.encode(WORDS), before)


def test_weights_that_change_while_words_are_encoded_leave_nothing_on_disk(tmp_path):
    model = small_clip()

    class Meddler:
        """A tokenizer in whose time another thread writes to the weights."""

        def __call__(self, texts):
            if any("cat" in text for text in texts):
                model.token_embedding.weight.data.mul_(-1)
            return TOKENIZER(texts)

    TextEncoder(model, Meddler(), "photo", cache_dir=tmp_path).encode(WORDS)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_another_activation_after_the_first_words_is_another_key(tmp_path):
    model = small_clip()
    encoder = TextEncoder(model, TOKENIZER, "photo", cache_dir=tmp_path)
    before = encoder.encode(WORDS)
    for block in model.transformer.resblocks:
        block.mlp.gelu = torch.nn.ReLU()
    assert not torch.allclose(encoder.encode(WORDS), before, atol=1e-4)


def test_words_of_inference_mode_serve_training(tmp_path):
    encoder = TextEncoder(small_clip(), TOKENIZER, "photo", cache_dir=tmp_path)
    with torch.inference_mode():
        found = [encoder.encode(WORDS), encoder.encode(WORDS), encoder.encode_prompts(["a cat"])]
    assert not any(text.is_inference() for text in found)


def test_broken_cache_does_not_stop(tmp_path):
    model, folder = small_clip(), tmp_path / "cache"
    expected = TextEncoder(model, TOKENIZER, "photo", cache_dir=folder).encode(WORDS)
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="computed again"):
        found = TextEncoder(model, TOKENIZER, "photo", cache_dir=folder).encode(WORDS)
    torch.testing.assert_close(found, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TextEncoder(model, TOKENIZER, "photo", cache_dir=folder).encode(WORDS)
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be written"):
        found = TextEncoder(model, TOKENIZER, "photo", cache_dir=tmp_path / "file").encode(WORDS)
    torch.testing.assert_close(found, expected)


def test_no_cache_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    TextEncoder(small_clip(), TOKENIZER, "photo", cache=False).encode(WORDS)
    assert list(tmp_path.iterdir()) == []
    TextEncoder(small_clip(), TOKENIZER, "photo").encode(WORDS)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_cut_names_are_reported():
    encoder = TextEncoder(small_clip(), TOKENIZER, "plain", cache=False)
    fits = " ".join(["x"] * 75)  # with start and end of text: exactly 77 tokens
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(Vocabulary.from_list([fits, "cat"]))
    with pytest.warns(UserWarning, match=r"x' \(class 1, 'dog'\) makes prompts longer than the 77 tokens"):
        encoder.encode(Vocabulary.from_list(["cat", f"dog; {fits} x"]))


def test_foreign_tokenizer():
    model = small_clip()
    with pytest.raises(ValueError, match="same model name"):
        TextEncoder(model, lambda prompts: torch.full((len(prompts), 77), 60000), cache=False).encode(WORDS)
    with pytest.raises(ValueError, match="gives 90 tokens"):
        TextEncoder(model, lambda prompts: torch.ones(len(prompts), 90, dtype=torch.long), cache=False).encode(WORDS)


def standin_encoder(quick_gelu: bool, tmp_path) -> TextEncoder:
    from ovseg.weights import load_clip

    loaded = load_clip("openai/ViT-B-16", standin("openai/ViT-B-16"))
    if not quick_gelu:  # MaskCLIP's golden was made with exact GELU
        for block in loaded.model.transformer.resblocks:
            block.mlp.gelu = torch.nn.GELU()
    return TextEncoder(loaded.model, loaded.tokenizer, cache_dir=tmp_path)


def deviation(method: str, encoder: TextEncoder, limit: int | None = None, background_only: bool = False) -> float:
    """Largest difference from the query embeddings of a golden, over ``limit`` queries spread over the list."""
    path = PARITY / "goldens" / method / "text.npz"
    if not path.is_file():
        pytest.skip(f"no {path} (set OVSEG_SHARED)")
    golden = np.load(path)
    keep = np.flatnonzero(golden["idx"] == 0) if background_only else np.arange(len(golden["idx"]))
    keep = keep[:: max(1, len(keep) // limit)] if limit else keep
    found = encoder.encode(Vocabulary.from_names(golden["words"][keep].tolist(), allow_duplicates=True))
    return float(np.abs(found.numpy() - golden["query"][keep]).max())


@pytest.mark.parametrize(("method", "quick_gelu"), [("sclip", True), ("maskclip", False)])
def test_parity_sample(method, quick_gelu, tmp_path):
    assert deviation(method, standin_encoder(quick_gelu, tmp_path), limit=2) < 1e-4


@pytest.mark.slow
def test_parity_all(tmp_path):
    """Every golden whose query embeddings are plain averages over the 80 templates."""
    quick, exact = standin_encoder(True, tmp_path), standin_encoder(False, tmp_path)
    for method in ("sclip", "naclip", "clearclip", "maskclip_quickgelu", "clip_dinoiser_quickgelu", "proxyclip_b8"):
        assert deviation(method, quick) < 1e-4, method
    for method in (
        "proxyclip_b16",
        "trident",
        "trident_sam",
        "corrclip_b8",
        "corrclip_b16",
        "cliptrase_224",
        "cliptrase_336",
    ):
        assert deviation(method, quick) < 1e-4, method
    for method in ("maskclip", "clip_dinoiser"):
        assert deviation(method, exact) < 1e-4, method
    assert deviation("itaclip", quick, background_only=True) < 1e-4  # its other queries mix in generated definitions
