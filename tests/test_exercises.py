"""Every exercise of the course: its solution passes, each likely mistake is named in words, no answer is no error."""

from __future__ import annotations

import asyncio
import json
import math
from html import unescape
from pathlib import Path

import exercises as package
import nbformat
import numpy as np
import pytest
from exercises.check import check, check_number, exercises_of
from exercises.results import recorded
from frames import queries
from nbformat import NotebookNode
from notebook_solutions import checked, solution_blocks

from ragkit import BM25Retriever, DenseRetriever, FixedChunker, Hybrid, compare
from ragkit.base import Answer, Chunk, Corpus, Document, Hit, InputError, Question, Retriever, Span
from ragkit.production.alerts import Rule
from ragkit.production.alerts import check as fires
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.hybrid import fuse
from ragkit.retrieval.rewrite import ClauseSplitter, Rewritten
from ragkit.testing import FakeEmbedder
from ragkit.training.adapter import LinearAdapter, adapted
from ragkit.training.quantization import QuantizedRetriever, binary, int8, pca

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
NUMBERS = sorted(p.stem.removeprefix("nb") for p in Path(package.__path__[0]).glob("nb*.py"))
EXERCISES = {e.id: e for number in NUMBERS for e in exercises_of(number).values()}
LAST_OF_PART = {"I": "03", "II": "07", "III": "09", "IV": "10", "V": "14"}  # where the part's questions stand
QUIZZES = {e.id: e for part in LAST_OF_PART for e in exercises_of(part).values()}


def hits_with_answer_at(rank, length=1000):
    """200 hits, of which that at ``rank`` holds the answer about SCRIPT_NAME."""
    answer = "By default `SCRIPT_NAME` is an empty string.".ljust(length)
    texts = [answer if place == rank else "x" * length for place in range(1, 201)]
    return [Hit(Chunk("faq", 0, length, text), 1.0) for text in texts]


def stored_and_served(question, text="So.", **timings):
    """The answer that a cache has stored, and the one that it serves to ``question``."""
    stored = Answer("How do I set a soft time limit?", "So.", timings={"retrieve": 20.0})
    return [stored, Answer(question, text, timings={"cache": 1.0, **timings})]


def first_each(hits):
    found = {}
    for hit in hits:
        found.setdefault(hit.chunk.doc_id, hit)
    return list(found.values())


def keeping(chosen):
    """A retriever class that keeps what ``chosen(inner, k)`` returns."""

    class OnePerDocument(Retriever):
        def __init__(self, retriever):
            self.retriever = retriever

        def _search(self, query, k):
            return chosen(self.retriever, k)

    return OnePerDocument


def weeks_with_alerts(weeks=(1, 2, 3, 4), abstained=False, **rule):
    """What a rule says on four weeks of queries; in week 2 reranking takes five times as long, in week 3 writing."""
    rule = Rule(name="yours", **{"metric": "latency", "stage": "rerank", "above": 50.0} | rule)
    slow = {2: {"rerank_ms": 100.0}, 3: {"generate_ms": 100.0}}
    return {week: fires([rule], queries(60, abstained=abstained, **slow.get(week, {}))) for week in weeks}


def adapters_compared(*sources, number=20):
    """What ``compare`` says of searches with an adapter each, one for each of ``sources``; None is the embedder."""
    texts, embedder = [f"celery worker {n}" for n in range(number)], FakeEmbedder()
    chunks = [Chunk(text, 0, len(text), text) for text in texts]
    questions = [Question(text, text, (Span(text, 0, len(text)),)) for text in texts]
    systems = {}
    for n, source in enumerate(sources):
        matrix = np.diag(np.arange(1, 33) ** (len(source) / 9)).astype(np.float32) if source else None
        adapter = matrix is not None and LinearAdapter(matrix, embedder.identity)
        systems[f"system {n}"] = DenseRetriever(chunks, embedder=adapted(embedder, adapter) if adapter else embedder)
    return compare(systems, questions, progress=False)


class Knows(Retriever):
    """Returns the passage that answers a query of ``kind``, and ``otherwise`` for all others."""

    def __init__(self, kind, otherwise=None):
        self.kind, self.otherwise = kind, otherwise

    def _search(self, query, k):
        doc = query if query.startswith(self.kind) else self.otherwise
        return [Hit(Chunk(doc, 0, 60, PASSAGE), 1.0, self.kind)] if doc else []


