"""Fine-tuning a miniature BERT: what comes out loads everywhere, says where it comes from, and is made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragkit.base import Chunk, InputError, IntegrityError, ModelNotFoundError
from ragkit.embedding import TokenEncoder, load_embedder
from ragkit.files import sha256_file
from ragkit.token_store import TokenStore
from ragkit.tokens import minilm_folder
from ragkit.training import finetune
from ragkit.training.finetune import FineTuned, FineTuneSettings, fine_tune
from ragkit.training.pairs import Pair

WORDS = "red wine blue sky green tea dark ale cold milk warm soup hard bread old cheese".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A BERT of 2 layers and 32 numbers with MiniLM's tokenizer: a sentence-transformers model that knows nothing."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "mini"
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**shape)).save_pretrained(folder)
    for name in ("modules.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copyfile(minilm_folder() / name, folder / name)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def pairs_of(negatives: int = 1) -> list[Pair]:
    """Sixteen words, each asks for a passage that names it twice; four documents."""
    passages = [Chunk(f"d{i % 4}", i, i + 9, f"{word} and {word}") for i, word in enumerate(WORDS)]
    wrong = passages[4:] + passages[:4]
    return [
        Pair(f"{word} {times}", passage, "heading", (other,) * negatives)
        for times in ("once", "again", "please", "now")
        for word, passage, other in zip(WORDS, passages, wrong, strict=True)
    ]


def settings_of(base: Path) -> FineTuneSettings:
    return FineTuneSettings(base=str(base), tokens=16, batch=8, epochs=2, learning_rate=2e-3, share=0.25, checks=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGKIT_HOME", str(folder := tmp_path_factory.mktemp("home")))
        yield folder


@pytest.fixture(scope="module")
def tuned(base, home) -> FineTuned:
    return fine_tune(pairs_of(), settings_of(base))


def test_the_curve_falls_and_the_best_moment_is_kept(tuned):
    assert [moment.step for moment in tuned.history] == sorted({moment.step for moment in tuned.history})
    assert tuned.history[0].training is None
    assert min(moment.held_out for moment in tuned.history) < tuned.history[0].held_out
    losses = [moment.training for moment in tuned.history if moment.training is not None]
    assert losses[-1] < losses[0]


def test_the_kept_weights_are_those_of_the_best_moment(base, tuned):
    held_out = finetune.split_by_document(pairs_of(), 0.25, 0)[1]
    losses = []
    for embedder in (load_embedder(str(base)), tuned.embedder()):
        queries = embedder.encode([p.query for p in held_out])
        passages = embedder.encode([p.positive.text for p in held_out])
        losses.append(float((queries * passages).sum(axis=1).mean() - (queries @ passages.T).mean()))
    assert losses[1] > losses[0]


def test_it_loads_as_an_embedder_and_a_token_store_is_built_from_it(tuned, small_corpus, tmp_path):
    embedder = tuned.embedder()
    assert isinstance(embedder, TokenEncoder)
    assert embedder.max_tokens == 254  # as the base, though training read 16
    store = TokenStore.open(small_corpus, embedder, folder=tmp_path, progress=False)
    chunks = [Chunk(d.id, 0, len(d.text), d.text) for d in small_corpus.documents]
    assert store.pool(chunks).shape == (3, 32)


def test_it_is_the_model_that_sentence_transformers_loads(tuned):
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(tuned.folder), device="cpu", local_files_only=True)
    texts = ["red wine", "a longer text about cold milk"]
    assert np.allclose(theirs.encode(texts), tuned.embedder().encode(texts), atol=2e-2)


def test_the_manifest_says_where_it_comes_from(base, tuned):
    told = tuned.provenance
    assert told["base_sha256"] == sha256_file(base / "model.safetensors")
    assert told["pairs"] == finetune.fingerprint(pairs_of())
    assert told["settings"]["learning_rate"] == 2e-3
    assert told["training_pairs"] + told["held_out_pairs"] == len(pairs_of())
    assert not [file for file in tuned.folder.rglob("*") if file.suffix in (".bin", ".pt", ".pkl")]


def test_a_second_call_trains_nothing_and_other_pairs_or_settings_are_another_model(base, tuned, monkeypatch):
    trained = []
    monkeypatch.setattr(finetune, "_train", lambda path, *given: trained.append(path))
    assert fine_tune(pairs_of(), settings_of(base)) == tuned
    for pairs, settings in ((pairs_of(), replace(settings_of(base), seed=1)), (pairs_of()[::-1], settings_of(base))):
        with pytest.raises(IntegrityError):  # nothing was written in its place
            fine_tune(pairs, settings)
    assert len({tuned.folder, *trained}) == 3


def test_the_key_of_a_model_that_was_trained_before_is_what_it_was(base, tuned):
    """Models take minutes: their folder's name must not change with the code."""
    assert tuned.provenance["settings"].keys() == {
        *("base", "tokens", "batch", "epochs", "learning_rate", "temperature", "frozen", "share", "checks"),
        *("patience", "seed"),
    }
    assert tuned.folder.name.startswith("mini-tuned-")


def test_frozen_layers_stay_and_the_same_input_gives_the_same_weights(base, tmp_path, monkeypatch):
    from safetensors.numpy import load_file

    settings, models = replace(settings_of(base), frozen=1, epochs=0.5), []
    for name in "ab":
        monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / name))
        models.append(fine_tune(pairs_of(0), settings))
    assert models[0].folder.parent == tmp_path / "a" / "models"
    assert models[0].history == models[1].history
    assert len({sha256_file(model.folder / "model.safetensors") for model in models}) == 1
    before, after = (load_file(folder / "model.safetensors") for folder in (base, models[0].folder))
    changed = {
        name.split(".")[2] for name in before if not np.array_equal(before[name], after[name]) if "layer" in name
    }
    assert changed == {"1"}
    assert np.array_equal(*(w["embeddings.word_embeddings.weight"] for w in (before, after)))


def test_changed_weights_are_refused(base, tuned, tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path))
    copy = shutil.copytree(tuned.folder, tmp_path / "models" / tuned.folder.name)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(IntegrityError, match="sha256"):
        fine_tune(pairs_of(), settings_of(base))


def test_a_training_that_fails_leaves_nothing(base, ragkit_home, monkeypatch):
    def fail(*given: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(finetune, "_fit", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        fine_tune(pairs_of(), settings_of(base))
    assert [p for p in (ragkit_home / "models").iterdir() if p.suffix != ".lock"] == []


def test_what_cannot_be_trained_is_refused(base, ragkit_home):
    with pytest.raises(InputError, match="more pairs"):
        fine_tune(pairs_of(), replace(settings_of(base), batch=99))
    with pytest.raises(InputError, match=r"1 document\(s\)"):
        fine_tune(pairs_of()[:1], settings_of(base))
    with pytest.raises(ModelNotFoundError, match="no base model 'nothing'"):
        fine_tune(pairs_of(), FineTuneSettings(base="nothing"))
