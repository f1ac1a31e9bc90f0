"""A linear adapter: one matrix behind a frozen embedder, trained in seconds on a CPU.

The embedder is not touched and need not even be here: vectors that an API returned are enough. Only questions pass
through the matrix, so no index has to be built again.

The matrix starts as the identity, is pulled back to it, and the one that did best on held-out documents is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Embedder, Kind, StoreMismatchError, Vectors
from ragkit.embedding import TokenEncoder, encode, unit
from ragkit.embedding.vectors import Ids, WindowVectors
from ragkit.token_store import TokenStore
from ragkit.training.pairs import Pair, split_by_document

Loss = tuple[int, float, float]
"""A step, the loss on training pairs, the loss on held-out pairs."""
Groups = NDArray[np.int64]
"""``(n,)``: pairs with the same number have the same passage, or a part of it."""
_EVERY = 10  # steps between two measurements


@dataclass(frozen=True, eq=False)
class LinearAdapter:
    """``matrix`` ``(d, d)``, float32: the vector ``v`` of a question becomes ``v @ matrix`` at length 1.

    ``embedder`` is the identity of the embedder whose vectors it was trained on. ``history`` holds the losses on the
    way.
    """

    matrix: Vectors
    embedder: str
    history: tuple[Loss, ...] = ()

    def apply(self, vectors: Vectors) -> Vectors:
        """Unit vectors ``(n, d)`` from vectors ``(n, d)``."""
        return unit(vectors @ self.matrix)

    @property
    def identity(self) -> str:
        """Names the numbers: equal identity, equal vectors."""
        return f"query:{hashlib.sha256(np.ascontiguousarray(self.matrix).tobytes()).hexdigest()[:12]}"


def contrastive_loss(
    queries: NDArray[np.float32], passages: NDArray[np.float32], temperature: float, groups: Groups | None = None
) -> float:
    """How badly each query tells its own passage from all others; row ``i`` of both belong together.

    ``mean_i -log(exp(q_i.p_i / t) / sum_j exp(q_i.p_j / t))``: InfoNCE (van den Oord et al., 2018), which
    sentence-transformers calls MultipleNegativesRankingLoss. https://arxiv.org/abs/1807.03748
    A passage of the same group is not counted among the others: it answers the query, too.

    >>> same = np.eye(2, dtype=np.float32)
    >>> round(contrastive_loss(same, same, 1.0), 4)
    0.3133
    """
    logits = _without_same(queries @ passages.T / temperature, groups)
    return float(np.mean(np.logaddexp.reduce(logits, axis=1) - np.diag(logits)))


def _without_same(logits: Vectors, groups: Groups | None) -> Vectors:
    """``logits`` with minus infinity for the other passages of a query's own group."""
    if groups is None:
        return logits
    same = (groups[:, None] == groups) & ~np.eye(len(groups), dtype=bool)
    return np.asarray(np.where(same, -np.inf, logits), dtype=logits.dtype)


def loss_gradient(
    matrix: Vectors, queries: Vectors, passages: Vectors, temperature: float, groups: Groups | None = None
) -> Vectors:
    """The derivative ``(d, d)`` by the matrix of ``contrastive_loss`` of adapted queries.

    Pull each query to its passage, push it from the others by how much it is taken in by them (softmax), and
    leave out what would only change a length.
    """
    adapted_queries = queries @ matrix
    length = np.linalg.norm(adapted_queries, axis=1, keepdims=True).clip(1e-12)
    direction = adapted_queries / length
    logits = _without_same(direction @ passages.T / temperature, groups)
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    error = (softmax - np.eye(len(queries), dtype=np.float32)) / (len(queries) * temperature)
    move = error @ passages
    sideways = move - (move * direction).sum(axis=1, keepdims=True) * direction
    return np.asarray(queries.T @ (sideways / length), dtype=np.float32)


@dataclass(frozen=True)
class AdapterSettings:
    """``l2_to_identity`` weighs the squared distance to the identity: 0 forgets what the embedder knew, 1 keeps it.

    Adam takes ``steps`` steps with ``batch`` pairs each; ``temperature`` divides the cosines in the loss. A ``share``
    of the documents is held out.
    """

    l2_to_identity: float = 0.03
    steps: int = 80
    batch: int = 512
    temperature: float = 0.05
    learning_rate: float = 3e-4
    share: float = 0.1
    seed: int = 0


def train_adapter(
    pairs: Sequence[Pair],
    embedder: Embedder,
    settings: AdapterSettings = AdapterSettings(),
    *,
    store: TokenStore | None = None,
) -> LinearAdapter:
    """The matrix that brings each pair's query nearer to its passage than to the others of its batch.

    The texts are encoded once, which takes longer than all that follows; a token ``store`` of the same corpus and
    embedder has the passages' vectors already. The matrix returned did best on the pairs of held-out documents.

    Raises:
        InputError: too few pairs.
        StoreMismatchError: the store was built by another embedder, or a passage is not in it.
    """
    if store is not None and store.encoder.identity != embedder.identity:
        raise StoreMismatchError(f"a store of {store.encoder.identity!r}, but the embedder is {embedder.identity!r}")
    training, held_out = split_by_document(pairs, settings.share, settings.seed)
    both, n = [*training, *held_out], len(training)
    prefixes = getattr(getattr(embedder, "inner", embedder), "prefixes", None)  # a cache has the model inside
    # A model on this machine reads passages in batches, which is quicker. Without prefixes they are read like queries.
    kind: Kind = "passage" if prefixes is not None and not any(prefixes.values()) else "query"
    queries = encode(embedder, [pair.query for pair in both], kind)
    positives = [pair.positive for pair in both]
    passages = store.pool(positives) if store else encode(embedder, [chunk.text for chunk in positives])
    groups = passage_groups(positives)
    matrix, history = fit_matrix(
        (queries[:n], passages[:n]), (queries[n:], passages[n:]), settings, (groups[:n], groups[n:])
    )
    return LinearAdapter(matrix, embedder.identity, history)


