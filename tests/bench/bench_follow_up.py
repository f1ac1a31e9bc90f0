"""Follow-up questions of 30 short conversations: searched as they are, with the first question, rewritten, or whole.

The retriever is that of the ``advanced`` preset on ``core``. "leaning" are the 25 that leave something out, "new topic"
the 5 that stand alone. The rule was written by whoever wrote the conversations, who knew them: its figures on these 25
are an upper bound. What it does to questions that stand alone is measured on all of ours, each after another one that
was drawn at random, of another project or of the same: on ``core``, where the rule was tried, and on ``extended``,
where it was not.

The model's prompt was chosen on other conversations. What the model in the box wrote is in
``results/rows/follow_up.jsonl``; what is missing there is asked (for ``RAGKIT_BENCH_SECONDS``, if set; 0 only reports).
Differences come with their 95 % interval, drawn by document, and each table with the difference that it could detect.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from recorded import NotRecordedError, Recorded
from sample import Rows, SearchedOnce

from ragkit.base import Corpus, Hit, Question, Retriever
from ragkit.corpus import load_pydocs, load_questions
from ragkit.evaluation.compare import compare
from ragkit.llm.local import LocalModel
from ragkit.pipeline import advanced
from ragkit.retrieval.follow_up import Conversation, FollowUp, FollowUpChat, load_conversations
from ragkit.retrieval.rewrite import Rewriting

Row = tuple[str, float | str, str, str]
Queries = Mapping[str, str]  # by the text of the question what is searched for it
METRICS = {"coverage@2000": 2000, "mrr@10": None}
ALONE, BOTH, RULE, WHOLE = "as it is", "both questions", "rule", "standalone question"
MODEL = "language model, else rule"
AT_ONCE = 4  # several answers at a time are written faster than one after the other
KINDS = ("keyword", "paraphrase", "multihop", "en")


def main() -> list[Row]:
    core, extended = load_pydocs("core"), load_pydocs("extended")
    own = [*core.questions, *(question for kind in KINDS for question in load_questions(kind, core))]
    retriever = SearchedOnce(advanced(core).retriever)
    return [
        *conversations(core, retriever),
        *standing_alone("core", core, retriever, own),
        *standing_alone("extended", extended, SearchedOnce(advanced(extended).retriever), extended.questions),
    ]


class Searched(Retriever):
    """Searches another text for each question."""

    def __init__(self, retriever: Retriever, queries: Queries) -> None:
        self.retriever, self.queries = retriever, queries

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.retriever.search(self.queries[query], k)


# ---- the conversations


def conversations(corpus: Corpus, retriever: Retriever) -> Iterator[Row]:
    every = load_conversations(corpus)
    rule = FollowUp.of(corpus.documents)
    wrote = written(every, rule)
    queries = {
        ALONE: {c.question.text: c.question.text for c in every},
        BOTH: {c.question.text: f"{c.first} {c.question.text}" for c in every},
        RULE: {c.question.text: rule.rewrite([c.first], c.question.text) for c in every},
        WHOLE: {c.question.text: c.standalone for c in every},
    }
    leaning = [c for c in every if c.kind != "new topic"]
    new = [c for c in every if c.kind == "new topic"]
    yield "rule: leaning, and rewritten", changed(leaning, queries[RULE]), f"of {len(leaning)}", ""
    yield "rule: new topic, and rewritten", changed(new, queries[RULE]), f"of {len(new)}", ""
    if len(wrote) == len(every):
        by_model = {text: text if rewriting.reason else rewriting.queries[0] for text, rewriting in wrote.items()}
        queries[MODEL] = {text: rewriting.queries[0] for text, rewriting in wrote.items()}
        failed = sum(bool(rewriting.reason) for rewriting in wrote.values())
        yield "language model: no rewriting in the answer", failed, f"of {len(every)}", ""
        yield "language model: leaning, and rewritten by it", changed(leaning, by_model), f"of {len(leaning)}", ""
        yield "language model: new topic, and rewritten by it", changed(new, by_model), f"of {len(new)}", ""
    else:
        yield f"language model: {len(wrote)} of {len(every)} answers", "make bench BENCH=follow_up", "", ""
    for group, chosen in {"leaning": leaning, "new topic": new, "all": every}.items():
        for base in (ALONE, BOTH, RULE) if group == "leaning" else (ALONE,):
            yield from verdicts(group, retriever, queries, [c.question for c in chosen], base)


def written(every: Sequence[Conversation], rule: FollowUp) -> dict[str, Rewriting]:
    """What the model makes of each follow-up question, by its text; without those that were not recorded."""
    server = LocalModel(threads=1, context=1280, slots=AT_ONCE)
    rows = Rows("follow_up", {"model": server.identity, "max_tokens": 40})
    asked = [c.question for c in every]
    model = Recorded(server=server, max_tokens=40, timeout=600, rows=rows, label="follow-up", questions=asked)
    chat = FollowUpChat(model, rule)

    def one(conversation: Conversation) -> tuple[str, Rewriting] | None:
        try:
            return conversation.question.text, chat.explain([conversation.first], conversation.question.text)
        except NotRecordedError:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(filter(None, pool.map(one, every)))


def changed(chosen: Sequence[Conversation], queries: Queries) -> int:
    return sum(queries[c.question.text] != c.question.text for c in chosen)


# ---- questions that stand alone


def standing_alone(name: str, corpus: Corpus, retriever: Retriever, questions: Sequence[Question]) -> Iterator[Row]:
    """What the rule, and both questions together, do to questions that are no follow-ups."""
    rule, projects = FollowUp.of(corpus.documents), {q.id: {s.doc_id.split("/")[0] for s in q.gold} for q in questions}
    leaning = sum(rule.leans(question.text) for question in questions)
    yield f"standing alone, {name}: rewritten by rule", leaning, f"of {len(questions)}", ""
    for same, after in ((False, "another project"), (True, "the same project")):
        rng = random.Random(0)
        queries: dict[str, dict[str, str]] = {ALONE: {}, BOTH: {}, RULE: {}}
        for question in questions:
            own = projects[question.id]
            others = [q for q in questions if q != question and bool(own & projects[q.id]) == same]
            first = rng.choice(others).text
            queries[ALONE][question.text] = question.text
            queries[BOTH][question.text] = f"{first} {question.text}"
            queries[RULE][question.text] = rule.rewrite([first], question.text)
        group = f"standing alone, {name}, after {after}"
        yield from verdicts(group, retriever, queries, questions, ALONE)


# ---- tables


def verdicts(
    group: str, retriever: Retriever, queries: Mapping[str, Queries], questions: Sequence[Question], base: str
) -> Iterator[Row]:
    """The value of each way to search (once), its difference to ``base``, and what could be detected."""
    systems = {name: Searched(retriever, own) for name, own in queries.items()}
    for metric, budget in METRICS.items():
        result = compare(systems, questions, base, same_budget=budget, metric=metric, progress=False)
        assert not len(result.errors), result.errors.iloc[0]
        sys.stdout.write(f"\n{group}\n{result!r}\n")
        many = f"{len(questions)} questions, {len(set(result.units))} documents"
        for name, line in result.table.iterrows():
            if base == ALONE:
                yield f"{group}, {metric}: {name}", float(line[metric]), many, ""
            if name != base:
                interval = f"[{line['diff_low']:+.3f}, {line['diff_high']:+.3f}] {line['verdict']}"
                yield f"{group}, {metric}: {name} against {base}", float(line["diff"]), interval, ""
        what = f"{group}, {metric}: difference to {base} detected 8 times in 10"
        yield what, result.minimum_detectable, many, ""
