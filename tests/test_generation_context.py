"""The context: numbered sources within the budget, nothing shown twice, every source word for word."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Context, Document, Hit, InputError, Section
from ragkit.generation.context import build_context
from ragkit.tokens import minilm_tokenizer


def hit(text: str, doc_id: str = "a", start: int = 0, score: float = 1.0) -> Hit:
    return Hit(Chunk(doc_id, start, start + len(text), text), score)


@dataclass(frozen=True)
class Cut:
    doc: str
    start: int
    end: int


TEXTS = {
    "a": " ".join(f"alpha{i} beta{i}.\n" for i in range(40)),
    "b": "é " + " ".join(f"gamma{i} 😀 delta{i}\n\n" for i in range(30)),
}
cuts = st.lists(
    st.builds(
        lambda doc, start, length: Cut(doc, min(start, len(TEXTS[doc]) - 1), min(start + length, len(TEXTS[doc]))),
        st.sampled_from(["a", "b"]),
        st.integers(0, 500),
        st.integers(1, 300),
    ),
    max_size=12,
)


def hits_of(found: list[Cut]) -> list[Hit]:
    return [Hit(Chunk(c.doc, c.start, c.end, TEXTS[c.doc][c.start : c.end]), 1 / (i + 1)) for i, c in enumerate(found)]


def test_a_joined_source_knows_the_sections_of_all_its_parts():
    sections = tuple(Section((name,), at, at, at + 4) for name, at in (("A", 0), ("B", 4), ("C", 8)))
    document = Document("a", "aaa bbb ccc ", sections=sections)
    (a, b) = (hit(document.text[s:e], start=s) for s, e in ((0, 8), (4, 12)))
    parts = [
        replace(h, chunk=replace(h.chunk, section=("A",), sections=sections[i : i + 2])) for i, h in enumerate((a, b))
    ]
    (joined,) = build_context(parts[::-1]).hits
    assert [joined.chunk.section_at(offset) for offset in (0, 5, 11)] == [("A",), ("B",), ("C",)]


@given(cuts, st.integers(1, 600))
def test_context_keeps_its_budget_and_shows_nothing_twice(found, budget):
    context = build_context(hits_of(found), budget)
    assert context.tokens == minilm_tokenizer().count(context.text) <= budget
    shown: set[tuple[str, int]] = set()
    for h in context.hits:
        assert h.chunk.text == TEXTS[h.chunk.doc_id][h.chunk.start : h.chunk.end]
        places = {(h.chunk.doc_id, i) for i in range(h.chunk.start, h.chunk.end)}
        assert not places & shown
        shown |= places


@given(cuts, st.integers(1, 600))
def test_every_source_is_made_of_hits(found, budget):
    hits = hits_of(found)
    for source in build_context(hits, budget).hits:
        parts = [h for h in hits if h.chunk.span.overlap(source.chunk.span)]
        held = {i for h in parts for i in range(h.chunk.start, h.chunk.end)}
        assert held >= set(range(source.chunk.start, source.chunk.end))
        assert source.score in {h.score for h in parts}


@given(cuts, st.integers(1, 600))
def test_a_larger_budget_never_shows_less(found, budget):
    def shown(budget: int) -> int:
        return sum(len(source.chunk.text) for source in build_context(hits_of(found), budget).hits)

    assert shown(100_000) >= shown(budget)


@given(st.integers(0, 3), st.permutations(range(5)))
def test_neighbours_become_one_source_in_whatever_order_they_were_found(gap, order):
    """Five pieces of one text in a row: joined where they touch."""
    words = ["one two.", "three", "four; five", "six", "seven eight"]
    text = (" " * gap).join(words)
    places = [len((" " * gap).join(words[:i]) + " " * gap * (i > 0)) for i in range(5)]
    sources = build_context([hit(words[i], start=places[i], score=1 / (n + 1)) for n, i in enumerate(order)]).hits
    if gap:
        assert len(sources) == 5
    else:
        assert [(h.chunk.text, h.chunk.start, h.chunk.end, h.score) for h in sources] == [(text, 0, len(text), 1.0)]


@given(cuts)
def test_context_with_room_shows_every_hit(found):
    context = build_context(hits_of(found), 100_000)
    for h in hits_of(found):
        assert any(h.chunk.text in source.chunk.text for source in context.hits)


def test_overlapping_and_touching_chunks_become_one_source_at_the_best_rank():
    text = "one two three four five six"
    pieces = [(8, 13), (100, 104), (14, 18), (4, 14)]
    found = [
        hit(text[a:b], start=a, score=1 / (i + 1)) if a < 50 else hit("else", "b") for i, (a, b) in enumerate(pieces)
    ]
    context = build_context(found)
    assert [(h.chunk.doc_id, h.chunk.start, h.chunk.end, h.chunk.text) for h in context.hits] == [
        ("a", 4, 18, "two three four"),
        ("b", 0, 4, "else"),
    ]
    assert context.hits[0].score == 1.0


def test_the_same_text_in_two_documents_is_shown_once():
    assert len(build_context([hit("press SEEK", "a"), hit("press SEEK", "b")]).hits) == 1


def test_a_chunk_that_does_not_fit_is_cut_at_a_line():
    long = hit("".join(f"line {i}\n" for i in range(200)))
    context = build_context([long], budget=100)
    cut = context.hits[0].chunk.text
    assert long.chunk.text.startswith(cut)
    assert long.chunk.text[len(cut)] == "\n"
    assert 80 < context.tokens <= 100


def test_empty_hits_and_bad_arguments():
    assert build_context([]) == Context("", (), 0)
    assert build_context([hit("word " * 50)], budget=5).hits == ()
    with pytest.raises(InputError, match="budget is 0"):
        build_context([], 0)
