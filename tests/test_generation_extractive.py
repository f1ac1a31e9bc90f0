"""Offline answers: what is quoted stands in its source."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Context, Generation, Hit, InputError, identity_of
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.corpus import load_questions
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Extractive, candidates, idf, passages, runs, stems
from ragkit.generation.prompts import NOT_FOUND
from ragkit.markdown import blocks, closed
from ragkit.retrieval.bm25 import BM25Retriever

GUIDE = """\
# Purging

Waiting tasks can be discarded. This can't be undone!

Use the purge command to discard all waiting tasks:

```console
$ celery -A proj purge
```

# Revoking

A single task is revoked by its id, e.g. from the shell.

- Revoked tasks are skipped.
- Running tasks go on, unless they are terminated.
"""


def hit(text: str, doc_id: str = "a", start: int = 0, score: float = 1.0) -> Hit:
    return Hit(Chunk(doc_id, start, start + len(text), text), score)


def answer(llm: Extractive, question: str, context: Context) -> Generation:
    return asyncio.run(llm.generate(question, context))


def quotes_only(said: Generation) -> bool:
    """The text is the quotes, each followed by its number, and nothing else."""
    rest = said.text
    for citation in said.citations:
        assert citation.quote in citation.chunk.text
        quote = closed(citation.quote)  # code that was cut in the middle gets its fences again
        assert rest.startswith(quote)
        rest = rest[len(quote) :].removeprefix(" ").removeprefix("\n\n")
        assert rest.startswith(f"[{citation.number}]")
        rest = rest.removeprefix(f"[{citation.number}]").removeprefix("\n\n")
    return not rest


class Words:
    """Counts words: the packaged model's tokens would take most of the time of a test over all questions."""

    identity = "words"

    def offsets(self, text: str) -> np.ndarray:
        return np.array([m.span() for m in re.finditer(r"\w+", text)], dtype=np.int64).reshape(-1, 2)

    def count(self, text: str) -> int:
        return len(re.findall(r"\w+", text))


def sectioned(*texts: str) -> Context:
    """One source, each text under a heading of its own."""
    return build_context([hit("\n\n".join(f"# Part {i}\n\n{text}" for i, text in enumerate(texts)))])


def test_the_first_quote_is_one_run_under_one_heading_with_its_code():
    context = build_context([hit("Nothing about it here.", "x"), hit(GUIDE, "celery")])
    said = answer(Extractive(), "How do I purge waiting tasks?", context)
    assert said.citations[0].quote == GUIDE[GUIDE.index("Waiting") : GUIDE.index("\n\n# Revoking")]
    assert said.text.startswith("Waiting tasks can be discarded. This can't be undone!\n\nUse the purge command")
    assert "```console\n$ celery -A proj purge\n```\n\n[2]" in said.text
    assert said.citations[0].chunk.doc_id == "celery"
    assert not said.abstained


def test_extractive_keeps_a_list_together():
    said = answer(Extractive(), "What happens to running tasks that are revoked?", build_context([hit(GUIDE)]))
    assert "- Revoked tasks are skipped.\n- Running tasks go on, unless they are terminated." in said.citations[0].quote


def test_the_best_comes_first_wherever_it_stands():
    context = sectioned(
        "Cool the water with ice and a lever.", "Ducks swim.", "Boil the water with a lever, then add ice and salt."
    )
    said = answer(Extractive(), "water lever ice salt", context)
    assert [c.quote for c in said.citations] == [
        "Boil the water with a lever, then add ice and salt.",
        "Cool the water with ice and a lever.",
    ]


def test_a_run_is_short_and_quotes_of_other_sections_follow_while_there_is_room():
    longer = [f"The water of tank {i} is hot, {'very ' * 60}hot." for i in range(3)]  # 3 of them: 1,000 characters
    said = answer(Extractive(), "hot water", build_context([hit("\n\n".join(longer))]))
    assert [c.quote for c in said.citations] == longer[:1]
    tanks = [f"Water of tank {name * 4} is hot in {name * 6} too, {name * 100}." for name in "abcde"]
    said = answer(Extractive(), "hot water", sectioned(*tanks))
    assert 1 < len(said.citations) < 5
    assert sum(len(c.quote) for c in said.citations) <= 500


def test_extractive_leaves_near_copies_out():
    found = [hit("Use the purge command to drop tasks.", "a"), hit("Use the purge command to drop all tasks!", "b")]
    said = answer(Extractive(), "How do I purge tasks?", build_context(found))
    assert len(said.citations) == 1


def test_what_is_far_below_the_best_is_not_quoted():
    said = answer(Extractive(), "How do I purge tasks?", sectioned("Use purge, it drops tasks.", "Ducks swim."))
    assert [c.quote for c in said.citations] == ["Use purge, it drops tasks."]


