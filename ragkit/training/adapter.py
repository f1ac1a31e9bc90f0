"""A linear adapter: one matrix behind a frozen embedder, trained in seconds on a CPU.

The embedder is not touched and need not even be here: vectors that an API returned are enough. With
``side="query"`` only questions pass through the matrix, so no index has to be built again.

The matrix starts as the identity, is pulled back to it, and is kept as it was when held-out documents did best.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Embedder, InputError, IntegrityError, Kind, StoreMismatchError, Tokenizer, Vectors
from ragkit.embedding import Ids, TokenEncoder, WindowVectors, unit
from ragkit.files import atomic_folder, read_manifest, write_manifest
from ragkit.token_store import TokenStore
from ragkit.training.pairs import Pair, split_by_document

Side = Literal["query", "both"]
SIDES: tuple[Side, ...] = ("query", "both")
Look = tuple[int, float, float]  # step, loss on training pairs, loss on held-out pairs
_FILE = "matrix.npy"
_EVERY = 10


@dataclass(frozen=True, eq=False)
class LinearAdapter:
    """``matrix`` ``(d, d)``, float32: a vector ``v`` becomes ``v @ matrix`` at length 1.

    ``embedder`` is the identity of the embedder whose vectors it was trained on. ``history`` holds, for each look,
    the step and the losses on training and on held-out pairs.
    """

    matrix: Vectors
    side: Side
    embedder: str
    history: tuple[Look, ...] = ()

    def apply(self, vectors: Vectors) -> Vectors:
        """Unit vectors ``(n, d)`` from vectors ``(n, d)``."""
        return unit(vectors @ self.matrix)

    @property
    def identity(self) -> str:
        """Names the numbers: equal identity, equal vectors."""
        return f"{self.side}:{hashlib.sha256(np.ascontiguousarray(self.matrix).tobytes()).hexdigest()[:12]}"

    def save(self, folder: Path) -> None:
        """Write ``folder`` in one step: the matrix as NumPy array, and a manifest with its sha256.

        Raises:
            InputError: ``folder`` holds files that ragkit did not make; an adapter of ragkit's is replaced.
        """
        with atomic_folder(folder) as fresh:
            np.save(fresh / _FILE, self.matrix, allow_pickle=False)
            told = {"kind": "linear adapter", "side": self.side, "embedder": self.embedder}
            write_manifest(fresh, {**told, "history": [list(row) for row in self.history]})

    @classmethod
    def load(cls, folder: Path) -> LinearAdapter:
        """The adapter that ``save`` wrote.

        Raises:
            IntegrityError: a file is missing or changed.
            StoreMismatchError: the folder holds something else.
        """
        told = read_manifest(folder, {"kind": "linear adapter"})
        matrix = np.load(folder / _FILE, allow_pickle=False)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or told["side"] not in SIDES:
            raise IntegrityError(f"{folder}: a matrix {matrix.shape} for {told['side']!r}: train the adapter again")
        history = tuple((int(step), float(a), float(b)) for step, a, b in told["history"])
        return cls(matrix.astype(np.float32), told["side"], told["embedder"], history)


def contrastive_loss(queries: NDArray[np.float32], passages: NDArray[np.float32], temperature: float) -> float:
    """How badly each query tells its own passage from all others; row ``i`` of both belong together.

    ``mean_i -log(exp(q_i.p_i / t) / sum_j exp(q_i.p_j / t))``: InfoNCE (van den Oord et al., 2018), which
    sentence-transformers calls MultipleNegativesRankingLoss. https://arxiv.org/abs/1807.03748

    >>> same = np.eye(2, dtype=np.float32)
    >>> round(contrastive_loss(same, same, 1.0), 4)
    0.3133
    """
    logits = queries @ passages.T / temperature
    return float(np.mean(np.logaddexp.reduce(logits, axis=1) - np.diag(logits)))


def loss_gradient(matrix: Vectors, queries: Vectors, passages: Vectors, temperature: float, side: Side) -> Vectors:
    """The derivative ``(d, d)`` of ``contrastive_loss`` of adapted vectors by the matrix.

    Pull each query to its passage, push it from the others by how much it is taken in by them (softmax), and
    leave out what would only change a length.
    """
    asked, asked_length = _directions(queries @ matrix)
    found, found_length = _directions(passages @ matrix) if side == "both" else (passages, np.ones(1))
    logits = asked @ found.T / temperature
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    error = (share - np.eye(len(queries), dtype=np.float32)) / (len(queries) * temperature)
    gradient = queries.T @ (_sideways(error @ found, asked) / asked_length)
    if side == "both":
        gradient += passages.T @ (_sideways(error.T @ asked, found) / found_length)
    return np.asarray(gradient, dtype=np.float32)


def _directions(vectors: Vectors) -> tuple[Vectors, Vectors]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return vectors / length, length


def _sideways(gradient: Vectors, direction: Vectors) -> Vectors:
    """``gradient`` without its part along ``direction``."""
    return np.asarray(gradient - (gradient * direction).sum(axis=1, keepdims=True) * direction)


@dataclass(frozen=True)
class AdapterSettings:
    """``pull`` weighs the squared distance to the identity: 0 forgets what the embedder knew, 1 learns nothing.

    Adam takes ``steps`` steps with ``batch`` pairs each; ``temperature`` divides the cosines in the loss. A ``share``
    of the documents is held out.
    """

    pull: float = 0.03
    steps: int = 80
    batch: int = 512
    temperature: float = 0.05
    learning_rate: float = 3e-4
    share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.pull < 0 or min(self.temperature, self.learning_rate) <= 0:
            raise InputError(f"{self}: expected steps >= 1, batch >= 2, pull >= 0, temperature and learning_rate > 0")


def train_adapter(
    pairs: Sequence[Pair],
    embedder: Embedder,
    side: Side = "query",
    settings: AdapterSettings = AdapterSettings(),
    *,
    store: TokenStore | None = None,
) -> LinearAdapter:
    """The matrix that brings each pair's query nearer to its passage than to the others of its batch.

    The texts are encoded once, which takes longer than all that follows; a token ``store`` of the same corpus and
    embedder has the passages' vectors already. The matrix returned did best on the pairs of held-out documents.

    Raises:
        InputError: an unknown ``side``, or too few pairs.
        StoreMismatchError: the store was built by another embedder, or a passage is not in it.
    """
    if store is not None and store.encoder.identity != embedder.identity:
        raise StoreMismatchError(f"a store of {store.encoder.identity!r}, but the embedder is {embedder.identity!r}")
    training, held_out = split_by_document(pairs, settings.share, settings.seed)
    texts, n = [*training, *held_out], len(training)
    queries = read_queries(embedder, [pair.query for pair in texts])
    positives = [pair.positive for pair in texts]
    passages = store.pool(positives) if store else embedder.encode([chunk.text for chunk in positives], "passage")
    matrix, history = fit_matrix((queries[:n], passages[:n]), (queries[n:], passages[n:]), side, settings)
    return LinearAdapter(matrix, side, embedder.identity, history)


def read_queries(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """The queries' vectors. A model on this machine reads passages in batches, which is quicker, and means the same
    where neither kind has a prefix."""
    prefixes = getattr(getattr(embedder, "inner", embedder), "prefixes", None)  # a cache has the model inside
    same = prefixes is not None and not any(prefixes.values())
    return embedder.encode(texts, "passage" if same else "query")


def fit_matrix(
    training: tuple[Vectors, Vectors],
    held_out: tuple[Vectors, Vectors],
    side: Side = "query",
    settings: AdapterSettings = AdapterSettings(),
) -> tuple[Vectors, tuple[Look, ...]]:
    """The best matrix ``(d, d)`` for ``(query vectors, passage vectors)``, and the losses on the way, by Adam.

    Adam: Kingma and Ba (2015), https://arxiv.org/abs/1412.6980

    Raises:
        InputError: an unknown ``side``.
    """
    if side not in SIDES:
        raise InputError(f"side {side!r}: expected one of {', '.join(SIDES)}")
    rng = np.random.default_rng(settings.seed)
    identity = np.eye(training[0].shape[1], dtype=np.float32)
    matrix, mean, square = identity, np.zeros_like(identity), np.zeros_like(identity)
    sample = rng.permutation(len(training[0]))[: max(2, len(held_out[0]))]  # as many as held out: losses that compare
    looks, best = [], (np.inf, identity)
    for step in range(settings.steps + 1):
        if step % _EVERY == 0 or step == settings.steps:
            losses = [
                _loss(matrix, q, p, side, settings) for q, p in ((training[0][sample], training[1][sample]), held_out)
            ]
            looks.append((step, losses[0], losses[1]))
            best = min(best, (losses[1], matrix), key=lambda pair: pair[0])
        rows = rng.permutation(len(training[0]))[: settings.batch]
        gradient = loss_gradient(matrix, training[0][rows], training[1][rows], settings.temperature, side)
        gradient = gradient + 2 * settings.pull * (matrix - identity)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        move = (mean / (1 - 0.9 ** (step + 1))) / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
        matrix = (matrix - settings.learning_rate * move).astype(np.float32)
    return best[1], tuple(looks)


def _loss(matrix: Vectors, queries: Vectors, passages: Vectors, side: Side, settings: AdapterSettings) -> float:
    found = unit(passages @ matrix) if side == "both" else passages
    return contrastive_loss(unit(queries @ matrix), found, settings.temperature)


class Adapted:
    """``embedder`` behind ``adapter``: an embedder again.

    Where the embedder hands out token vectors, so does this: the mean of adapted vectors is the adapted mean.

    >>> from ragkit.testing import FakeEmbedder
    >>> plain = FakeEmbedder(dimension=4)
    >>> same = Adapted(plain, LinearAdapter(np.eye(4, dtype=np.float32), "query", plain.identity))
    >>> bool(np.allclose(same.encode(["red wine"], "query"), plain.encode(["red wine"], "query")))
    True

    Raises:
        StoreMismatchError: the adapter was trained on another embedder's vectors.
    """

    def __init__(self, embedder: Embedder, adapter: LinearAdapter) -> None:
        if adapter.embedder != embedder.identity:
            raise StoreMismatchError(
                f"the adapter was trained on vectors of {adapter.embedder!r}, this embedder is {embedder.identity!r}: "
                "train one for it"
            )
        self.embedder, self.adapter = embedder, adapter
        self.name = f"{embedder.name}+adapter"
        self.dimension = embedder.dimension
        self.identity = f"{embedder.identity}+{adapter.identity}"

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``."""
        vectors = self.embedder.encode(texts, kind)
        return self.adapter.apply(vectors) if self._adapts(kind) else vectors

    def _adapts(self, kind: Kind) -> bool:
        return kind == "query" or self.adapter.side == "both"


