"""What went wrong, as training data: the confirmed place is what a question should find, what was shown is what not.

    pairs = training_pairs(feedback, regressions)
    adapter = train_on_feedback(pairs, make_pairs(corpus, negatives=0), embedder, store=store)

Do not expect much. After 116 confirmed questions (simulated readers, ``core``), asked 124 questions about documents
that no training had seen, MRR@10 was .429 without an adapter, .455 with the documents' own pairs, and with feedback
added .475 (p = .43), .462 where each pair counted ten times, and .456 of those without the negatives: no detectable
difference (``python tests/run_bench.py feedback``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ragkit.base import Chunk, Corpus, Embedder, InputError, Span, Vectors
from ragkit.production.feedback import FeedbackStore
from ragkit.production.opinions import same
from ragkit.production.regression import RegressionSet
from ragkit.production.review import span_of
from ragkit.token_store import TokenStore
from ragkit.tokens import minilm_tokenizer
from ragkit.training.adapter import AdapterSettings, LinearAdapter, fit_matrix, read_queries
from ragkit.training.pairs import Pair, split_by_document

NEGATIVES = 3
SETTINGS = AdapterSettings()


def training_pairs(
    feedback: FeedbackStore, regressions: RegressionSet, *, tokens: int = 128, negatives: int = NEGATIVES
) -> tuple[Pair, ...]:
    """For each confirmed question and each place of its answer: the question, that place, and passages that were shown.

    The place is cut at ``tokens``, as in ``make_pairs``. Negatives are the first ``negatives`` of: flagged passages,
    then those that a disliked answer had before it, best first; none that answers the question. Questions that nobody
    has confirmed give nothing: what a thumb down is about is a guess.

    Raises:
        InputError: ``tokens`` < 8 or ``negatives`` < 0.
        DatabaseTrouble, CorpusError: the feedback or the set can't be read.
    """
    if tokens < 8 or negatives < 0:
        raise InputError(f"tokens = {tokens}, negatives = {negatives}: expected tokens >= 8 and negatives >= 0")
    wrong: dict[str, dict[str, None]] = {}
    bad = [opinion for opinion in feedback.all() if opinion.thumb < 0]
    for opinion in bad:
        wrong.setdefault(same(opinion.question), {}).update(dict.fromkeys(opinion.flagged))
    for opinion in bad:
        wrong[same(opinion.question)].update(dict.fromkeys(opinion.shown))
    corpus = regressions.corpus
    ids = {document.id for document in corpus.documents}
    pairs = []
    for question in regressions.questions:
        spans = [span for span in map(span_of, wrong.get(same(question.text), ())) if span.doc_id in ids]
        others = [span for span in spans if not any(span.answers(gold) for gold in question.gold)]
        chunks = tuple(_chunk(corpus, span) for span in others[:negatives])
        pairs += [Pair(question.text, _cut(_chunk(corpus, gold), tokens), "feedback", chunks) for gold in question.gold]
    return tuple(pairs)


def train_on_feedback(
    feedback: Sequence[Pair],
    documents: Sequence[Pair],
    embedder: Embedder,
    settings: AdapterSettings = SETTINGS,
    *,
    store: TokenStore | None = None,
    times: int = 1,
) -> LinearAdapter:
    """An adapter for questions, from the documents' own pairs and from feedback, whose negatives are used as such.

    Each pair of ``feedback`` counts ``times``. What held-out ``documents`` like best is kept, so feedback that harms
    them is not learnt.

    Raises:
        InputError: no feedback, ``times`` < 1, or too few documents.
        StoreMismatchError: a passage is not in ``store``.
    """
    if not feedback or times < 1:
        raise InputError(f"{len(feedback)} pairs from feedback, times = {times}: expected 1 or more")
    own, held_out = split_by_document(documents, settings.share, settings.seed)
    training = [*own, *(pair for pair in feedback for _ in range(times))]
    negatives = list(dict.fromkeys(chunk for pair in feedback for chunk in pair.negatives))

    def passages(chunks: Sequence[Chunk]) -> Vectors:
        return store.pool(chunks) if store else embedder.encode([chunk.text for chunk in chunks])

    texts = list(dict.fromkeys(pair.query for pair in (*training, *held_out)))
    known = dict(zip(texts, read_queries(embedder, texts), strict=True))

    def queries(pairs: Sequence[Pair]) -> Vectors:
        return np.array([known[pair.query] for pair in pairs], dtype=np.float32)

    # A negative is one more passage that a question must be told from. It has no question of its own: a row of zeros
    # has no direction, so it adds nothing to the gradient, while its passage stands among the others of the batch.
    none = np.zeros((len(negatives), embedder.dimension), dtype=np.float32)
    seen = [pair.positive for pair in training] + negatives
    rows = np.concatenate([queries(training), none]), passages(seen)
    matrix, history = fit_matrix(rows, (queries(held_out), passages([p.positive for p in held_out])), "query", settings)
    return LinearAdapter(matrix, "query", embedder.identity, history)


def _chunk(corpus: Corpus, span: Span) -> Chunk:
    document = corpus.document(span.doc_id)
    text = document.text[span.start : span.end]
    end = span.start + len(text)
    return Chunk(document.id, span.start, end, text, document.section_at(span.start), document.metadata)


def _cut(chunk: Chunk, tokens: int) -> Chunk:
    offsets = minilm_tokenizer().offsets(chunk.text)
    if len(offsets) <= tokens:
        return chunk
    end = int(offsets[tokens - 1, 1])
    return replace(chunk, end=chunk.start + end, text=chunk.text[:end])
