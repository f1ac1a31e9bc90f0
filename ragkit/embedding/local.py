"""Models on this machine: a mean-pooling transformer called directly, and any other through its library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import InputError, IntegrityError, Kind, Precision, Vectors, require
from ragkit.bert import Bert
from ragkit.embedding.texts import Ids, WindowVectors, encode_texts, unit
from ragkit.files import sha256_file
from ragkit.tokens import WordTokenizer

_BATCH_TOKENS = 4096  # 16 windows of 256: twice as many gained nothing, half as many were slower


def window(folder: Path) -> int:
    """The longest text that the model in ``folder`` reads, special tokens included, in tokens.

    It stands in ``sentence_bert_config.json``; newer sentence-transformers write it to the tokenizer's settings.

    Raises:
        IntegrityError: it stands in neither.
    """
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        try:
            said = json.loads((folder / file).read_text()).get(key)
        except FileNotFoundError:
            continue
        if isinstance(said, int) and 0 < said < 1_000_000:  # transformers writes 1e30 for "no limit"
            return said
    raise IntegrityError(
        f"{folder}: neither sentence_bert_config.json nor tokenizer_config.json says how much it reads"
    )


class _Local:
    """What every model on this machine has: a tokenizer, prefixes, a limit and an identity.

    ``prefixes`` are put in front of every text of a kind: ``{"query": "query: ", "passage": "passage: "}`` for E5.
    ``precision`` is the arithmetic (see ``load_embedder``), and part of the identity.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        weights_sha256: str,
        prefixes: Mapping[Kind, str],
        precision: Precision = "float32",
    ) -> None:
        self.name, self.precision = name, precision
        self._folder = folder
        file = folder / "tokenizer.json"
        self.tokenizer = WordTokenizer(file, f"{name}:{sha256_file(file)[:12]}")
        self._first, self._last = self._special_tokens()
        self.prefixes: Mapping[Kind, str] = dict(prefixes)
        longest = max((self.tokenizer.count(p.rstrip()) for p in prefixes.values()), default=0)
        self.max_tokens = window(folder) - len(self._first) - len(self._last) - longest
        told = f":{json.dumps(dict(prefixes), sort_keys=True)}" if any(prefixes.values()) else ""
        self.identity = f"{name}:{weights_sha256[:12]}:{self.max_tokens}:{precision}{told}"

    def _special_tokens(self) -> tuple[Ids, Ids]:
        """The special tokens that the model expects before and after a text."""
        both = self.tokenizer.fast.encode("a")
        own = np.flatnonzero(np.array(both.special_tokens_mask) == 0)
        ids = np.array(both.ids, dtype=np.int32)
        return ids[: own[0]], ids[own[-1] + 1 :]


class TransformerEmbedder(_Local):
    """A mean-pooling transformer, called directly: no padding, no cut.

    Queries of a BERT go through ``ragkit.bert``, always in float32, so that a first answer need not wait for torch (6 s
    of CPU). It is a ``TokenEncoder``. Several threads may use it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        weights_sha256: str,
        prefixes: Mapping[Kind, str],
        precision: Precision = "float32",
    ) -> None:
        super().__init__(folder, name, weights_sha256, prefixes, precision)
        kinds: tuple[Kind, ...] = ("query", "passage")
        # The space after a prefix belongs to the first word of the text, as the tokenizers count.
        self._prefix = {kind: self.tokenize(prefixes.get(kind, "").rstrip())[0] for kind in kinds}
        self.dimension = int(json.loads((folder / "config.json").read_text())["hidden_size"])

    @cached_property
    def _bert(self) -> Bert | None:
        """The same model in NumPy, for queries."""
        return Bert(self._folder) if Bert.fits(self._folder) else None

    @cached_property
    def _model(self) -> Any:
        """The model ready to run, loaded when the first passage is encoded."""
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar per model file is noise in a notebook
        try:
            model = AutoModel.from_pretrained(
                self._folder,
                dtype=getattr(torch, self.precision),
                attn_implementation="sdpa",
                local_files_only=True,
                use_safetensors=True,
            )
        finally:
            if shown:
                logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        return model.eval()

    def tokenize(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Token ids ``(n,)`` and their character offsets ``(n, 2)``, without special tokens."""
        return self.tokenizer.tokenize(text)

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``; a text longer than ``max_tokens`` is read in windows."""
        return encode_texts(self, texts, kind)

    def encode_windows(self, windows: Sequence[Ids], kind: Kind = "passage") -> Iterator[tuple[int, WindowVectors]]:
        """``(position in windows, vectors)``, longest windows first so that a batch needs next to no padding.

        Raises:
            InputError: a window is longer than ``max_tokens``.
        """
        before = np.concatenate([self._first, self._prefix[kind]])
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i]))
        if order and len(windows[order[0]]) > self.max_tokens:
            raise InputError(f"a window of {len(windows[order[0]])} tokens; {self.name} reads {self.max_tokens}")
        while order:
            width = len(windows[order[0]]) + len(before) + len(self._last)
            batch, order = order[: max(1, _BATCH_TOKENS // width)], order[max(1, _BATCH_TOKENS // width) :]
            full = [np.concatenate([before, windows[i], self._last]) for i in batch]
            quick = self._bert if kind == "query" else None
            hidden = [quick.hidden(row.tolist()) for row in full] if quick else self._forward(full)
            for i, vectors in zip(batch, hidden, strict=True):
                own = vectors[len(before) : len(before) + len(windows[i])]
                yield i, WindowVectors(own, vectors.mean(axis=0))

    def _forward(self, rows: list[Ids]) -> list[Vectors]:
        import torch

        width = max(len(row) for row in rows)
        ids = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        with torch.inference_mode():  # a mask of ones is left out: attention then takes its fastest path
            attend = None if mask.all() else torch.from_numpy(mask)
            hidden = self._model(input_ids=torch.from_numpy(ids), attention_mask=attend).last_hidden_state
            vectors = hidden.float().numpy()
        return [vectors[i, : len(row)] for i, row in enumerate(rows)]


class SentenceTransformerEmbedder(_Local):
    """Any other sentence-transformers model (first-token pooling, a dense layer on top, ...), by its library.

    Long texts are cut into windows at token borders and averaged. It is no ``TokenEncoder``: the vector of
    such a model is not the mean of its token vectors.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        weights_sha256: str,
        prefixes: Mapping[Kind, str],
        precision: Precision = "float32",
    ) -> None:
        super().__init__(folder, name, weights_sha256, prefixes, precision)
        library = require("sentence_transformers", "models")
        loading = {"use_safetensors": True, "dtype": precision}
        self._model = library.SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs=loading
        )
        self.dimension = int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``; a text longer than ``max_tokens`` is read in windows."""
        pieces: list[str] = []
        owner: list[int] = []
        weight: list[int] = []
        for i, text in enumerate(texts):
            offsets = self.tokenizer.offsets(text)
            for part in np.array_split(offsets, max(1, -(-len(offsets) // self.max_tokens))):
                pieces.append(text[part[0, 0] : part[-1, 1]] if len(part) else text)
                owner.append(i)
                weight.append(max(1, len(part)))
        prefix = self.prefixes.get(kind, "")
        found = self._model.encode([prefix + p for p in pieces], normalize_embeddings=True, show_progress_bar=False)
        total = np.zeros((len(texts), self.dimension), dtype=np.float32)
        np.add.at(total, owner, np.asarray(found, dtype=np.float32) * np.array(weight, dtype=np.float32)[:, None])
        return unit(total)