def passage_groups(passages: Sequence[Chunk]) -> Groups:
    """A number for each of ``passages``, the same for those that end at the same place: a section's text, and what
    follows its first sentence (``cloze_pairs``)."""
    numbers: dict[tuple[str, int], int] = {}
    return np.array([numbers.setdefault((p.doc_id, p.end), len(numbers)) for p in passages], dtype=np.int64)


def fit_matrix(
    training: tuple[Vectors, Vectors],
    held_out: tuple[Vectors, Vectors],
    settings: AdapterSettings = AdapterSettings(),
    groups: tuple[Groups, Groups] | None = None,
) -> tuple[Vectors, tuple[Loss, ...]]:
    """The best matrix ``(d, d)`` for ``(query vectors, passage vectors)``, and the losses on the way, by Adam.

    ``groups`` of both say which passages are the same (``passage_groups``); these are no negatives of each other.

    Adam: Kingma and Ba (2015), https://arxiv.org/abs/1412.6980
    """
    own, other = groups or (np.arange(len(training[0])), np.arange(len(held_out[0])))

    def loss(queries: Vectors, passages: Vectors, groups: Groups) -> float:
        return contrastive_loss(unit(queries @ matrix), passages, settings.temperature, groups)

    rng = np.random.default_rng(settings.seed)
    identity = np.eye(training[0].shape[1], dtype=np.float32)
    matrix, mean, square = identity, np.zeros_like(identity), np.zeros_like(identity)
    sample = rng.permutation(len(training[0]))[: max(2, len(held_out[0]))]  # as many as held out: losses that compare
    history: list[Loss] = []
    best = (np.inf, identity)
    for step in range(settings.steps + 1):
        if step % _EVERY == 0 or step == settings.steps:
            history.append((step, loss(training[0][sample], training[1][sample], own[sample]), loss(*held_out, other)))
            best = min(best, (history[-1][2], matrix), key=lambda pair: pair[0])
        rows = rng.permutation(len(training[0]))[: settings.batch]
        gradient = loss_gradient(matrix, training[0][rows], training[1][rows], settings.temperature, own[rows])
        gradient = gradient + 2 * settings.l2_to_identity * (matrix - identity)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        move = (mean / (1 - 0.9 ** (step + 1))) / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
        matrix = (matrix - settings.learning_rate * move).astype(np.float32)
    return best[1], tuple(history)


class Adapted:
    """``embedder`` whose queries pass through ``adapter``: an embedder again.

    >>> from ragkit.testing import FakeEmbedder
    >>> plain = FakeEmbedder(dimension=4)
    >>> same = adapted(plain, LinearAdapter(np.eye(4, dtype=np.float32), plain.identity))
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
        self.name, self.dimension = f"{embedder.name}+adapter", embedder.dimension
        self.identity = f"{embedder.identity}+{adapter.identity}"

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``."""
        vectors = self.embedder.encode(texts, kind)
        return self.adapter.apply(vectors) if kind == "query" else vectors


class AdaptedTokens(Adapted):
    """``Adapted`` with token vectors, for token stores: the mean of adapted vectors is the adapted mean.

    ``TokenStore.open(corpus, adapted(embedder, adapter))`` takes the embedder's own vectors of the passages.
    """

    embedder: TokenEncoder

    def __init__(self, embedder: TokenEncoder, adapter: LinearAdapter) -> None:
        super().__init__(embedder, adapter)
        self.tokenizer, self.max_tokens, self.tokenize = embedder.tokenizer, embedder.max_tokens, embedder.tokenize
        self.passage_identity = embedder.identity  # whose vectors the passages have

    def encode_windows(self, windows: Sequence[Ids], kind: Kind = "passage") -> Iterator[tuple[int, WindowVectors]]:
        for i, vectors in self.embedder.encode_windows(windows, kind):
            if kind == "query":
                vectors = WindowVectors(vectors.tokens @ self.adapter.matrix, vectors.mean @ self.adapter.matrix)
            yield i, vectors


def adapted(embedder: Embedder, adapter: LinearAdapter) -> Adapted:
    """``embedder`` behind ``adapter``, with token vectors where ``embedder`` has them.

    Raises:
        StoreMismatchError: the adapter was trained on another embedder's vectors.
    """
    return AdaptedTokens(embedder, adapter) if isinstance(embedder, TokenEncoder) else Adapted(embedder, adapter)