class AdaptedTokens(Adapted):
    """``Adapted`` for an embedder that hands out token vectors, for token stores.

    ``TokenStore.open(corpus, adapted(embedder, adapter))`` takes the embedder's own store where the adapter changes
    queries only.
    """

    embedder: TokenEncoder

    @property
    def passage_identity(self) -> str:
        """Whose vectors the passages have."""
        return self.identity if self._adapts("passage") else self.embedder.identity

    @property
    def tokenizer(self) -> Tokenizer:
        return self.embedder.tokenizer

    @property
    def max_tokens(self) -> int:
        return self.embedder.max_tokens

    def tokenize(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        return self.embedder.tokenize(text)

    def encode_windows(self, windows: Sequence[Ids], kind: Kind = "passage") -> Iterator[tuple[int, WindowVectors]]:
        for i, vectors in self.embedder.encode_windows(windows, kind):
            if self._adapts(kind):
                vectors = WindowVectors(vectors.tokens @ self.adapter.matrix, vectors.mean @ self.adapter.matrix)
            yield i, vectors


def adapted(embedder: Embedder, adapter: LinearAdapter) -> Adapted:
    """``embedder`` behind ``adapter``, with token vectors where ``embedder`` has them."""
    return (AdaptedTokens if isinstance(embedder, TokenEncoder) else Adapted)(embedder, adapter)