def test_extractive_says_when_it_is_unsure():
    sure = answer(Extractive(), "How do I purge waiting tasks?", build_context([hit(GUIDE)]))
    assert sure.reason == ""
    little = answer(
        Extractive(threshold=0), "Which colour has the kettle's lever, if tasks?", build_context([hit(GUIDE)])
    )
    assert re.match(r"unsure: the best passage holds only \d+% of what is asked", little.reason)
    both = answer(Extractive(), "hot water", sectioned("The water of Bath is hot.", "In Aachen there is hot water."))
    assert both.reason == "unsure: another section fits nearly as well"
    assert little.citations
    assert both.citations


@pytest.mark.parametrize("question", ["Who invented the telephone?", "What is it?", "¿?"])
def test_extractive_says_when_nothing_fits(question):
    said = answer(Extractive(), question, build_context([hit(GUIDE)]))
    assert said.text == NOT_FOUND
    assert said.abstained
    assert said.reason
    assert said.citations == ()


def test_extractive_without_sources():
    said = answer(Extractive(), "How?", Context("", (), 0))
    assert said.abstained
    assert "no sources" in said.reason


def test_similarity_decides_between_equal_words():
    found = sectioned(*(f"The task is {colour}." for colour in ("red", "blue", "green")))

    def prefers(colour: str) -> Callable[..., np.ndarray]:
        return lambda question, chunks: np.array([float(colour in c.text) for c in chunks], dtype=np.float32)

    for colour in ("red", "blue", "green"):
        said = answer(Extractive(prefers(colour)), "Which task?", found)
        assert said.citations[0].quote == f"The task is {colour}."


def test_similarity_gets_passages_at_their_place_in_the_document():
    seen: list[Chunk] = []

    def similarity(question: str, chunks: list[Chunk]) -> np.ndarray:
        seen.extend(chunks)
        return np.zeros(len(chunks), dtype=np.float32)

    text = "x" * 50 + "\n\n" + GUIDE
    answer(Extractive(similarity), "purge waiting tasks", build_context([hit(text[50:], start=50)]))
    assert seen
    assert all(text[c.start : c.end] == c.text for c in seen)


@given(st.lists(st.text(st.sampled_from("task purge.!\n-$ =B:"), min_size=1, max_size=120), min_size=1, max_size=4))
def test_every_offline_answer_is_quoted_word_for_word(texts):
    context = build_context([hit(t, f"d{i}") for i, t in enumerate(texts)])
    said = answer(Extractive(threshold=0), "purge task", context)
    assert said.text == NOT_FOUND if said.abstained else quotes_only(said)


def test_every_answer_on_the_real_corpus_is_quoted_word_for_word(core):
    """All questions of all kinds, answerable or not; each sentence stands in its source, and that in the document."""
    bm25 = BM25Retriever(chunk_corpus(FixedChunker(256, 32), core), contextual=True)
    kinds = ("keyword", "paraphrase", "multihop", "en", "unanswerable")
    questions = [q.text for q in (*core.questions, *(q for kind in kinds for q in load_questions(kind, core)))]
    assert len(questions) > 400
    contexts = [build_context(hits, 1500, Words()) for hits in bm25.search_many(questions, 10)]

    async def answers() -> list[Generation]:
        return [await Extractive(threshold=0).generate(q, c) for q, c in zip(questions, contexts, strict=True)]

    said = asyncio.run(answers())
    assert sum(not one.abstained for one in said) > 400
    for one in said:
        assert one.text == NOT_FOUND if one.abstained else quotes_only(one)
        for citation in one.citations:
            start = citation.chunk.start + citation.chunk.text.index(citation.quote)
            whole = core.document(citation.chunk.doc_id).text
            assert whole[start : start + len(citation.quote)] == citation.quote


def test_a_cut_sentence_at_the_edge_is_not_quoted():
    text = "and then tasks are purged. Tasks wait in a queue. The purge of tasks beg"
    said = answer(Extractive(), "tasks queue", build_context([hit(text, start=7)]))
    assert [c.quote for c in said.citations] == ["Tasks wait in a queue."]


def test_a_list_is_quoted_up_to_the_line_that_the_edge_cuts():
    text = "Tasks wait in queues:\n\n- in the first queue\n- in the seco"
    said = answer(Extractive(), "tasks queue", build_context([hit(text)]))
    assert [c.quote for c in said.citations] == ["Tasks wait in queues:\n\n- in the first queue"]
    whole = answer(Extractive(), "tasks queue", build_context([hit(text + "nd queue\n")]))
    assert [c.quote for c in whole.citations] == [text + "nd queue"]


