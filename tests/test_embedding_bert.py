"""BERT in NumPy gives what torch gives, without torch."""

from __future__ import annotations

import json
import math
import subprocess
import sys

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


def test_many_passages_get_the_vectors_of_few(minilm, monkeypatch):
    """Many go through torch, few through NumPy."""
    few = minilm.encode(TEXTS, "passage")
    monkeypatch.setattr(models, "_FEW_TOKENS", 0)
    many = minilm.encode(TEXTS, "passage")
    np.testing.assert_allclose(many, few, rtol=0, atol=1e-5)
    assert (many != few).any()


@pytest.mark.parametrize(
    ("texts", "kind", "imported"),
    [
        ("['How?']", "query", False),
        ("['A short note.', 'Another.']", "passage", False),
        ("['more than seven tokens ' * 3]", "passage", True),
    ],
)
def test_torch_is_imported_for_many_passages_only(texts, kind, imported):
    code = (
        "import sys; from ragkit.embedding import load_embedder, models; models._FEW_TOKENS = 7;"
        f"load_embedder().encode({texts}, {kind!r});"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == imported


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
