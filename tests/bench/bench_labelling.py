"""How many labels by one click decide between pipelines, and how often a verdict on them is wrong, with slips.

Nobody labels here: whoever clicks is simulated and knows the gold. They take the passage of the panel's pool that
holds most of it, or say "not in these documents" if none holds any; ``SLIP`` of the clicks are another choice of the
pool, drawn by chance. From ``DRAWS`` draws of 20 to 100 labels, the verdicts of ``compare`` on six pipelines (coverage
in 2,000 tokens) against the truth: the difference on all questions with their own gold. Questions are drawn with
replacement, so that the truth is known exactly, however many are drawn. A verdict is right or wrong by the direction
that it names, and silent if it names none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ragkit import BM25Retriever, DenseRetriever, FixedChunker, Hybrid, TokenStore, advanced, chunk_corpus, naive
from ragkit.base import Chunk, Corpus, InputError, Question, Retriever, Span
from ragkit.corpus import load_pydocs, load_questions
from ragkit.evaluation.compare import compare, documents_of, verdict
from ragkit.evaluation.metrics import BUDGET, coverage
from ragkit.evaluation.statistics import Floats, minimum_detectable, p_values, questions_needed
from ragkit.notebook.labelling import pooled, proposers
from ragkit.pipeline.config import OVERLAP, SIZE
from ragkit.workbench.labels import label

Row = tuple[str, float, str, str]
SETS = {"faq": ("faq",), "written": ("en", "keyword", "paraphrase")}
SLIP = 0.05
LABELS = (20, 40, 60, 100)
DRAWS = 500


def main() -> list[Row]:
    corpus = load_pydocs("core")
    asked = {
        name: [q for kind in kinds for q in (corpus.questions if kind == "faq" else load_questions(kind, corpus))]
        for name, kinds in SETS.items()
    }
    texts = [question.text for questions in asked.values() for question in questions]
    store = TokenStore.open(corpus).with_queries(texts, tokens=True)
    systems, proposing = pipelines(corpus, store), proposers(corpus)
    rows: list[Row] = []
    for name, questions in asked.items():
        cases = cases_of(corpus, questions, systems, proposing)
        rows += [*pool_rows(name, cases), *difference_rows(name, cases, list(systems))]
        rows += verdict_rows(name, cases, list(systems))
    return rows


class Case(NamedTuple):
    """A question with every label that a click on its pool can make, and the scores of the systems on each.

    ``labels``: a question with the passage as gold, for each passage that can be saved. ``best``: the place of the one
    that holds most of the gold; ``None`` if none holds any. ``scores`` ``(1 + labels, systems)``: on the true gold
    first.
    """

    question: Question
    labels: tuple[Question, ...]
    best: int | None
    scores: Floats

    def click(self, chance: random.Random, slip: float) -> int | None:
        """The place of the passage that is clicked; ``None`` for "not in these documents"."""
        if chance.random() >= slip:
            return self.best
        return chance.choice([place for place in (*range(len(self.labels)), None) if place != self.best])


def clickable(corpus: Corpus, question: str, pool: Sequence[Chunk]) -> tuple[Question, ...]:
    """The labels that clicks make, as they are saved: a passage that stands twice in its document is refused."""
    labels: list[Question] = []
    for chunk in pool:
        try:
            labels += label(corpus, {question: (chunk.doc_id, chunk.text)})
        except InputError:
            continue
    return tuple(labels)


def best_click(labels: Sequence[Question], gold: Sequence[Span]) -> int | None:
    held = [sum(own.gold[0].overlap(span) for span in gold) for own in labels]
    return held.index(max(held)) if any(held) else None


def pipelines(corpus: Corpus, store: TokenStore) -> dict[str, Retriever]:
    """The baseline first."""
    chunks = chunk_corpus(FixedChunker(SIZE, OVERLAP), corpus)
    bm25, maxp = BM25Retriever(chunks), DenseRetriever(chunks, store=store, scoring="maxp")
    return {
        "naive": naive(corpus, store=store).retriever,
        "naive 512": naive(corpus, store=store, size=512, overlap=64).retriever,
        "maxp": maxp,
        "bm25": bm25,
        "hybrid": Hybrid([bm25, maxp], fusion="rrf"),
        "advanced": advanced(corpus, store=store).retriever,
    }


def cases_of(
    corpus: Corpus, questions: Sequence[Question], systems: Mapping[str, Retriever], proposing: Mapping[str, Retriever]
) -> list[Case]:
    compared = compare(systems, questions, same_budget=BUDGET, progress=False)
    cases = []
    for i, question in enumerate(compared.questions):
        labels = clickable(corpus, question.text, pooled(proposing, question.text))
        lists = [[hit.chunk for hit in compared.rankings[name][i]] for name in systems]
        golds = [question.gold, *(own.gold for own in labels)]
        scores = np.array([[coverage(chunks, gold) for chunks in lists] for gold in golds])
        cases.append(Case(question, labels, best_click(labels, question.gold), scores))
    return cases


def pool_rows(name: str, cases: Sequence[Case]) -> Iterator[Row]:
    """What the pool holds of the gold."""
    gold = [case.question.gold[0] for case in cases]
    clicked = [None if case.best is None else case.labels[case.best].gold[0] for case in cases]
    held = [span.overlap(own) / len(own) for span, own in zip(clicked, gold, strict=True) if span]
    answering = sum(span is not None and span.answers(own) for span, own in zip(clicked, gold, strict=True))
    yield f"{name}: questions", len(cases), f"in {len({span.doc_id for span in gold})} documents", ""
    yield f"{name}: pools that hold some of the gold", len(held) / len(cases), "", ""
    yield f"{name}: pools with a passage that answers", answering / len(cases), "", ""
    yield f"{name}: share of the gold in the passage that is clicked", float(np.mean(held)), "", ""


def difference_rows(name: str, cases: Sequence[Case], systems: Sequence[str]) -> Iterator[Row]:
    """The true differences, those on clicks without slips, and the labels that find the true ones 8 times in 10."""
    own = np.array([case.scores[0] for case in cases])
    clicked = np.array([case.scores[1 + case.best] for case in cases if case.best is not None])
    detectable = minimum_detectable(own - own[:, :1], documents_of(case.question for case in cases), len(systems) - 1)
    for j, system in enumerate(systems[1:], 1):
        true, biased = (float((scores[:, j] - scores[:, 0]).mean()) for scores in (own, clicked))
        needed = questions_needed(len(cases), float(detectable[j]), true)
        unit = f"on clicks {biased:+.3f}; {needed} labels needed"
        yield f"{name}: {system} against {systems[0]}, all questions, their own gold", true, unit, ""


def verdict_rows(name: str, cases: Sequence[Case], systems: Sequence[str]) -> Iterator[Row]:
    """How often the verdicts name the true direction, none, or the other one; a table has a verdict a system."""
    own = np.array([case.scores[0] for case in cases])
    truth = np.sign((own - own[:, :1]).mean(axis=0))[1:]
    for gold, slip in (("their own gold", None), ("clicks", 0.0), (f"clicks, {SLIP:.0%} of them slips", SLIP)):
        right = []
        for count in LABELS:
            chance = random.Random(f"{name} {count}")
            drawn = np.array([directions(*draw(cases, count, chance, slip)) for _ in range(DRAWS)]) * truth
            shares = [float((drawn == direction).mean()) for direction in (1, 0, -1)]
            unit = "verdicts: right {:.3f}, silent {:.3f}, wrong {:.3f}".format(*shares)
            title = f"{name}, {count} labels, {gold}: tables with a wrong verdict"
            yield title, float((drawn == -1).any(axis=1).mean()), unit, "<= 0.05"
            right.append((drawn == 1).mean(axis=0))
        for system, by_count in zip(systems[1:], np.transpose(right), strict=True):
            unit = ", ".join(f"{count}: {share:.2f}" for count, share in zip(LABELS, by_count, strict=True))
            title = f"{name}, {gold}: {system} against {systems[0]} right with {LABELS[-1]} labels"
            yield title, float(by_count[-1]), unit, ""


def draw(cases: Sequence[Case], count: int, chance: random.Random, slip: float | None) -> tuple[Floats, list[str]]:
    """``count`` questions labelled: the scores ``(labels, systems)``, and the document of each label.

    Without ``slip`` each label is the gold. "Not in these documents" leaves a question out.
    """
    scores, documents = [], []
    for case in chance.choices(cases, k=count):
        place = case.click(chance, slip) if slip is not None else None
        if slip is None or place is not None:
            labelled = case.question if place is None else case.labels[place]
            scores.append(case.scores[0 if place is None else 1 + place])
            documents += documents_of([labelled])
    return np.array(scores), documents


def directions(scores: Floats, documents: Sequence[str]) -> list[int]:
    """The verdicts of ``compare`` on each system against the first: 1 better, -1 worse, 0 no detectable difference."""
    differences = scores - scores[:, :1]
    verdicts = map(verdict, differences.mean(axis=0), p_values(differences, documents))
    return [{"better": 1, "worse": -1}.get(said, 0) for said in verdicts][1:]