def test_a_lead_whose_list_was_cut_off_is_not_quoted():
    text = "Tasks wait in a queue. The queues of tasks are:"
    said = answer(Extractive(), "tasks queue", build_context([hit(text)]))
    assert [c.quote for c in said.citations] == ["Tasks wait in a queue."]


def test_idf_is_never_negative_and_highest_for_unknown_words():
    texts = [{"a", "b"}, {"a"}, {"a", "c"}]
    assert 0 < idf("a", texts) < idf("b", texts) < idf("zzz", texts)
    assert stems("Tasks waiting") == stems("the task waits")


@given(
    st.lists(st.sampled_from(["# A\n", "Words. More.", "\n\n", "- item\n", "```py\nx\n```\n", "So:\n\n", "| a |\n"]))
)
def test_passages_lose_no_word(parts):
    text = "".join(parts)
    found = blocks(text)
    heads = [] if all(b.kind == "heading" for b in found) else [b for b in found if b.kind == "heading"]
    joined = "".join(text[p.start : p.end] for p in sorted([*passages(text), *heads], key=lambda p: p.start))
    assert "".join(joined.split()) == "".join(text.split())


@given(st.lists(st.sampled_from(["# A\n\n", "Words. More.\n\n", "word " * 50 + "end.\n\n", "- item\n\n", "So:\n\n"])))
def test_runs_are_short_and_cross_no_heading(parts):
    text = "".join(parts)
    single = candidates(build_context([hit(text)])) if text else []
    alone = {run.passage for run in single}
    for run in runs(single):
        assert len(run.text) <= 450 or run.passage in alone
        assert "# A" not in run.text or set(text.split()) <= {"#", "A"}
    assert alone <= {run.passage for run in runs(single)}


def test_a_long_list_stays_with_its_lead_as_far_as_it_fits():
    items = [f"- item {i} is worth {i * 100} coins" for i in range(60)]
    text = "Prices:\n\n" + "\n".join(items) + "\n\nPay at the desk."
    found = [text[p.start : p.end] for p in passages(text)]
    together = found[0].split("\n")
    assert together[:3] == ["Prices:", "", items[0]]
    assert 1150 < len(found[0]) <= 1200
    assert together[2:] + found[1:] == [*items, "Pay at the desk."]


def test_one_item_longer_than_the_limit_still_follows_its_lead():
    text = "Mind this:\n\n- " + "very " * 300 + "long\n- short"
    assert [text[p.start : p.end] for p in passages(text)] == [text[: text.rindex("\n")], "- short"]


@pytest.mark.parametrize(
    "announced", ["```\ncelery purge\n```", "It takes two steps.", "- one\n- two", "| a |\n| - |\n| b |", "> Words."]
)
def test_what_a_colon_announces_stays_with_it(announced):
    text = f"# Purging\n\nDo this:\n\n{announced}\n\nThat is all."
    found = [text[p.start : p.end] for p in passages(text)]
    assert found == [f"Do this:\n\n{announced}", "That is all."]


def test_code_of_an_item_stays_with_it():
    text = "1. Install it:\n\n   ```sh\n   pip install x\n   ```\n2. Run it.\n\nDone."
    assert [text[p.start : p.end] for p in passages(text)] == [text[: text.index("\n2.")], "2. Run it.", "Done."]


def test_code_that_was_cut_is_quoted_between_fences():
    chunk = "purge = tasks.purge()\n```\n\nMore tasks to purge:\n\n```python\npurge(tasks, now=True)"
    said = answer(Extractive(threshold=0), "purge more tasks now", build_context([hit(chunk, start=80)]))
    assert "```\npurge = tasks.purge()\n```" in said.text
    assert "```python\npurge(tasks, now=True)\n```" in said.text
    assert quotes_only(said)


def test_identity_says_which_similarity():
    class Store:
        def __init__(self, identity: str) -> None:
            self.identity = identity

        def maxsim(self, question: str, chunks: list[Chunk]) -> np.ndarray:
            return np.zeros(len(chunks), dtype=np.float32)

    def unnamed(question: str, chunks: list[Chunk]) -> np.ndarray:
        return np.zeros(len(chunks), dtype=np.float32)

    one, same, other = (identity_of(Extractive(Store(name).maxsim)) for name in ("a", "a", "b"))
    assert one == same != other
    with pytest.raises(InputError, match="has no identity"):  # nothing says that it is the same
        identity_of(Extractive(unnamed))
    assert identity_of(Extractive()) == identity_of(Extractive()) != one
    assert identity_of(Extractive(threshold=0.1)) != identity_of(Extractive())
