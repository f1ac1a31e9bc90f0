"""Turning text into vectors, without ever cutting a text short in silence.

all-MiniLM-L6-v2 reads 256 tokens (254 of the text and two special ones); the usual wrapper drops what is
longer. Here a long text is split into windows of equal length, and its vector is the mean over all of them.

``load_embedder()`` gives the packaged model; ``load_embedder(NAME_OR_PATH)`` any sentence-transformers model
that is on this machine. The network is never used.

An embedder that can also hand out the vector of every single token in its context is a ``TokenEncoder``: the
token store is built from one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Embedder, InputError, IntegrityError, Kind, ModelNotFoundError, Tokenizer, Vectors, require
from ragkit.bert import Bert
from ragkit.storage import sha256_file
from ragkit.tokens import MINILM, MINILM_SHA256, WordTokenizer, minilm_folder, verified

Ids = NDArray[np.int32]
_BATCH_TOKENS = 2048  # more does not fit the caches: measured slower on one core and on two


class WindowVectors(NamedTuple):
    """What the model says about one window: a vector per token, and the vector of the whole."""

    tokens: Vectors
    """``(n, d)``: the window's own tokens in their context, not normalised, special tokens left out."""
    mean: Vectors
    """``(d,)``: the mean over all tokens, special ones included, as the model was trained; not normalised."""


@runtime_checkable
class TokenEncoder(Embedder, Protocol):
    """An embedder whose text vector is the mean of its token vectors, and which hands these out."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def max_tokens(self) -> int:
        """The longest window, in tokens of the text (special tokens not counted)."""
        ...

    def tokenize(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Token ids ``(n,)`` and their character offsets ``(n, 2)``, without special tokens."""
        ...

    def encode_windows(self, windows: Sequence[Ids], kind: Kind = "passage") -> Iterator[tuple[int, WindowVectors]]:
        """``(position in windows, vectors)`` for each window, in the order that is quickest to compute."""
        ...


def unit(vectors: Vectors) -> Vectors:
    """The rows of ``vectors`` at length 1; rows of zeros stay zero.

    >>> unit(np.array([[3.0, 4.0]], dtype=np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def split_evenly(ids: Ids, limit: int) -> list[Ids]:
    """``ids`` in as few pieces of at most ``limit`` as possible, all of nearly the same length.

    >>> [len(piece) for piece in split_evenly(np.arange(10, dtype=np.int32), 4)]
    [4, 3, 3]
    """
    return np.array_split(ids, max(1, -(-len(ids) // limit)))


def encode_texts(encoder: TokenEncoder, texts: Sequence[str], kind: Kind) -> Vectors:
    """Unit vectors ``(len(texts), d)``; the vector of a long text is the mean over its windows, by length."""
    windows: list[Ids] = []
    owner: list[int] = []
    for i, text in enumerate(texts):
        pieces = split_evenly(encoder.tokenize(text)[0], encoder.max_tokens)
        windows += pieces
        owner += [i] * len(pieces)
    total = np.zeros((len(texts), encoder.dimension), dtype=np.float32)
    for position, vectors in encoder.encode_windows(windows, kind):
        total[owner[position]] += vectors.mean * max(1, len(windows[position]))
    return unit(total)


class _Local:
    """What every model on this machine has: a tokenizer, prefixes, a limit and an identity."""

    def __init__(self, folder: Path, name: str, weights_sha256: str, prefixes: Mapping[Kind, str]) -> None:
        self.name = name
        file = folder / "tokenizer.json"
        self.tokenizer = WordTokenizer(file, f"{name}:{sha256_file(file)[:12]}")
        self._first, self._last = self._special_tokens()
        limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        longest = max((self.tokenizer.count(p) for p in prefixes.values()), default=0)
        self.max_tokens = int(limit) - len(self._first) - len(self._last) - longest
        told = f":{json.dumps(dict(prefixes), sort_keys=True)}" if any(prefixes.values()) else ""
        self.identity = f"{name}:{weights_sha256[:12]}:{self.max_tokens}{told}"

    def _special_tokens(self) -> tuple[Ids, Ids]:
        """The special tokens that the model expects before and after a text."""
        both = self.tokenizer.fast.encode("a")
        own = np.flatnonzero(np.array(both.special_tokens_mask) == 0)
        ids = np.array(both.ids, dtype=np.int32)
        return ids[: own[0]], ids[own[-1] + 1 :]


class TransformerEmbedder(_Local):
    """A mean-pooling transformer, called directly: bfloat16 where the CPU has it, no padding, no cut.

    Queries of a BERT go through ``ragkit.bert``, so that a first answer need not wait for torch (6 s of CPU).
    ``prefixes`` are put in front of every text of a kind (``{"query": "query: ", "passage": "passage: "}``
    for the E5 family). It is a ``TokenEncoder``. Several threads may use it.
    """

    def __init__(self, folder: Path, name: str, weights_sha256: str, prefixes: Mapping[Kind, str]) -> None:
        super().__init__(folder, name, weights_sha256, prefixes)
        kinds: tuple[Kind, ...] = ("query", "passage")
        self._prefix = {kind: self.tokenize(prefixes.get(kind, ""))[0] for kind in kinds}
        self._folder = folder
        self._bert = Bert(folder) if Bert.fits(folder) else None
        self.dimension = int(json.loads((folder / "config.json").read_text())["hidden_size"])

    @cached_property
    def _model(self) -> Any:
        """The model ready to run, loaded when the first passage is encoded."""
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        able = torch.cpu.get_capabilities()
        # bfloat16 is 1.7 times as fast where the CPU multiplies it (cosine to float32: .9999), and slower elsewhere.
        dtype = torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar per model file is noise in a notebook
        try:
            model = AutoModel.from_pretrained(
                self._folder, dtype=dtype, attn_implementation="sdpa", local_files_only=True, use_safetensors=True
            )
        finally:
            if shown:
                logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        return model.eval()

    def tokenize(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Token ids ``(n,)`` and their character offsets ``(n, 2)``, without special tokens."""
        encoding = self.tokenizer.encode(text)
        return np.array(encoding.ids, dtype=np.int32), np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)

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

    def __init__(self, folder: Path, name: str, weights_sha256: str, prefixes: Mapping[Kind, str]) -> None:
        super().__init__(folder, name, weights_sha256, prefixes)
        library = require("sentence_transformers", "models")
        self._prefixes = dict(prefixes)
        self._model = library.SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
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
        prefix = self._prefixes.get(kind, "")
        found = self._model.encode([prefix + p for p in pieces], normalize_embeddings=True, show_progress_bar=False)
        total = np.zeros((len(texts), self.dimension), dtype=np.float32)
        np.add.at(total, owner, np.asarray(found, dtype=np.float32) * np.array(weight, dtype=np.float32)[:, None])
        return unit(total)


