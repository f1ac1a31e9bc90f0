"""The whole of BERT's encoder in NumPy: it starts at once, where the import of torch takes seconds.

It encodes queries, and passages where there are few; many are encoded by torch, which is faster on long batches.

Devlin et al. 2018, BERT (arXiv 1810.04805); the weights' names are those of the published models.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from ragkit.base import Vectors, require


@cache
def _blas() -> Any:
    return require("threadpoolctl", "models").ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """A context in which NumPy's products run in one thread: small ones gain nothing from a second, and wait for it
    where the other core is busy."""
    return cast(AbstractContextManager[Any], _blas().limit(limits=1, user_api="blas"))


class Bert:
    """The encoder whose ``config.json`` and ``model.safetensors`` lie in ``folder``.

    >>> from ragkit.tokens import minilm_folder, minilm_tokenizer
    >>> Bert(minilm_folder()).hidden([101, *minilm_tokenizer().encode("stop a worker").ids, 102]).shape
    (5, 384)
    """

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        weights = require("safetensors.numpy", "models").load_file(folder / "model.safetensors")
        self._weights: dict[str, Vectors] = {name.removeprefix("bert."): array for name, array in weights.items()}
        self.layers, self.heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])

    @staticmethod
    def fits(folder: Path) -> bool:
        """Whether the model in ``folder`` is one that this code can run."""
        config = json.loads((folder / "config.json").read_text())
        kind = [config.get(key) for key in ("model_type", "hidden_act")]
        absolute = config.get("position_embedding_type", "absolute") == "absolute"
        return kind == ["bert", "gelu"] and absolute and (folder / "model.safetensors").is_file()

    def hidden(self, ids: list[int]) -> Vectors:
        """The last layer's vectors ``(n, d)`` for token ids ``(n,)``, special tokens included."""
        with one_thread():
            return self._layers(ids)

    def _layers(self, ids: list[int]) -> Vectors:
        table = self._weights
        x = table["embeddings.word_embeddings.weight"][ids].astype(np.float32)
        x = x + table["embeddings.position_embeddings.weight"][: len(ids)]
        x = self._norm(x + table["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}"
            x = self._norm(x + self._attention(x, at), f"{at}.attention.output")
            inner = gelu(self._linear(x, f"{at}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{at}.output.dense"), f"{at}.output")
        return x

    def _attention(self, x: Vectors, at: str) -> Vectors:
        """softmax(QK'/sqrt(d)) V, head by head (Vaswani et al. 2017, arXiv 1706.03762, eq. 1)."""
        q, k, v = (
            self._linear(x, f"{at}.attention.self.{name}").reshape(len(x), self.heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(q.shape[-1]))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
        return self._linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), f"{at}.attention.output.dense")

    def _linear(self, x: Vectors, name: str) -> Vectors:
        return np.asarray(x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"])

    def _norm(self, x: Vectors, name: str) -> Vectors:
        """Layer normalisation (Ba et al. 2016, arXiv 1607.06450)."""
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        return np.asarray(x * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"])


def gelu(x: Vectors) -> Vectors:
    """x times the normal distribution function at x (Hendrycks & Gimpel 2016, arXiv 1606.08415).

    erf by Abramowitz & Stegun 7.1.26, whose error is below 1.5e-7: NumPy has none.
    """
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + 0.3275911 * z)
    polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - polynomial * np.exp(-z * z))
    return np.asarray(x * (1 + erf) / 2, dtype=np.float32)
