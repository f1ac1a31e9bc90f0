"""Each question is at one stage: lost by the file, the search or the answer, or found."""

from __future__ import annotations

import pytest

from ragkit.base import Answer, Chunk, Citation, Hit, InputError, Question, Retriever, Span
from ragkit.evaluation.compare import BUDGET, FOUND, NOT_RETRIEVED, compare
from ragkit.evaluation.losses import ADVICE, NOT_PARSED, UNUSED, questions_lost
from ragkit.notebook.display import show_lost

CHUNKS = [Chunk(name, 0, 20, f"{name} answers it. Bye") for name in "abcdef"]


class Lookup(Retriever):
    """Finds the chunk of the document that the question names, but for "f"."""

    chunks = CHUNKS

    def _search(self, query, k):
        return [Hit(chunk, 1.0) for chunk in CHUNKS if chunk.doc_id == query[-1] != "f"][:k]


def test_questions_are_at_the_stage_that_lost_them():
    questions = [Question(f"id-{name}", f"Where is {name}", (Span(name, 0, 13),)) for name in "abcdef"]
    result = compare({"it": Lookup()}, questions, progress=False)
    hits = tuple(Hit(chunk, 1.0) for chunk in CHUNKS)
    answers = [
        Answer("Where is a", "", hits, (Citation(1, CHUNKS[0], "answers"),)),  # cites a part of the gold
        Answer("Where is b", "", hits, (Citation(1, CHUNKS[1], "Bye"), Citation(2, CHUNKS[0]))),  # something else
        Answer("Where is c", "", hits, abstained=True),
        Answer("Where is d", "", hits[:2]),  # its hits do not hold it
    ]  # "Where is e" was not asked
    lost = questions_lost(result, "it", answers, ["Was it read?"])
    assert lost == {
        FOUND: ["Where is a", "Where is e"],
        NOT_PARSED: ["Was it read?"],
        NOT_RETRIEVED: ["Where is f"],
        BUDGET: ["Where is d"],
        UNUSED: ["Where is b", "Where is c"],
    }
    assert list(lost) == [stage for stage in ADVICE if stage in lost]
    with pytest.raises(InputError, match="no system 'other': expected one of it"):
        questions_lost(result, "other")


def test_the_picture_has_a_bar_a_stage_with_its_questions_and_escapes_them():
    view = show_lost({FOUND: ["a"] * 4, NOT_PARSED: ["<b>?"]}, {"<b>?": "page 3 has <no> text"})
    assert [part.split("%")[0] for part in view.html.split("width:")[1:]] == ["100.0", "25.0"]
    assert "<li>&lt;b&gt;?<br><small>page 3 has &lt;no&gt; text</small></li>" in view.html
    assert 'title="&lt;b&gt;?"' in view.html
    assert ADVICE[NOT_PARSED] in view.html
    assert repr(view) == "4  found\n1  not parsed\n   <b>?"
    assert show_lost({}).text == ""