PASSAGE = "a passage of twelve words, which is as long as the budget"
WORDS, MEANINGS = Knows("keyword", "wrong"), Knows("paraphrase", "wrong")


def names_and_meanings(systems=None, baseline="dense", keywords=32, same_budget=12):
    """What ``compare`` says of ``systems`` on questions that words know, and on a quarter as many that vectors know."""
    texts = [f"keyword{n:02d}" for n in range(keywords)] + [f"paraphrase{n:02d}" for n in range(keywords // 4)]
    questions = [Question(text, text, (Span(text, 0, 60),), (text[:-2],)) for text in texts]
    yours = {"yours": Hybrid([Knows("keyword"), MEANINGS])} if systems is None else systems
    named = {"dense": MEANINGS, **yours}
    return compare(named, questions, baseline=baseline, same_budget=same_budget, progress=False)


class BothWords:
    """A rewriter that knows one word of the documents for one of the questions."""

    def __init__(self, word="lamp", other="light"):
        self.word, self.other = word, other

    def rewrite(self, question):
        return [question, question.replace(self.word, self.other)]


def rewritten(rewriter=None, wrap=Rewritten, number=4, same_budget=20):
    """What ``compare`` says of a rewriter in front of BM25, on questions whose words the documents do not have."""
    chunks = [Chunk(f"d{n}", 0, 6, f"light{n}") for n in range(1, 6)]
    questions = [Question(f"q{n}", f"lamp{n}", (Span(f"d{n}", 0, 6),)) for n in range(1, number + 1)]
    systems = {"bm25": BM25Retriever(chunks)}
    if rewriter is not None:
        systems["me"] = wrap(systems["bm25"], rewriter)
    return compare(systems, questions, same_budget=same_budget, progress=False)


def analyzers_compared(analyzers=None, number=60, language="es_AR", shift=0, metric="hit@1"):
    """BM25 with an analyzer for each language (None: the default); the last one's texts are another's by ``shift``."""
    texts = [f"mensaje {n}" for n in range(number + shift)]
    questions = [Question(t, t, (Span(t, 0, len(t)),), ("translated", language)) for t in texts[shift:]]
    systems = {}
    for name, own in (analyzers or {"English": None, "Spanish": "spanish"}).items():
        chunks = [Chunk(text, 0, len(text), text) for text in texts[shift * len(systems) :]]
        systems[name] = BM25Retriever(chunks, analyzer=Analyzer(language=own) if own else None)
    return compare(systems, questions, metric=metric, progress=False)


class LengthEmbedder:
    """A stand-in for a model: the vector of a text is its number of characters, and a 1."""

    name = identity = "length"
    dimension, max_tokens = 2, 100

    def encode(self, texts, kind="passage"):
        vectors = np.array([[len(text), 1.0] for text in texts], dtype=np.float32).reshape(-1, 2)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def indexes_compared(build=None, number=60, baseline="mixed", same_budget=8):
    """One dense index, and what ``build(dense, texts)`` makes instead: by default two halves, fused."""
    texts = ["word " * n for n in range(1, number + 1)]

    def dense(texts):
        return DenseRetriever([Chunk(text, 0, len(text), text) for text in texts], embedder=LengthEmbedder())

    build = build or (lambda dense, texts: Hybrid([dense(texts[::2]), dense(texts[1::2])]))
    questions = [Question(text, text, (Span(text, 0, len(text)),)) for text in texts]
    systems = {"mixed": dense(texts), "apart": build(dense, texts)}
    return compare(systems, questions, baseline=baseline, same_budget=same_budget, progress=False)


def bm25(size, **settings):
    document = Document("d", "Tasks are retried. Workers are not. Queues wait for both of them, and so do you.")
    return BM25Retriever(FixedChunker(size, 0).chunk(document), **settings)


def compared(*systems, **settings):
    questions = [Question(str(i), "tasks and workers", (Span("d", 0, 18 + i),)) for i in range(2)]
    named = {f"system {i}": system for i, system in enumerate(systems)}
    return compare(named, questions, progress=False, **settings)


def labelled(quote):
    """A question about a lost key whose answer is ``quote``; "" is no answer."""
    gold = (Span("handbook", 0, len(quote)),) if quote else ()
    return Question("yours-001", "What if I lose my key?", gold, ("yours",), quote or None)


def failing(*texts, k=3):
    """A comparison of one system that finds a lamp and nothing else; all ask for the same page."""
    text = "A red lamp on the table."
    search = BM25Retriever([Chunk("page", 0, len(text), text)])
    questions = [Question(t, t, (Span("page", 0, len(text)),)) for t in texts]
    return compare({"advanced": search}, questions, k=k, progress=False)


def comparison(same_budget=8, **k1):
    """BM25 with each ``k1`` on two short pages, where repeated words count more or less."""
    texts = ("lamp " * 12, "A red lamp on a table.")
    corpus = Corpus("pages", tuple(Document(f"page{n}", text) for n, text in enumerate(texts)))
    chunks = [Chunk(d.id, 0, len(d.text), d.text) for d in corpus.documents]
    questions = [Question(text, text, (Span("page1", 0, len(texts[1])),)) for text in ("red lamp", "lamp table")]
    systems = {name: BM25Retriever(chunks, k1=value, b=0) for name, value in k1.items()}
    return compare(systems, questions, same_budget=same_budget, progress=False)


def fix_compared(*names, number=20, first="Why?", same_budget=20):
    """What ``compare`` says of systems of these ``names``, on ``number`` questions."""
    questions = [Question(str(n), first if not n else f"Why {n}?", (Span("d", 0, 18),)) for n in range(number)]
    systems = {name: bm25(3) for name in ("now", *names)}
    return compare(systems, questions, same_budget=same_budget, progress=False)


class Prefixed(FakeEmbedder):
    """Reads a word in front of every text, of its kind unless another is given."""

    def __init__(self, query="query", passage="passage"):
        super().__init__()
        self.words = {"query": query, "passage": passage}
        self.identity = f"prefixed {query} {passage}"

    def encode(self, texts, kind="passage"):
        return super().encode([f"{self.words[kind]} {text}" for text in texts], kind)


def pages(number):
    texts = [f"celery worker number {n}" for n in range(number)]
    chunks = [Chunk(text, 0, len(text), text) for text in texts]
    return chunks, [Question(text, text, (Span(text, 0, len(text)),)) for text in texts]


def embedded(embedder=None, baseline=None, number=20, **settings):
    """A search whose embedder reads questions as passages, or ``embedder``, beside one with prefixes."""
    chunks, questions = pages(number)
    embedders = {"E5": baseline or Prefixed(), "yours": embedder or Prefixed(query="passage")}
    systems = {name: DenseRetriever(chunks, embedder=each) for name, each in embedders.items()}
    return compare(systems, questions, progress=False, **settings)


def stored(quantize, width=384, number=20, **settings):
    """BM25 beside a search of random vectors, their first ``width`` numbers stored by ``quantize``."""
    chunks, questions = pages(number)
    vectors = np.random.default_rng(0).standard_normal((number, 384)).astype(np.float32)
    codes = quantize(vectors[:, :width])
    yours = QuantizedRetriever(chunks, codes, lambda query: vectors[0, :width])
    return compare({"bm25": BM25Retriever(chunks), "yours": yours}, questions, progress=False, **settings)


def best_threshold(scores, right, cost, measure=lambda good, bad, cost: good - cost * bad):
    def gain(threshold):
        given = scores >= threshold
        return measure(right[given].sum(), (~right[given]).sum(), cost)

    return max(scores, key=gain)


def blending(ranked):
    """A reranker class that returns what ``ranked(inner, query, hits, k)`` makes of an inner reranker."""

    class Blend:
        def __init__(self, reranker):
            self.reranker = reranker

        def rerank(self, query, hits, k):
            return ranked(self.reranker, query, hits, k)

    return Blend


class NoGenerate:
    """A model of lesson 15 with the mistake that its name, or that of a class below, says."""

    def __init__(self, model, fallback, seconds):
        self.model, self.fallback, self.seconds = model, fallback, seconds


class InTime(NoGenerate):
    async def generate(self, question, context):
        try:
            async with asyncio.timeout(self.seconds):
                return await self.model.generate(question, context)
        except TimeoutError:
            return await self.fallback.generate(question, context)


class Late(NoGenerate):
    async def generate(self, question, context):
        return await self.model.generate(question, context)


class Always(NoGenerate):
    async def generate(self, question, context):
        return await self.fallback.generate(question, context)


class Nothing(InTime):
    async def generate(self, question, context):
        await super().generate(question, context)


class Both(InTime):
    async def generate(self, question, context):
        await self.fallback.generate(question, context)
        return await super().generate(question, context)


class Uncaught(NoGenerate):
    async def generate(self, question, context):
        async with asyncio.timeout(self.seconds):
            return await self.model.generate(question, context)


class Forgetful(NoGenerate):
    async def generate(self, question, context):
        task = asyncio.create_task(self.model.generate(question, context))
        done, _ = await asyncio.wait([task], timeout=self.seconds)
        return await (task if done else self.fallback.generate(question, context))


class Silent(NoGenerate):
    async def generate(self, question, context):
        try:
            return await asyncio.wait_for(self.model.generate(question, context), self.seconds)
        except Exception:
            return await self.fallback.generate(question, context)


# For each exercise a right answer, and likely mistakes with words that the learner must read.
RIGHT = {
    "00.1": Answer("How do I turn it off?", "Press q. [1]", reason="unsure: the best passage holds only 9%"),
    "01.1": hits_with_answer_at(10),
    "02.1": (labelled("lost card"),),
    "02.2": failing("lamp", "ladder", "bench"),
    "03.1": comparison(bm25=1.5, changed=9.0),
    "06.1": names_and_meanings(),
    "A.1": rewritten(BothWords()),
    "05.1": embedded(same_budget=20),
    "07.1": blending(lambda inner, query, hits, k: fuse([hits, inner.rerank(query, hits, len(hits))], k)),
    "08.1": best_threshold,
    "09.1": lambda share, recall, alarms: share * recall / (share * recall + (1 - share) * alarms),
    "D.1": 299,
    "F.1": lambda detectable, questions, wanted: math.ceil(questions * (detectable / wanted) ** 2),
    "E.1": stored(int8, 192, same_budget=20),
    "B.1": adapters_compared("all", "headings"),
    "C.1": analyzers_compared(),
    "C.2": indexes_compared(),
    "10.1": keeping(lambda inner, k: first_each(inner.search("words", 10 * k))[:k]),
    "12.1": weeks_with_alerts(),
    "13.1": fix_compared("pinned", "yours"),
    "14.1": stored_and_served("How do I set a hard time limit?"),
    "15.1": InTime,
    "04.1": compared(bm25(3), bm25(6), same_budget=20),
}
WRONG = [
    ("00.1", Answer("Does Black have an API?", "Black is a tool. [1]", reason="unsure: little of it"), "in the lesson"),
    ("00.1", Answer("How do I whistle?", "Not found.", abstained=True, reason="no match"), "found nothing (no match)"),
    ("00.1", Answer("How do I quit?", "Press q. [1]"), "without a reservation"),
    ("01.1", ["SCRIPT_NAME"], "what rag.retriever.search"),
    ("01.1", hits_with_answer_at(None), "none of your 200 hits"),
    ("01.1", hits_with_answer_at(1, length=200), "shorter than those of rag"),
    ("01.1", hits_with_answer_at(101), "has rank 101"),
    ("01.1", hits_with_answer_at(11), "rank 11 is better"),
    ("02.1", labelled("lost card"), "expected to be"),
    ("02.1", (), "there are 0 things"),
    ("02.1", (labelled("lost card"), labelled("lost card")), "there are 2 things"),
    ("02.1", (labelled(""),), "has no quote"),
    ("02.1", (labelled("x" * 500),), "has 500 characters"),
    ("02.1", (labelled("key card opens"),), "does not say what happens"),
    ("02.2", "ladder", "expected to be"),
    ("02.2", failing("ladder", "bench"), "there are 2 questions"),
    ("02.2", failing("lamp", "ladder", "bench", k=10), "by k=3"),
    ("02.2", failing("lamp", "red lamp", "a lamp on the table"), "finds all"),
    ("03.1", "better", "expected to be"),
    ("03.1", comparison(bm25=1.5, changed=9.0, again=2.0), "compared 3 systems"),
    ("03.1", comparison(same_budget=None, bm25=1.5, changed=9.0), "10 results each"),
    ("03.1", comparison(bm25=1.5, changed=1.5), "changed nothing"),
    ("06.1", names_and_meanings({}), "only one system"),
    ("06.1", names_and_meanings({"hybrid": Hybrid([WORDS, MEANINGS])}, baseline="hybrid"), "is a hybrid itself"),
    ("06.1", names_and_meanings({"words": WORDS}), "is no Hybrid"),
    ("06.1", names_and_meanings(same_budget=None), "the same tokens"),
    ("06.1", names_and_meanings(keywords=8), "10 questions show very little"),
    ("06.1", names_and_meanings({"same": Hybrid([MEANINGS])}), "is: no detectable difference"),
    ("06.1", names_and_meanings({"words": Hybrid([WORDS, MEANINGS], weights=(1, 0))}), "worse on 'paraphrase'"),
    ("05.1", compared(bm25(3), bm25(6), same_budget=20), "with an embedder"),
    ("05.1", embedded(baseline=Prefixed(query="passage"), same_budget=20), "questions and passages alike"),
    ("05.1", embedded(Prefixed(passage="query"), same_budget=20), "reads passages in another way"),
    ("05.1", embedded(Prefixed(), same_budget=20), "still reads questions as questions"),
    ("05.1", embedded(Prefixed(query=""), same_budget=20), "neither as questions"),
    ("05.1", embedded(), "ten results"),
    ("05.1", embedded(number=19, same_budget=20), "19 questions show very little"),
    ("10.1", dict, "to be a Retriever"),
    ("10.1", keeping(lambda inner, k: ...), "no list of hits"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", 10 * k))), "expected at most 2"),
    ("10.1", keeping(lambda inner, k: inner.search("words", 8)[::-1][:k]), "expected the best first"),
    ("10.1", keeping(lambda inner, k: inner.search("words", k)), "come twice"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", k))), "for more than k"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", k + 1))), "for many hits"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", 8)[1:])[:k]), "than the *best*"),
    ("12.1", weeks_with_alerts((2,)), "expected the weeks 1 to 4"),
    ("12.1", weeks_with_alerts(above=500.0), "in no week"),
    ("12.1", weeks_with_alerts(metric="abstentions", above=0.0, abstained=True), "What was unusual"),
    ("12.1", weeks_with_alerts(above=10.0), "fires in week 1, too"),
    ("12.1", weeks_with_alerts(stage="generate"), "in week 3, and not in week 2"),
    ("13.1", fix_compared(), "only one system"),
    ("13.1", fix_compared("pinned", "advanced"), "fixes of the lesson"),
    ("13.1", fix_compared("yours", same_budget=None), "the same tokens"),
    ("13.1", fix_compared("yours", first="How do I return JSON?"), "flagged questions"),
    ("13.1", fix_compared("yours", number=2), "2 questions show very little"),
    ("14.1", [Answer("How do I set a soft time limit?", "So.")], "expected to be two answers"),
    ("14.1", ["How do I start it?", "How do I stop it?"], "expected to be two answers"),
    ("14.1", stored_and_served("how do I set a soft time limit"), "one question, asked twice"),
    ("14.1", stored_and_served("How do I set no soft time limit?", retrieve=9.0), "the guard has seen"),
    ("14.1", stored_and_served("How do I set a hard time limit?", retrieve=9.0), "below the threshold"),
    ("14.1", stored_and_served("How do I set a hard time limit?", text="Otherwise."), "a third question"),
    ("14.1", stored_and_served("How do I set no soft time limit?"), "the guard refuses"),
    ("15.1", NoGenerate, "async def generate"),
    ("15.1", Late, "your answer is 'late'"),
    ("15.1", Always, "is not what you return"),
    ("15.1", Nothing, "returned NoneType"),
    ("15.1", Both, "the fallback was asked all the same"),
    ("15.1", Uncaught, "nobody catches the TimeoutError"),
    ("15.1", Forgetful, "still at work"),
    ("15.1", Silent, "catch TimeoutError alone"),
    ("F.1", lambda d, n, w: ..., "still returns"),
    ("F.1", lambda d, n, w: str(n), "expected a number"),
    ("F.1", lambda d, n, w: n * d / w, "twice as many"),
    ("F.1", lambda d, n, w: n * w / d, "fewer questions"),
    ("F.1", lambda d, n, w: n * (w / d) ** 2, "above `wanted`"),
    ("F.1", lambda d, n, w: n * (d / w) ** 0.5, "It is its square"),
    ("F.1", lambda d, n, w: math.ceil(n * (d / w) ** 0.5), "It is its square"),
    ("F.1", lambda d, n, w: (d / w) ** 2, "how many *times*"),
    ("F.1", lambda d, n, w: 1000, "expected 1440"),
    ("F.1", lambda d, n, w: n * (d / w) ** 2, "round up"),
    ("F.1", lambda d, n, w: 1440, "expected 278"),
    ("F.1", lambda d, n: n, "raised TypeError"),
    ("A.1", rewritten(), "only one system"),
    ("A.1", rewritten(BothWords(), lambda bm25, rewriter: bm25), "but the baseline rewrites"),
    ("A.1", rewritten(ClauseSplitter()), "ClauseSplitter is ragkit's"),
    ("A.1", rewritten(BothWords(), same_budget=None), "the same tokens"),
    ("A.1", rewritten(BothWords(), number=3), "3 questions are too few"),
    ("A.1", rewritten(BothWords("lamp", "lamp")), "adds nothing to 'lamp1'"),
    ("A.1", rewritten(BothWords("lamp", "candle")), "the score of the baseline"),
    ("07.1", type("Empty", (), {}), "with a method"),
    ("07.1", blending(lambda inner, query, hits, k: None), "NoneType"),
    ("07.1", blending(lambda inner, query, hits, k: hits[:k]), "never asked"),
    ("07.1", blending(lambda inner, query, hits, k: (inner.rerank(query, hits, k), hits)[1]), "search alone"),
    ("07.1", blending(lambda inner, query, hits, k: inner.rerank(query, hits, k)), "inner reranker's order alone"),
    ("07.1", blending(lambda inner, query, hits, k: inner.rerank(query, hits, k)[::-1]), "expected a b d c"),
    ("07.1", blending(lambda inner, query, hits, k: fuse([hits, inner.rerank(query, hits, 9)], 9)), "returned 4 hits"),
    ("07.1", blending(lambda inner, query, hits, k: fuse([hits, inner.rerank(query, hits, k)], k)), "one of its two"),
    ("07.1", blending(lambda inner: None), "raised TypeError"),
    ("08.1", lambda s, r, c: ..., "still returns"),
    ("08.1", lambda s, r, c: s, "one threshold"),
    ("08.1", lambda s, r, c: best_threshold(s, r, c, lambda good, bad, c: good / (good + bad)), "maximise accuracy"),
    ("08.1", lambda s, r, c: best_threshold(s, r, c, lambda good, bad, c: good), "a wrong answer is given"),
    ("08.1", lambda s, r, c: s.min(), "two wrong answers"),
    ("08.1", lambda s, r, c: 2, "Return the threshold itself"),
    ("08.1", lambda s, r, c: 0.6, "*or more*"),
    ("08.1", lambda s, r, c: 0.5, "you return 0.5"),
    ("08.1", lambda s, r, c: 0.8, "with a cost of 0.5"),
    ("09.1", lambda share, recall, alarms: ..., "still returns"),
    ("09.1", lambda share, recall, alarms: share * recall, "Divide by all the accepted"),
    ("09.1", lambda share, recall, alarms: recall / (recall + alarms), "how few are supported"),
    ("09.1", lambda share, recall, alarms: share * recall + (1 - share) * alarms, "Which part of it"),
    ("09.1", lambda share, recall, alarms: 0.24 / 0.42, "*not* supported"),
    ("09.1", lambda share, recall, alarms: recall, "recall itself"),
    ("09.1", lambda share, recall, alarms: 1 - alarms, "is rejected"),
    ("09.1", lambda share, recall, alarms: share * recall / (share * recall + alarms), "by mistake"),
    ("09.1", lambda share, recall, alarms: 0.5, "You return 0.500"),
    ("E.1", compared(bm25(3), bm25(6), same_budget=20), "is a QuantizedRetriever"),
    ("E.1", stored(lambda vectors: pca(vectors, 192), same_budget=20), "192 numbers of 4 bytes"),
    ("E.1", stored(int8, same_budget=20), "all 384 numbers"),
    ("E.1", stored(binary, 192, same_budget=20), "bits, as in the lesson"),
    ("E.1", stored(binary, same_budget=20), "bits of all 384"),
    ("E.1", stored(lambda vectors: pca(vectors, 48), same_budget=20), "48 numbers of 4 bytes"),
    ("E.1", stored(int8, 96, same_budget=20), "96 bytes, expected 192"),
    ("E.1", stored(int8, 192), "ten results"),
    ("E.1", stored(int8, 192, number=19, same_budget=20), "19 questions"),
    ("D.1", 100, "37 %"),
    ("D.1", 95, "how sure"),
    ("D.1", 59, "rules out a rate of 5 %"),
    ("D.1", 459, "99 % sure"),
    ("D.1", 200, "still above 0.05"),
    ("D.1", 1000, "Fewer will do"),
    ("B.1", adapters_compared("all"), "one system"),
    ("B.1", adapters_compared("all", None), "without an adapter"),
    ("B.1", adapters_compared("all", "all"), "the same pairs"),
    ("B.1", adapters_compared("all", "headings", number=8), "8 questions show very little"),
    ("04.1", compared(bm25(3), same_budget=20), "one system"),
    ("04.1", compared(bm25(3), bm25(6)), "same_budget=2000"),
    ("04.1", compared(bm25(3), bm25(3), same_budget=20), "nothing was changed"),
    ("04.1", compared(bm25(3), bm25(6, contextual=True), same_budget=20), "two things"),
    ("C.1", analyzers_compared({"one": None}), "two systems"),
    ("C.1", analyzers_compared({"one": None, "two": "french"}), "a Spanish analyzer"),
    ("C.1", analyzers_compared({"one": "spanish", "two": "spanish"}), "compare with"),
    ("C.1", analyzers_compared(shift=1), "more than the analyzer"),
    ("C.1", analyzers_compared(language="es"), "to be Argentine"),
    ("C.1", analyzers_compared(number=20), "20 questions show"),
    ("C.1", analyzers_compared(metric="mrr@10"), "your metric is mrr@10"),
    ("C.2", indexes_compared(baseline="apart"), "to be the mixed index"),
    ("C.2", indexes_compared(lambda dense, texts: dense(texts)), "is a Hybrid"),
    ("C.2", indexes_compared(lambda dense, texts: Hybrid([dense(texts), dense(texts)])), "in common"),
    ("C.2", indexes_compared(lambda dense, t: Hybrid([dense(t[:9]), dense(t[9:20])])), "more than the fusion"),
    ("C.2", indexes_compared(same_budget=None), "the same tokens"),
    ("C.2", indexes_compared(number=20), "20 questions show"),
]


def test_every_exercise_is_tried_here():
    assert RIGHT.keys() == EXERCISES.keys()
    assert {name for name, _, _ in WRONG} == EXERCISES.keys()


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_passes(name):
    verdict = check(name, RIGHT[name])
    assert verdict.passed, verdict
    assert EXERCISES[name].praise in repr(verdict)


@pytest.mark.parametrize("name", EXERCISES)
def test_no_answer_is_told_what_kind_is_expected_and_no_hint(name):
    verdict = check(name, ...)
    assert verdict.state == "your turn"
    assert verdict == check(name)
    assert verdict.message.startswith("Put a")
    assert EXERCISES[name].hint not in repr(verdict)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_hint_comes_with_the_first_wrong_answer(name):
    wrong = next(answer for other, answer, words in WRONG if other == name and words != "expected to be")
    for shown in (repr(check(name, wrong)), unescape(check(name, wrong)._repr_html_())):
        assert f"Hint: {EXERCISES[name].hint}" in shown
    assert "Hint" not in repr(check(name, RIGHT[name]))
    assert "Hint" not in repr(check(name, None))  # which is no try


@pytest.mark.parametrize(("name", "answer", "words"), WRONG)
def test_a_mistake_is_named(name, answer, words):
    verdict = check(name, answer)
    assert verdict.state == "not yet"
    assert words in verdict.message


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("answer", [None, 3.5j, True, [], object], ids=repr)
def test_an_answer_of_another_type_is_told_which_is_expected(name, answer):
    assert "expected to be" in check(name, answer).message


@pytest.mark.parametrize("name", ["99.1", "01.9", "../01.1", "", "01"])
def test_an_unknown_exercise_is_refused(name):
    with pytest.raises(InputError, match="no exercise"):
        check(name, 1)


def test_a_refusal_lists_what_there_is():
    with pytest.raises(InputError, match=r"02\.1, 02\.2"):
        check("02.7", 1)


def test_recorded_figures_stand_under_their_names_and_say_when_and_where_they_were_measured(
    tmp_path, monkeypatch, capsys
):
    row = {"name": "tea: cups", "value": 2.5, "unit": "of 3", "target": ""}
    (tmp_path / "results").mkdir()
    (tmp_path / "notebooks").mkdir()
    text = json.dumps({"date": "2026-01-05", "machine": "a kettle", "rows": [row]})
    (tmp_path / "results" / "tea.json").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "notebooks")
    assert recorded("tea").to_dict("index") == {"tea: cups": {"value": 2.5, "unit": "of 3"}}
    assert capsys.readouterr().out == "tea: recorded 2026-01-05 on a kettle\n"


