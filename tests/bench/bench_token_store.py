"""What building the token store costs beside sentence-transformers, and what its int8 vectors cost in quality."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ragkit import FixedChunker, TokenStore, load_embedder, load_pydocs
from ragkit.base import Chunk, Corpus, Vectors
from ragkit.embedding import unit
from ragkit.embedding.models import TransformerEmbedder
from ragkit.evaluation.metrics import first_ranks, reciprocal_rank
from ragkit.token_store import quantise, windows
from ragkit.tokens import minilm_folder

Row = tuple[str, float, str, str]
ROUNDS = 5  # taken in turn, so that whatever else the machine does hits both


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def speed_beside_sentence_transformers(corpus: Corpus, model: TransformerEmbedder) -> list[Row]:
    """The same windows of 254 tokens through both in float32, and through ours in bfloat16: tokens a second, and how
    far the vectors differ."""
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(
        str(minilm_folder()), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )
    half = load_embedder(precision="bfloat16")
    assert isinstance(half, TransformerEmbedder)
    texts = []
    for document in corpus.documents:
        _, offsets = model.tokenize(document.text)
        for first in range(0, len(offsets) - model.max_tokens, model.max_tokens):
            text = document.text[offsets[first, 0] : offsets[first + model.max_tokens - 1, 1]]
            if len(model.tokenize(text)[0]) == model.max_tokens:  # a cut inside a word may change its tokens
                texts.append(text)
    texts = texts[:: len(texts) // 64][:64]

    tokens = [model.tokenize(text)[0] for text in texts]

    def encode(embedder: TransformerEmbedder) -> Vectors:
        vectors = dict(embedder.encode_windows(tokens))
        return np.concatenate([vectors[i].tokens for i in range(len(tokens))])

    count = len(texts) * model.max_tokens
    ours, theirs, halves = [], [], []
    for _ in range(ROUNDS):
        ours.append(timed(lambda: encode(model)))
        theirs.append(timed(lambda: reference.encode(texts)))
    for _ in range(2):
        halves.append(timed(lambda: encode(half)))
    cosines = (model.encode(texts) * reference.encode(texts, normalize_embeddings=True)).sum(axis=1)
    cells = quantise(encode(model))[0] != quantise(encode(half))[0]
    return [
        ("ours, float32", count / min(ours), "tokens/s", ""),
        ("SentenceTransformer.encode, float32", count / min(theirs), "tokens/s", ""),
        ("ours beside SentenceTransformer.encode", min(theirs) / min(ours), "times", ">= 1"),
        ("the same, median of the rounds", float(np.median(np.array(theirs) / ours)), "times", ""),
        ("least cosine of the same windows", float(cosines.min()), "", ">= 0.99999"),
        ("ours, bfloat16 beside float32", min(ours) / min(halves), "times", ""),
        ("int8 cells of the store that bfloat16 changes", 100 * float(cells.mean()), "%", ""),
    ]


def float32_pool(corpus: Corpus, chunks: Sequence[Chunk], model: TransformerEmbedder, stride: int) -> Vectors:
    """What ``TokenStore.pool`` gives, from token vectors that were never rounded."""
    pooled = np.zeros((len(chunks), model.dimension), dtype=np.float32)
    for document in corpus.documents:
        ids, offsets = model.tokenize(document.text)
        tokens = np.zeros((len(ids), model.dimension), dtype=np.float32)
        spans = [span for span in windows(len(ids), model.max_tokens, stride) if span[1]]
        for i, vectors in model.encode_windows([ids[a:b] for a, b, _, _ in spans]):
            start, _, first, last = spans[i]
            tokens[first:last] = vectors.tokens[first - start : last - start]
        for i, chunk in enumerate(chunks):
            if chunk.doc_id == document.id:
                first, last = np.searchsorted(offsets[:, 0], [chunk.start, chunk.end])
                pooled[i] = tokens[first:last].sum(axis=0)
    return unit(pooled)


def mrr(corpus: Corpus, chunks: Sequence[Chunk], queries: Vectors, vectors: Vectors) -> float:
    places = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10]
    found = [[chunks[i] for i in row] for row in places]
    ranks = [first_ranks(best, question.gold) for best, question in zip(found, corpus.questions, strict=True)]
    return float(np.mean([reciprocal_rank(r, 10) for r in ranks]))


def cost_of_int8(corpus: Corpus, store: TokenStore, model: TransformerEmbedder) -> list[Row]:
    """MRR@10 of mean-pooled chunks, int8 store against float32 token vectors."""
    queries = model.encode([q.text for q in corpus.questions], "query")
    sizes = (128, 512)
    cut = {size: [c for d in corpus.documents for c in FixedChunker(size, size // 8).chunk(d)] for size in sizes}
    both = [chunk for size in sizes for chunk in cut[size]]
    exact = float32_pool(corpus, both, model, model.max_tokens - model.max_tokens // 4)
    rounded = store.pool(both)
    rows: list[Row] = [
        ("least cosine of int8 to float32 pooling", float((exact * rounded).sum(axis=1).min()), "", ">= 0.999")
    ]
    at = 0
    for size, chunks in cut.items():
        part = slice(at, at := at + len(chunks))
        lost = mrr(corpus, chunks, queries, exact[part]) - mrr(corpus, chunks, queries, rounded[part])
        rows.append((f"MRR@10 lost by int8, {size} tokens", lost, "", "<= 0.005"))
    return rows


def speed_of_scoring(corpus: Corpus, store: TokenStore) -> list[Row]:
    chunks = [c for d in corpus.documents for c in FixedChunker(256, 32).chunk(d)]
    question = "How do I discard all waiting tasks?"
    store.pool(chunks), store.maxsim(question, chunks[:50])
    pool = min(timed(lambda: store.pool(chunks)) for _ in range(ROUNDS))
    late = min(timed(lambda: store.maxsim(question, chunks[:50])) for _ in range(ROUNDS * 4))
    return [
        ("pool all chunks of 256 tokens", pool, "s", "<= 0.15"),
        ("maxsim over 50 chunks of 256 tokens", late * 1000, "ms", "<= 20"),
    ]


def main() -> list[Row]:
    corpus, model = load_pydocs("core"), load_embedder()
    assert isinstance(model, TransformerEmbedder)
    store = TokenStore.open(corpus, model)
    return [
        *speed_beside_sentence_transformers(corpus, model),
        *speed_of_scoring(corpus, store),
        *cost_of_int8(corpus, store, model),
    ]