def load_embedder(name: str = MINILM, *, prefixes: Mapping[Kind, str] | None = None) -> Embedder:
    """The embedder called ``name``: the packaged model, a folder, or a model in the local model cache.

    ``prefixes`` are put in front of the texts of a kind, for models that were trained with them. The same
    arguments give the same object, so the weights are read once a process.

    >>> load_embedder().encode(["How do I stop a worker?"]).shape      # doctest: +SKIP
    (1, 384)

    Raises:
        ModelNotFoundError: the model is not on this machine (the network is not used); names those that are.
        IntegrityError: weights are missing, not the published ones, or only there in an unsafe format.
    """
    return _load(name, tuple(sorted((prefixes or {}).items())))


@cache
def _load(name: str, prefixes: tuple[tuple[Kind, str], ...]) -> Embedder:
    if name in (MINILM, f"sentence-transformers/{MINILM}"):
        folder = minilm_folder()
        for file, digest in MINILM_SHA256.items():
            verified(folder / file, digest)
        return TransformerEmbedder(folder, MINILM, MINILM_SHA256["model.safetensors"], dict(prefixes))
    folder = _find(name)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "tokenizer.json").is_file():
        raise IntegrityError(f"{folder}: no *.safetensors or no tokenizer.json, both are needed to load {name!r}")
    digest = hashlib.sha256("".join(sha256_file(w) for w in weights).encode()).hexdigest()
    kind = TransformerEmbedder if _mean_pooled(folder) else SentenceTransformerEmbedder
    return kind(folder, name, digest, dict(prefixes))


def _find(name: str) -> Path:
    """The folder of a model that is on this machine."""
    if (Path(name) / "config.json").is_file() or (Path(name) / "modules.json").is_file():
        return Path(name).resolve()
    hub = require("huggingface_hub", "models")
    for candidate in (name, f"sentence-transformers/{name}"):
        try:
            return Path(hub.snapshot_download(candidate, local_files_only=True))
        except (hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError):
            continue
    raise ModelNotFoundError(
        f"no model {name!r} on this machine, neither as a folder nor in the model cache; there are: "
        f"{', '.join(models_on_disk())}. The network is not used; to fetch it once: hf download {name}"
    )


def models_on_disk() -> list[str]:
    """The names that ``load_embedder`` can load here and now."""
    hub = require("huggingface_hub", "models")
    try:
        cached = sorted(r.repo_id for r in hub.scan_cache_dir().repos if r.repo_type == "model")
    except hub.errors.CacheNotFound:
        cached = []
    return [MINILM, *cached]


def _mean_pooled(folder: Path) -> bool:
    """True where the model is a transformer, mean pooling, and at most a normalisation after it."""
    try:
        kinds = [module["type"].split(".")[-1] for module in json.loads((folder / "modules.json").read_text())]
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    except FileNotFoundError:
        return False
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    mean = pooling.get("pooling_mode", "") == "mean" or modes == ["pooling_mode_mean_tokens"]
    return mean and kinds[:2] == ["Transformer", "Pooling"] and set(kinds[2:]) <= {"Normalize"}