def test_a_verdict_is_escaped():
    html = check("I.1", "<img src=x onerror=alert(1)>")._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html


def cells(tag: str) -> list[tuple[str, NotebookNode]]:
    return [
        (path.stem, cell)
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
        if tag in cell.metadata.get("tags", ())
    ]


def folded() -> list[tuple[str, str]]:
    """The solutions in ``<details>``: notebook and code. ``notebook_rules`` runs them in their notebook's kernel."""
    markdown = [
        (p.stem, c) for p in NOTEBOOKS for c in nbformat.read(p, as_version=4).cells if c.cell_type == "markdown"
    ]
    return [(notebook, code) for notebook, cell in markdown for code in solution_blocks(cell.source)]


def shown(cell: NotebookNode) -> str:
    return "".join(str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs)


def test_every_exercise_stands_in_its_notebook_unanswered():
    found = cells("exercise")
    assert sorted(name for _, cell in found for name in checked(cell.source)) == sorted(EXERCISES)
    for notebook, cell in found:
        (name,) = checked(cell.source)
        assert notebook.startswith(name.partition(".")[0])
        assert shown(cell) == repr(check(name))


def test_every_exercise_has_one_solution_that_passes():
    hidden = cells("solution")
    solutions = [(notebook, cell.source) for notebook, cell in hidden] + folded()
    assert sorted(name for _, code in solutions for name in checked(code)) == sorted(EXERCISES)
    for notebook, code in solutions:
        (name,) = checked(code)
        assert notebook.startswith(name.partition(".")[0])
    for _, cell in hidden:
        (name,) = checked(cell.source)
        assert shown(cell) == repr(check(name, RIGHT[name]))


