"""BERT in NumPy gives what torch gives, without torch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from copy import copy

import numpy as np
import pytest

from ragkit.embedding import models
from ragkit.embedding.bert import Bert, gelu
from ragkit.tokens import minilm_folder, minilm_tokenizer

TEXTS = ["How do I discard all waiting tasks?", "x", "é 😀 " * 40, " ".join(["worker"] * 240), ""]


@pytest.fixture(scope="module")
def bert():
    return Bert(minilm_folder())


def test_hidden_states_are_those_of_torch(bert):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoModel.from_pretrained(minilm_folder(), local_files_only=True).eval()
    for text in TEXTS:
        ids = [101, *minilm_tokenizer().encode(text).ids, 102]
        with torch.inference_mode():
            expected = reference(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        found = bert.hidden(ids)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=5e-5)


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 241, dtype=np.float32)
    exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.tolist()]
    np.testing.assert_allclose(gelu(x), exact, atol=2e-6)


def test_queries_and_passages_agree(minilm):
    """Both in float32: queries by NumPy, passages by torch after the first few."""
    model = copy(minilm)
    model._passage_tokens = models._FEW_TOKENS
    queries, passages = model.encode(TEXTS, "query"), model.encode(TEXTS, "passage")
    np.testing.assert_allclose(queries, passages, rtol=0, atol=1e-5)


def test_the_first_few_passages_are_read_by_numpy(minilm, monkeypatch):
    model, by_torch = copy(minilm), []
    model._passage_tokens = 0
    monkeypatch.setattr(models, "_FEW_TOKENS", 100)
    monkeypatch.setattr(model, "_forward", lambda rows: by_torch.extend(rows) or [np.ones((len(r), 384)) for r in rows])
    model.encode(["worker " * 60])
    model.encode(["worker " * 60] * 2, "query")
    assert by_torch == []
    model.encode(["worker " * 60])
    model.encode(["worker"])
    assert [len(row) - 2 for row in by_torch] == [60, 1]


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_a_text_is_encoded_without_torch(kind):
    code = (
        f"import sys; from ragkit.embedding import load_embedder; load_embedder().encode(['How?'], {kind!r});"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True),
        ({"model_type": "roberta"}, False),
        ({"hidden_act": "relu"}, False),
        ({"position_embedding_type": "relative_key"}, False),
    ],
)
def test_only_what_it_can_run_fits(changed, fits, tmp_path):
    config = json.loads((minilm_folder() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    assert not Bert.fits(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert Bert.fits(tmp_path) is fits
