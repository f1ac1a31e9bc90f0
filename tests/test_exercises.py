"""Every exercise of the course: its solution passes, each likely mistake is named in words, no answer is no error."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import exercises as package
import nbformat
import numpy as np
import pytest
from exercises.check import check, check_number, exercises_of
from nbformat import NotebookNode
from notebook_solutions import checked, solution_blocks

from ragkit import BM25Retriever, DenseRetriever, FixedChunker, Hybrid, compare
from ragkit.base import Answer, Chunk, Corpus, Document, Hit, InputError, Question, Retriever, Span
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.hybrid import fuse
from ragkit.retrieval.modular import NameSplitter, RegexClassifier, Router, SubQuestions

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


def numbers_in(reply):
    return [int(number) for number in re.findall(r"\[(\d+)\]", reply)]


def softmax(cosines, temperature):
    return np.exp(cosines / temperature) / np.exp(cosines / temperature).sum()


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


def hops_compared(system=None, kind="multihop", number=20, **settings):
    """What ``compare`` says of sub-questions around a search without a router, or of ``system``."""
    texts = [f"celery worker {n}" for n in range(number)]
    chunks = [Chunk(text, 0, len(text), text, metadata={"project": "celery"}) for text in texts]
    questions = [Question(text, text, (Span(text, 0, len(text)),), (kind,)) for text in texts]
    best, splitter = BM25Retriever(chunks), NameSplitter({"celery": "celery", "scrapy": "scrapy"})
    systems = {"best": best} | (system(best, splitter) if system else {"hops": SubQuestions(best, splitter)})
    return compare(systems, questions, progress=False, **settings)


def routed(best, splitter):
    router = Router({"celery": best}, RegexClassifier({"celery": "celery"}), best)
    return {"hops": SubQuestions(router, splitter)}


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


def pack(sentences, size):
    chunks, tokens = [], size
    for text, count in sentences:
        if not chunks or tokens + count > size:
            chunks.append([])
            tokens = 0
        chunks[-1].append(text)
        tokens += count
    return chunks


def bm25(size, **settings):
    document = Document("d", "Tasks are retried. Workers are not. Queues wait for both of them, and so do you.")
    return BM25Retriever(FixedChunker(size, 0).chunk(document), **settings)


def compared(*systems, **settings):
    questions = [Question(str(i), "tasks and workers", (Span("d", 0, 18 + i),)) for i in range(2)]
    named = {f"system {i}": system for i, system in enumerate(systems)}
    return compare(named, questions, progress=False, **settings)


def comparison(same_budget=8, **k1):
    """BM25 with each ``k1`` on two short pages, where repeated words count more or less."""
    texts = ("lamp " * 12, "A red lamp on a table.")
    corpus = Corpus("pages", tuple(Document(f"page{n}", text) for n, text in enumerate(texts)))
    chunks = [Chunk(d.id, 0, len(d.text), d.text) for d in corpus.documents]
    questions = [Question(text, text, (Span("page1", 0, len(texts[1])),)) for text in ("red lamp", "lamp table")]
    systems = {name: BM25Retriever(chunks, k1=value, b=0) for name, value in k1.items()}
    return compare(systems, questions, same_budget=same_budget, progress=False)


def best_threshold(scores, right, cost, measure=lambda good, bad, cost: good - cost * bad):
    def gain(threshold):
        given = scores >= threshold
        return measure(right[given].sum(), (~right[given]).sum(), cost)

    return max(scores, key=gain)


def mean_and_coverage(verdicts):
    known = [v for v in verdicts if v is not None]
    return (sum(known) / len(known) if known else None), len(known) / len(verdicts)


def filled(value):
    """The mean with ``value`` for what is missing."""
    return lambda verdicts: np.mean([value if v is None else v for v in verdicts])


def blending(ranked):
    """A reranker class that returns what ``ranked(inner, query, hits, k)`` makes of an inner reranker."""

    class Blend:
        def __init__(self, reranker):
            self.reranker = reranker

        def rerank(self, query, hits, k):
            return ranked(self.reranker, query, hits, k)

    return Blend


# For each exercise a right answer, and likely mistakes with words that the learner must read.
RIGHT = {
    "00.1": "Retrieve ",
    "00.2": Answer("How do I turn it off?", "Press q. [1]", reason="unsure: the best passage holds only 9%"),
    "01.1": lambda reply, n: list(dict.fromkeys(i for i in numbers_in(reply) if 1 <= i <= n)),
    "01.2": hits_with_answer_at(10),
    "03.1": lambda chunk, gold: chunk.overlap(gold) > 0 and 2 * chunk.overlap(gold) >= min(len(chunk), len(gold)),
    "03.2": comparison(bm25=1.5, changed=9.0),
    "05.1": 1.0,
    "05.2": lambda vector, d: vector[:d] / (vector[:d] ** 2).sum() ** 0.5,
    "05.3": 24.576,
    "06.1": lambda tf, length, k1, b: tf / (tf + k1 * (1 - b + b * length)),
    "06.2": 61,
    "A.1": lambda asked, learnt, weight: (1 - weight) * asked / asked.sum() + weight * learnt,
    "A.2": 2,
    "A.3": 680,
    "07.1": blending(lambda inner, query, hits, k: fuse([hits, inner.rerank(query, hits, len(hits))], k)),
    "12.1": lambda stages: max(stages, key=lambda name: np.quantile(stages[name], 0.95)),
    "12.2": 365 * 0.05,
    "12.3": 10,
    "08.1": lambda cited, gold: sum(any(c.span.answers(g) for g in gold) for c in cited) / len(cited),
    "08.2": best_threshold,
    "09.1": lambda share, recall, alarms: share * recall / (share * recall + (1 - share) * alarms),
    "09.2": mean_and_coverage,
    "D.1": 299,
    "C.1": analyzers_compared(),
    "C.2": indexes_compared(),
    "B.1": lambda cosines, right, t: -np.log(softmax(cosines, t)[right]),
    "B.2": 100,
    "B.3": " C",
    "10.1": keeping(lambda inner, k: first_each(inner.search("words", 10 * k))[:k]),
    "10.2": hops_compared(same_budget=2000),
    "13.1": lambda asked, up, down, sure: asked * (down + 1) / (down + up + 2) * sure,
    "13.3": 4 / 14,
    "13.2": "c",
    "14.1": lambda settings, tenant, question: json.dumps([settings, tenant, " ".join(question.split())]),
    "14.2": 50,
    "14.3": 0.95,
    "04.1": pack,
    "04.2": compared(bm25(3), bm25(6), same_budget=20),
}
WRONG = [
    ("00.1", "generate", "only sees the passages"),
    ("00.1", "augmentation", "never found"),
    ("00.1", "search engine", "none of the three stages"),
    ("00.2", Answer("Does Black have an API?", "Black is a tool. [1]", reason="unsure: little of it"), "in the lesson"),
    ("00.2", Answer("How do I whistle?", "Not found.", abstained=True, reason="no match"), "found nothing (no match)"),
    ("00.2", Answer("How do I quit?", "Press q. [1]"), "without a reservation"),
    ("01.1", lambda reply, n: ..., "still returns"),
    ("01.1", lambda reply, n: set(numbers_in(reply)), "expected a list"),
    ("01.1", lambda reply, n: re.findall(r"\[(\d+)\]", reply), "holds texts"),
    ("01.1", lambda reply, n: numbers_in(reply), "and [2] twice"),
    ("01.1", lambda reply, n: [i for i in numbers_in(reply) if 1 <= i <= n], "cited twice"),
    ("01.1", lambda reply, n: list(dict.fromkeys(numbers_in(reply))), "holds 7 and 0"),
    ("01.1", lambda reply, n: list(dict.fromkeys(i for i in numbers_in(reply) if i)), "holds 7."),
    ("01.1", lambda reply, n: list(dict.fromkeys(i for i in numbers_in(reply) if i <= n)), "numbered from 1"),
    ("01.1", lambda reply, n: [i for i in range(1, n + 1) if f"[{i}]" in reply], "come first"),
    ("01.1", lambda reply, n: [], "no source"),
    ("01.1", lambda reply, n: [3], "you return [3]"),
    ("01.1", lambda reply, n: [2, 1] if n == 3 else [1, 2], "two digits"),
    ("01.1", lambda reply, n: [12] if n == 12 else [2, 1], "empty list"),
    ("01.1", lambda reply: [], "raised TypeError"),
    ("01.2", ["SCRIPT_NAME"], "what rag.retriever.search"),
    ("01.2", hits_with_answer_at(None), "none of your 200 hits"),
    ("01.2", hits_with_answer_at(1, length=200), "shorter than those of rag"),
    ("01.2", hits_with_answer_at(101), "has rank 101"),
    ("01.2", hits_with_answer_at(11), "rank 11 is better"),
    ("03.1", lambda c, g: ..., "still returns"),
    ("03.1", lambda c, g: c.overlap(g), "return True or False"),
    ("03.1", lambda c, g: False, "exactly the gold"),
    ("03.1", lambda c, g: min(c.end, g.end) > max(c.start, g.start), "another document"),
    ("03.1", lambda c, g: c.doc_id == g.doc_id, "does not touch"),
    ("03.1", lambda c, g: c.overlap(g) > 0, "touching is not enough"),
    ("03.1", lambda c, g: 2 * c.overlap(g) >= len(g), "shorter of the two is the chunk"),
    ("03.1", lambda c, g: 2 * c.overlap(g) >= max(len(c), len(g)), "shorter of the two is the chunk"),
    ("03.1", lambda c, g: 2 * c.overlap(g) >= len(c), "shorter of the two is the gold"),
    ("03.1", lambda c, g: 2 * c.overlap(g) > min(len(c), len(g)), "at least"),
    ("03.1", lambda c, g: c.nothing, "raised AttributeError"),
    ("03.2", "better", "expected to be"),
    ("03.2", comparison(bm25=1.5, changed=9.0, again=2.0), "compared 3 systems"),
    ("03.2", comparison(same_budget=None, bm25=1.5, changed=9.0), "10 results each"),
    ("03.2", comparison(bm25=1.5, changed=1.5), "changed nothing"),
    ("05.1", 0.0, "with MiniLM"),
    ("05.1", 0.5, "too few"),
    ("05.1", 100, "between 0 and 1"),
    ("05.1", "all", "expected to be"),
    ("05.2", lambda vector, d: ..., "still returns"),
    ("05.2", lambda vector, d: vector[:d], "its length is 0.6"),
    ("05.2", lambda vector, d: vector[:d] / vector[:d].sum(), "root of the squares"),
    ("05.2", lambda vector, d: vector[:d] / (vector**2).sum() ** 0.5, "its length is 0.6"),
    ("05.2", lambda vector, d: vector[-d:] / (vector[-d:] ** 2).sum() ** 0.5, "last two"),
    ("05.2", lambda vector, d: vector * [1, 1, 0, 0], "nothing is saved"),
    ("05.2", lambda vector, d: vector, "expected 2 numbers"),
    ("05.2", lambda vector, d: vector[:d] * 0, "expected [0.8, 0.6]"),
    ("05.2", lambda vector: vector, "raised TypeError"),
    ("05.3", 6.144, "takes 4 bytes"),
    ("05.3", 12.288, "There are two"),
    ("05.3", 24576, "megabytes"),
    ("05.3", 24_576_000_000, "these are bytes"),
    ("05.3", 3.072, "384 numbers"),
    ("05.3", 49.152, "8 bytes a number"),
    ("05.3", 22.888, "gibibytes"),
    ("05.3", 1.0, "Multiply"),
    ("06.1", lambda tf, length, k1, b: ..., "still returns"),
    ("06.1", lambda tf, length, k1, b: "high", "is a number"),
    ("06.1", lambda tf, length, k1, b: tf, "ten repetitions"),
    ("06.1", lambda tf, length, k1, b: tf / (tf + k1), "length has no effect"),
    ("06.1", lambda tf, length, k1, b: (k1 + 1) * tf / (tf + k1 * (1 - b + b * length)), "as Okapi does"),
    ("06.1", lambda tf, length, k1, b: tf / (tf + k1 * 1 - b + b * length), "whole bracket"),
    ("06.1", lambda tf, length, k1, b: tf / (tf + k1 * (1 - b + b / length)), "you divide by length"),
    ("06.1", lambda tf, length, k1, b: tf / (tf + k1 * (b + (1 - b) * length)), "changed places"),
    ("06.1", lambda tf, length, k1, b: 0.5, "it should be"),
    ("06.1", lambda tf, length: tf / length, "raised TypeError"),
    ("06.2", 62, "both get the same"),
    ("06.2", 2, "without the 60"),
    ("06.2", 60, "one rank further down"),
    ("06.2", 121, "taken away the 60"),
    ("06.2", 30, "not 30"),
    ("10.1", dict, "to be a Retriever"),
    ("10.1", keeping(lambda inner, k: ...), "no list of hits"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", 10 * k))), "expected at most 2"),
    ("10.1", keeping(lambda inner, k: inner.search("words", 8)[::-1][:k]), "expected the best first"),
    ("10.1", keeping(lambda inner, k: inner.search("words", k)), "come twice"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", k))), "for more than k"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", k + 1))), "for many hits"),
    ("10.1", keeping(lambda inner, k: first_each(inner.search("words", 8)[1:])[:k]), "than the *best*"),
    ("10.2", hops_compared(lambda best, splitter: {}, same_budget=2000), "only one system"),
    ("10.2", hops_compared(lambda best, splitter: {"yours": best}, same_budget=2000), "has SubQuestions in it"),
    ("10.2", hops_compared(routed, same_budget=2000), "go through a router"),
    ("10.2", hops_compared(), "the same tokens"),
    ("10.2", hops_compared(number=8, same_budget=2000), "8 questions show very little"),
    ("10.2", hops_compared(kind="faq", same_budget=2000), "name one project"),
    ("13.1", lambda asked, up, down, sure: ..., "still returns"),
    ("13.1", lambda asked, up, down, sure: asked * down / (down + up) * sure, "plain share"),
    ("13.1", lambda asked, up, down, sure: asked * (down + 1) / (down + up + 2), "how sure"),
    ("13.1", lambda asked, up, down, sure: (down + 1) / (down + up + 2) * sure, "how often"),
    ("13.1", lambda asked, up, down, sure: asked * (up + 1) / (down + up + 2) * sure, "thumbs *down*"),
    ("13.1", lambda asked, up, down, sure: down * (down + 1) / (down + up + 2) * sure, "said nothing"),
    ("13.1", lambda asked, up, down, sure: asked * (down + 1) / (down + up + 2) / sure, "you divide"),
    ("13.1", lambda asked, up, down, sure: 7.0, "expected 3.60"),
    ("13.1", lambda asked, up, down, sure: 3.6, "not for asked 3 times"),
    ("13.3", 28.6, "between 0 and 1"),
    ("13.3", 0.8, "not all of them speak"),
    ("13.3", 0.71, "thumbs down"),
    ("13.3", 0.05 / 0.55, "How many people"),
    ("13.3", 0.14, "Which share of these"),
    ("13.3", 0.04, "do not hear from all"),
    ("13.3", 0.4, "is a ratio"),
    ("13.3", 0.6, "Count people"),
    ("13.2", "a", "for these five"),
    ("13.2", "B.", "Take them out"),
    ("13.2", "d", "went well before"),
    ("13.2", "all", "none of a, b, c, d"),
    ("14.1", lambda s, t, q: ..., "still returns"),
    ("14.1", lambda s, t, q: hash((s, t, q)), "another number in each process"),
    ("14.1", lambda s, t, q: (s, t, q), "A key for a file is a text"),
    ("14.1", lambda s, t, q: json.dumps([s, t]), "another question"),
    ("14.1", lambda s, t, q: json.dumps([t, q]), "would be stale"),
    ("14.1", lambda s, t, q: json.dumps([s, q]), "another tenant"),
    ("14.1", lambda s, t, q: json.dumps([s, t, q.lower()]), "Keep the case"),
    ("14.1", lambda s, t, q: json.dumps([s, t, "".join(q.split())]), "Keep one blank"),
    ("14.1", lambda s, t, q: s + t + " ".join(q.split()), "run into each other"),
    ("14.1", lambda s, t, q: s + "|" + t + " ".join(q.split()), "run into each other"),
    ("14.1", lambda s, t, q: "|".join([s, t, " ".join(q.split())]), "the sign that you put"),
    ("14.1", lambda s, t, q: f"{s} {t} {' '.join(q.split())}", "the sign that you put"),
    ("14.1", lambda s, t, q: json.dumps([s, t, q]), "still makes another key"),
    ("14.1", lambda s, t, q: json.dumps([s, t, q.strip()]), "still makes another key"),
    ("14.1", lambda s: s, "raised TypeError"),
    ("14.2", 30.4, "the mean"),
    ("14.2", 1, "not among them"),
    ("14.2", 25.5, "No question takes that long"),
    ("14.2", 20, "a share of 50"),
    ("14.2", 0.05, "in seconds"),
    ("14.2", 49, "1 ms or 50 ms"),
    ("14.3", 0.9, "up to 1.9 %"),
    ("14.3", 0.98, "1.5 %"),
    ("14.3", 0.99, "none of the three"),
    ("A.1", lambda a, b, w: ..., "still returns"),
    ("A.1", lambda a, b, w: 0.5, "a weight for each"),
    ("A.1", lambda a, b, w: w * a / a.sum() + (1 - w) * b, "changed places"),
    ("A.1", lambda a, b, w: (1 - w) * a + w * b, "would drown"),
    ("A.1", lambda a, b, w: a + w * b, "all of its weight"),
    ("A.1", lambda a, b, w: a / a.sum() + w * b, "all of its weight"),
    ("A.1", lambda a, b, w: a / a.sum(), "nothing was learnt"),
    ("A.1", lambda a, b, w: w * b, "the question is gone"),
    ("A.1", lambda a, b, w: b, "the question is gone"),
    ("A.1", lambda a, b, w: (a / a.sum() + b) / 2, "no effect"),
    ("A.1", lambda a, b, w: a * b, "expected 0.553"),
    ("A.1", lambda a, b: a + b, "raised TypeError"),
    ("A.2", 3, "one edit"),
    ("A.2", 1, "left over"),
    ("A.2", 0, "itself"),
    ("A.2", 7, "fewer than 7"),
    ("A.3", 660, "the question itself"),
    ("A.3", 620, "one search"),
    ("A.3", 80, "forgets the call"),
    ("A.3", 60, "forgets the call"),
    ("A.3", 2480, "four times"),
    ("A.3", 1880, "three times"),
    ("A.3", 600, "nothing has been searched"),
    ("A.3", 0.68, "in seconds"),
    ("A.3", 700, "not 700"),
    ("12.1", lambda stages: ..., "still returns"),
    ("12.1", lambda stages: max(stages, key=lambda name: np.mean(stages[name])), "largest mean or median"),
    ("12.1", lambda stages: max(stages, key=lambda name: max(stages[name])), "largest number of all"),
    ("12.1", lambda stages: max(np.quantile(v, 0.95) for v in stages.values()), "Return the name"),
    ("12.1", lambda stages: list(stages), "expected the name of one"),
    ("12.2", 0.05, "a single look"),
    ("12.2", 1, "one alarm at least"),
    ("12.2", 20, "once in 20 looks"),
    ("12.2", 7.0, "not 7.0"),
    ("12.3", 5, "not above 0.1 at all"),
    ("12.3", 51, "only 50 queries"),
    ("12.3", 7, "still possible"),
    ("12.3", 20, "fewer do, too"),
    ("07.1", type("Empty", (), {}), "with a method"),
    ("07.1", blending(lambda inner, query, hits, k: None), "NoneType"),
    ("07.1", blending(lambda inner, query, hits, k: hits[:k]), "never asked"),
    ("07.1", blending(lambda inner, query, hits, k: (inner.rerank(query, hits, k), hits)[1]), "search alone"),
    ("07.1", blending(lambda inner, query, hits, k: inner.rerank(query, hits, k)), "inner reranker's order alone"),
    ("07.1", blending(lambda inner, query, hits, k: inner.rerank(query, hits, k)[::-1]), "expected a b d c"),
    ("07.1", blending(lambda inner, query, hits, k: fuse([hits, inner.rerank(query, hits, 9)], 9)), "returned 4 hits"),
    ("07.1", blending(lambda inner, query, hits, k: fuse([hits, inner.rerank(query, hits, k)], k)), "one of its two"),
    ("07.1", blending(lambda inner: None), "raised TypeError"),
    ("08.1", lambda cited, gold: ..., "still returns"),
    ("08.1", lambda cited, gold: [any(c.span.answers(g) for g in gold) for c in cited], "one value for each"),
    ("08.1", lambda cited, gold: sum(any(c.span.answers(g) for g in gold) for c in cited), "Divide by how many"),
    ("08.1", lambda cited, gold: sum(any(c.span.answers(g) for g in gold) for c in cited) / 3, "number of gold spans"),
    ("08.1", lambda cited, gold: sum(any(c.span.answers(g) for c in cited) for g in gold) / 3, "this is recall"),
    ("08.1", lambda cited, gold: sum(any(c.span.overlap(g) for g in gold) for c in cited) / 5, "answer's edge"),
    ("08.1", lambda cited, gold: sum(c.doc_id in "ghk" for c in cited) / 5, "the right document"),
    ("08.1", lambda cited, gold: 0.9, "it should be 0.40"),
    ("08.1", lambda cited, gold: sum(any(c.span.answers(g) for g in gold) for c in cited) / 5, "by len(cited)"),
    ("08.1", lambda cited: 0.4, "raised TypeError"),
    ("08.2", lambda s, r, c: ..., "still returns"),
    ("08.2", lambda s, r, c: s, "one threshold"),
    ("08.2", lambda s, r, c: best_threshold(s, r, c, lambda good, bad, c: good / (good + bad)), "maximise accuracy"),
    ("08.2", lambda s, r, c: best_threshold(s, r, c, lambda good, bad, c: good), "a wrong answer is given"),
    ("08.2", lambda s, r, c: s.min(), "two wrong answers"),
    ("08.2", lambda s, r, c: 2, "Return the threshold itself"),
    ("08.2", lambda s, r, c: 0.6, "*or more*"),
    ("08.2", lambda s, r, c: 0.5, "you return 0.5"),
    ("08.2", lambda s, r, c: 0.8, "with a cost of 0.5"),
    ("09.1", lambda share, recall, alarms: ..., "still returns"),
    ("09.1", lambda share, recall, alarms: share * recall, "Divide by all the accepted"),
    ("09.1", lambda share, recall, alarms: recall / (recall + alarms), "how few are supported"),
    ("09.1", lambda share, recall, alarms: share * recall + (1 - share) * alarms, "Which part of it"),
    ("09.1", lambda share, recall, alarms: 0.24 / 0.42, "*not* supported"),
    ("09.1", lambda share, recall, alarms: recall, "recall itself"),
    ("09.1", lambda share, recall, alarms: 1 - alarms, "is rejected"),
    ("09.1", lambda share, recall, alarms: share * recall / (share * recall + alarms), "by mistake"),
    ("09.1", lambda share, recall, alarms: 0.5, "You return 0.500"),
    ("09.2", lambda verdicts: ..., "still returns"),
    ("09.2", lambda verdicts: 0.5, "two values"),
    ("09.2", lambda verdicts: (filled(0)(verdicts), 0.6), "as 0"),
    ("09.2", lambda verdicts: (filled(0)(verdicts), 1), "as 0"),
    ("09.2", lambda verdicts: (filled(1)(verdicts), 0.6), "as 1"),
    ("09.2", lambda verdicts: mean_and_coverage(verdicts)[::-1], "changed places"),
    ("09.2", lambda verdicts: (0.5, 3), "is a share"),
    ("09.2", lambda verdicts: (0.5, 0.4), "missing ones"),
    ("09.2", lambda verdicts: (0.75, 0.4), "is a verdict"),
    ("09.2", lambda verdicts: (0.1, 0.1), "expected (0.5, 0.6)"),
    ("09.2", lambda v: (sum(filter(None, v)) / sum(x is not None for x in v), 0.6), "raises ZeroDivisionError"),
    ("09.2", lambda verdicts: (0.5, 0.6), "there is no mean"),
    ("D.1", 100, "37 %"),
    ("D.1", 95, "how sure"),
    ("D.1", 59, "rules out a rate of 5 %"),
    ("D.1", 459, "99 % sure"),
    ("D.1", 200, "still above 0.05"),
    ("D.1", 1000, "Fewer will do"),
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
    ("B.1", lambda c, right, t: ..., "still returns"),
    ("B.1", lambda c, right, t: -np.log(softmax(c, t)), "one number"),
    ("B.1", lambda c, right, t: np.log(softmax(c, t)[right]), "sign is turned"),
    ("B.1", lambda c, right, t: softmax(c, t)[right], "share itself"),
    ("B.1", lambda c, right, t: -np.log(softmax(c, 1)[right]), "no effect"),
    ("B.1", lambda c, right, t: -np.log(softmax(c, 1 / t)[right]), "Divide by it"),
    ("B.1", lambda c, right, t: -np.log(softmax(c, t)[0]), "which one it should be"),
    ("B.1", lambda c, right, t: -c[right] / t, "others have to lose"),
    ("B.1", lambda c, right, t: 7.5, "expected 1.327"),
    ("B.1", lambda c, right: 1.0, "raised TypeError"),
    ("B.2", 300, "by heart"),
    ("B.2", 200, "difference"),
    ("B.2", 0, "untrained"),
    ("B.2", 150, "not a step"),
    ("B.3", "a", "both sides"),
    ("B.3", "b", "same words"),
    ("B.3", "d", "told the answers"),
    ("B.3", "new documents", "one of the letters"),
    ("04.1", lambda sentences, size: ..., "still returns"),
    ("04.1", lambda sentences, size: "A. B.", "a list of lists"),
    ("04.1", lambda sentences, size: [list(sentences)], "without their tokens"),
    ("04.1", lambda sentences, size: [[], *pack(sentences, size)], "is empty"),
    ("04.1", lambda sentences, size: pack(sentences, size)[:-1], "['F.'] are in no chunk"),
    ("04.1", lambda sentences, size: pack(sentences, size)[::-1], "out of order"),
    ("04.1", lambda sentences, size: pack(sentences, 13), "at most 10"),
    ("04.1", lambda sentences, size: [[text] for text, _ in sentences], "room for the next"),
    ("04.1", lambda sentences, size: pack(sentences, size - 1), "also for 10 of 10"),
    ("04.1", lambda sentences, size: pack([s for s in sentences if s[1] <= size], size), "more than 10 tokens"),
    ("04.1", lambda sentences, size: pack(sentences, size) or [["A."]], "has no chunks"),
    ("04.1", lambda sentences: [], "raised TypeError"),
    ("04.2", compared(bm25(3), same_budget=20), "one system"),
    ("04.2", compared(bm25(3), bm25(6)), "same_budget=2000"),
    ("04.2", compared(bm25(3), bm25(3), same_budget=20), "nothing was changed"),
    ("04.2", compared(bm25(3), bm25(6, contextual=True), same_budget=20), "two things"),
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
    with pytest.raises(InputError, match=r"01\.1, 01\.2"):
        check("01.7", 1)


def test_a_verdict_is_escaped():
    html = check("00.1", "<img src=x onerror=alert(1)>")._repr_html_()
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
    assert check("06.2", np.int64(61)).passed
    assert "expected to be a whole number" in check("06.2", 61.0).message
    assert "expected to be a whole number" in check("06.2", True).message


def test_numbers_are_compared_with_a_tolerance_and_arrays_by_all_their_numbers():
    mistakes = [(5, "forgets"), (np.array([1.0, 2.0]), "turned")]
    assert check_number(6.004, 6, mistakes, "no", tolerance=0.005) is None
    assert check_number(5, 6, mistakes, "no") == "forgets"
    assert check_number(np.array([1.0, 2.0]), np.array([2.0, 1.0]), mistakes, "no") == "turned"
    assert check_number(np.array([1.0, 2.5]), np.array([2.0, 1.0]), mistakes, "no") == "no"