def test_the_questions_of_a_part_stand_at_its_end():
    found = [(notebook, name, cell) for notebook, cell in cells("quiz") for name in checked(cell.source)]
    for notebook, name, cell in found:
        assert notebook.startswith(LAST_OF_PART[name.partition(".")[0]])
        assert shown(cell) == repr(check(name))
    for path in NOTEBOOKS:
        if nbformat.read(path, as_version=4).metadata.get("edition") == 2:
            wanted = [
                name for part, last in LAST_OF_PART.items() if path.stem.startswith(last) for name in exercises_of(part)
            ]
            assert [name for notebook, name, _ in found if notebook == path.stem] == wanted


def test_solutions_are_folded_away():
    """JupyterLab shows the first line of a folded cell, so that line must not give the answer away."""
    for notebook, cell in cells("solution"):
        assert cell.metadata.get("jupyter") == {"outputs_hidden": True, "source_hidden": True}, notebook
        assert cell.source.startswith("# Solution"), notebook


def test_each_part_has_five_questions():
    assert [(part, len(exercises_of(part))) for part in LAST_OF_PART] == [(part, 5) for part in LAST_OF_PART]


@pytest.mark.parametrize("name", QUIZZES)
def test_a_question_shows_its_options_and_answers_each_letter_in_other_words(name):
    letters = "abcd"
    question, *options = check(name).message.split("\n")
    assert len(question) > 20
    assert [option[:4] for option in options] == [f"({letter}) " for letter in letters]
    verdicts = [check(name, letter) for letter in letters]
    assert sum(verdict.passed for verdict in verdicts) == 1
    assert len({verdict.message for verdict in verdicts}) == len(letters)
    assert min(len(verdict.message) for verdict in verdicts) > 30
    assert check(name, " (B). ") == check(name, "b")
    assert "none of the letters a, b, c, d" in check(name, "e").message


def test_the_options_of_a_question_are_lines_of_html():
    html = check("II.4")._repr_html_()
    assert html.count("<br>(") == 4


def test_a_whole_number_of_numpy_is_a_whole_number():
    assert check("D.1", np.int64(299)).passed
    assert "expected to be a whole number" in check("D.1", 299.0).message
    assert "expected to be a whole number" in check("D.1", True).message


def test_numbers_are_compared_with_a_tolerance_and_arrays_by_all_their_numbers():
    mistakes = [(5, "forgets"), (np.array([1.0, 2.0]), "turned")]
    assert check_number(6.004, 6, mistakes, "no", tolerance=0.005) is None
    assert check_number(5, 6, mistakes, "no") == "forgets"
    assert check_number(np.array([1.0, 2.0]), np.array([2.0, 1.0]), mistakes, "no") == "turned"
    assert check_number(np.array([1.0, 2.5]), np.array([2.0, 1.0]), mistakes, "no") == "no"
