"""What a notebook shows: every character of a passage, none of its markup, and the right words marked."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Answer, Chunk, Citation, Document, Hit, InputError, Question, Section, Span, Usage
from ragkit.chunking import FixedChunker
from ragkit.notebook.display import (
    ABOVE,
    View,
    highlight,
    reveal,
    show_answer,
    show_chunks,
    show_hits,
    show_table,
    word_matches,
)

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(2)"> </div></details>'
    "<style>*{display:none}</style> &lt;b&gt; \"quoted\" 'single' $x^2$ [click](javascript:alert(3))"
)
VOID = {"br", "hr"}


class Page(HTMLParser):
    """The tags of a piece of HTML, in order, their attributes, and the text of every element by tag."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str | None] = []
        self.names: list[str | None] = []
        self.text = ""
        self.inside: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href"]
        self.names += [value for name, value in attrs if name == "name"]
        if tag == "br":
            self.handle_data("\n")
        if tag not in VOID:
            self.open.append(tag)
            self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        for tag in set(self.open):
            self.inside[tag][-1] += data


def hit(text: str, start: int = 0, doc_id: str = "guide", score: float = 0.5) -> Hit:
    return Hit(Chunk(doc_id, start, start + len(text), text, ("Guide", "Part")), score)


def hostile_views() -> list[View]:
    document = Document(HOSTILE, HOSTILE * 3)
    chunks = FixedChunker(40, 10).chunk(document)
    chunk = Chunk(HOSTILE, 0, len(HOSTILE), HOSTILE, (HOSTILE,))
    answer = Answer(HOSTILE, HOSTILE, citations=(Citation(1, chunk, HOSTILE),), writer=HOSTILE)
    return [
        show_hits([Hit(chunk, 1.0)], HOSTILE, [Span(HOSTILE, 3, 9)]),
        show_answer(answer),
        show_answer(Answer(HOSTILE, HOSTILE, abstained=True, reason=HOSTILE)),
        show_chunks(document, chunks, [Span(HOSTILE, 5, 60)]),
    ]


@pytest.mark.parametrize("view", hostile_views(), ids=["hits", "answer", "no answer", "chunks"])
def test_nothing_from_a_document_becomes_markup(view):
    page = Page(view._repr_html_())
    tags = {"div", "details", "summary", "b", "small", "br", "mark", "sup", "span", "pre", "code"}
    assert page.tags <= tags | {"a", "p"}
    assert page.attributes <= {"style", "class", "open", "name"}
    assert HOSTILE in page.text


@pytest.mark.parametrize("view", hostile_views(), ids=["hits", "answer", "no answer", "chunks"])
def test_mathjax_and_themes_are_left_alone(view):
    assert view.html.startswith('<div class="mathjax_ignore')
    assert "background:" not in view.html
    for style in re.findall(r'style="([^"]*)"', view.html):
        names = {rule.partition(":")[0] for rule in style.split(";")}
        assert "color" not in names or "background-color" in names, "a text colour that only suits one theme"
        assert "inherit" not in style, "Jupyter strips it where a notebook is not trusted"


@given(st.text(), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))), st.text(max_size=40))
def test_highlighting_keeps_every_character(text, pieces, question):
    gold = [(min(p), max(p)) for p in pieces]
    html = highlight(text, word_matches(text, question), gold)
    assert _raw(html) == text


def _raw(html: str) -> str:
    """The text of ``html``, its line ends untouched."""
    return unescape(re.sub(r"<[^>]*>", "", html))


@given(st.text("ab .\n", max_size=200), st.integers(2, 20), st.data())
def test_drawing_chunks_keeps_every_character(text, size, data):
    document = Document("d", text)
    chunks = FixedChunker(size, data.draw(st.integers(0, size - 1))).chunk(document)
    html = show_chunks(document, chunks, [Span("d", 0, len(text) // 2)]).html
    drawn = re.search(r"overflow:auto\">(.*)</div></div>$", html, re.DOTALL)
    assert drawn is not None
    assert _raw(re.sub(r"<sup>.*?</sup>", "", drawn[1]).replace("<br>", "\n")) == text


def test_marks_are_exactly_the_gold_and_the_words():
    text = "Workers stop <b>when</b> asked. Nothing else stops a worker."
    page = Page(show_hits([hit(text, start=100)], "How do I stop a worker?", [Span("guide", 108, 130)]).html)
    assert "".join(page.inside["mark"]) == text[8:30]
    body = Page(highlight(text, word_matches(text, "How do I stop a worker?")))
    assert body.inside["b"] == ["Workers", "stop", "stops", "worker"]


def test_words_of_a_setting_name_are_matched_apart():
    assert word_matches("set worker_prefetch_multiplier", "prefetch multiplier?") == [(11, 19), (20, 30)]


def test_stopwords_alone_mark_nothing():
    assert word_matches("How do I do this?", "How do I do it?") == []


def test_gold_in_another_document_is_not_marked():
    view = show_hits([hit("some text")], gold=[Span("other", 0, 9)])
    assert "<mark" not in view.html
    assert "★" not in view.text


def test_hits_say_whether_they_hold_all_or_a_part_of_the_answer():
    question = Question("q", "Where?", (Span("guide", 0, 10),))
    view = show_hits([hit("x" * 20), hit("x" * 5), hit("x" * 5, start=30)], question)
    flags = [line.partition("★")[2].strip() for line in view.text.splitlines() if "score" in line]
    assert flags == ["holds the answer", "holds a part of the answer", ""]


def test_hits_show_document_section_and_score():
    text = repr(show_hits([hit("Press the lever.", score=0.12345)], "lever"))
    assert text == "Question: lever\n 1  score 0.12  guide › Guide › Part\n    Press the lever."


def test_only_the_first_long_passage_is_unfolded_and_short_ones_are_shown_once():
    page = show_hits([hit("first " * 90), hit("second " * 90), hit("a short one")]).html
    assert [row.startswith(" open") for row in page.split("<details")[1:]] == [True, False, True]
    assert Page(page).text.count("a short one") == 1


@pytest.mark.parametrize("question", [None, "Where?"])
def test_no_hits_are_said_in_words(question):
    view = show_hits([], question)
    assert "No passage was found." in view.text
    assert "No passage was found." in view.html


def test_an_answer_shows_its_citations_and_times():
    answer = Answer(
        "Which lever?",
        "The red one. [1]",
        citations=(Citation(1, hit("The red one.").chunk, "The red one."),),
        timings={"retrieve": 12.345, "total": 1234.5},
    )
    view = show_answer(answer)
    assert repr(view).splitlines() == [
        "Question: Which lever?",
        "Answer: The red one. [1]",
        "[1] guide › Guide › Part",
        "retrieve 12 ms · total 1234 ms",
    ]
    page = Page(view.html)
    assert page.links == [f"#{page.names[0]}"]
    assert page.inside["a"] == ["[1]", ""]
    assert page.names != Page(show_answer(answer).html).names  # a page may show an answer twice


def source_of(view: View) -> tuple[str, str]:
    """The HTML of a view's one source: what is folded above its first quote, and what is shown."""
    source = view.html.partition("<details")[2].partition("</summary>")[2].rpartition("</details>")[0]
    folded, fold, shown = source.rpartition("</details>")
    return (folded, shown) if fold else ("", source)


def test_a_source_is_shown_from_two_lines_above_its_first_quote():
    above = "".join(f"Line {i} of what nobody asked.\n" for i in range(99))
    chunk = hit(f"{above}Pull the lever. Then wait.\nMore.").chunk
    folded, shown = source_of(show_answer(Answer("How?", "...", citations=(Citation(1, chunk, "Pull the lever."),))))
    two = "Line 97 of what nobody asked.\nLine 98 of what nobody asked.\n"
    assert shown.startswith(f"{two}<mark".replace("\n", "<br>"))
    assert f"<summary>… {len(above) - len(two):,} characters above</summary>" in folded


@given(st.text("ab .\n", max_size=900), st.integers(0, 900))
def test_a_source_is_shown_whole_with_its_first_quote_near_the_top(text, at):
    source = f"{text[:at]}!{text[at:]}"
    chunk = Chunk("d", 0, len(source), source)
    folded, shown = source_of(show_answer(Answer("q", "a", citations=(Citation(1, chunk, "!"),))))
    above = _raw(re.sub("<summary>.*</summary>", "", folded))
    assert re.sub(r"\s", "", above + _raw(shown)) == re.sub(r"\s", "", source)
    assert len(_raw(shown.partition("<mark")[0])) <= 2 * ABOVE


def test_a_citation_names_the_sections_of_its_quotes_not_of_its_chunk():
    text = "One is red. Two is blue. Three is green."
    pages = tuple(Section((f"Page {n}",), *at) for n, at in enumerate([(0, 0, 12), (12, 12, 25), (25, 25, 40)], 1))
    chunk = FixedChunker(64, 0).chunk(Document("book", text, sections=pages))[0]
    assert chunk.section == ("Page 1",)
    quotes = ["Two is blue.", "Three is green."]
    view = show_answer(Answer("q", "a", citations=tuple(Citation(1, chunk, quote) for quote in quotes)))
    assert repr(view).splitlines()[-1] == "[1] book › Page 2; Page 3"
    assert "<b>book</b> · Page 2; Page 3" in view.html


def test_an_answer_keeps_its_blocks_and_lines_without_any_style():
    text = (
        "## Steps\n\nFirst\nsecond `a < b[1]`. [1]\n\n3. one\n   - inner\n4. two\n\n| a | b |\n|---|--:|\n| x | [2] |\n"
        "\n> said\n\n[1]: http://example.org\n\n![p](http://example.org/p.png) <img src=x>"
    )
    chunk = hit("x").chunk
    view = show_answer(Answer("q", text, citations=(Citation(1, chunk, "x"),)))
    bare = re.sub(r' style="[^"]*"', "", view.html)
    for piece in (
        "<p><b>Steps</b></p>",
        "<p>First<br>second <code>a &lt; b[1]</code>. <a ",
        '<ol start="3"><li>one<ul><li>inner</li></ul></li><li>two</li></ol>',
        "<td>x</td><td><b>[2]</b></td>",
        "<blockquote><p>said</p></blockquote>",
        "</a>: http://example.org</p>",
        "<p>![p](http://example.org/p.png) &lt;img src=x&gt;</p>",
    ):
        assert piece in bare


@pytest.mark.parametrize(
    "thing",
    [
        pd.DataFrame({"n": ["<b>1</b>"]}),
        show_hits([hit("Press the lever.")]),
        "two\nlines <script>",
        {"recall": 0.5},
        View,
    ],
    ids=["table", "view", "text", "dictionary", "class"],
)
def test_what_is_revealed_is_closed_and_whole(thing):
    view = reveal(thing, "Look <here>")
    page = Page(view.html)
    assert view.html.partition("<summary>")[0].endswith("<details>")
    assert page.inside["summary"][0] == "Look <here>"
    assert repr(view) == repr(thing)
    assert "script" not in page.tags
    if hasattr(thing, "_repr_html_") and not isinstance(thing, type):
        assert thing._repr_html_() in view.html
    else:
        assert page.inside["pre"] == [thing if isinstance(thing, str) else repr(thing)]


def test_a_figure_is_not_revealed():
    with pytest.raises(InputError, match="cell of their own"):
        reveal(go.Figure())


def test_a_source_is_listed_once_with_everything_quoted_from_it_marked():
    chunk = hit("The red one. Or the blue one. Never the green one.").chunk
    quotes = ["The red one.", "Never the green one."]
    answer = Answer("Which?", "...", citations=tuple(Citation(2, chunk, quote) for quote in quotes))
    page = Page(show_answer(answer).html)
    assert page.inside["mark"] == quotes
    assert len(page.inside["details"]) == 1
    assert chunk.text in page.inside["details"][0]


def test_the_sanitiser_of_nbval_covers_the_times():
    pattern = r"\b\d+(\.\d+)? ?(ns|µs|μs|us|ms|s)\b"
    views = [show_answer(Answer("q", "a", timings={"retrieve": t, "total": t * 9})) for t in (0.04, 7.0, 123456.7)]
    assert len({re.sub(pattern, "", view.text) for view in views}) == 1
    assert len({re.sub(pattern, "", view.html) for view in views}) == 1


def test_a_fallback_and_an_abstention_are_visible():
    assert "No answer (nothing fits)" in show_answer(Answer("q", "-", abstained=True, reason="nothing fits")).text
    assert "writer: m, 10 tokens" in show_answer(Answer("q", "a", usage=Usage("m", 7, 3), writer="m")).text
    unsure = "unsure: the best passage holds only 24% of what is asked"
    assert f"Answer ({unsure}): a" in show_answer(Answer("q", "a", reason=unsure)).text
    assert "Answer (answered by another)" in show_answer(Answer("q", "a", reason="answered by another")).text


def test_chunks_are_numbered_and_overlaps_counted():
    document = Document("d", "one two three four five six")
    chunks = FixedChunker(4, 2).chunk(document)
    view = show_chunks(document, chunks, [Span("d", 0, 3)])
    assert view.text.splitlines()[0] == "d: 2 chunks"
    assert "gold" in view.text.splitlines()[1]
    assert f"{chunks[0].end - chunks[1].start} shared with the one before" in view.text.splitlines()[2]
    assert Page(view.html).inside["sup"] == ["▏1", "▏2"]
    assert Page(view.html).inside["mark"] == ["one"]


def test_hits_are_numbered_by_rank_and_the_text_begins_a_little_above_the_best():
    document = Document("d", "".join(f"word{i} " for i in range(900)))
    chunks = FixedChunker(100, 0).chunk(document)
    hits = [hit("elsewhere", doc_id="e"), Hit(chunks[5], 2.0), Hit(chunks[6], 1.0)]
    view = show_chunks(document, chunks, hits=hits)
    assert [label for label in Page(view.html).inside["sup"] if "hit" in label] == [" hit 2 ", " hit 3 "]
    assert "blue: a hit" in view.html
    assert "hit 2" in view.text.splitlines()[6]
    before, _ = Page(view.html).text.split(" hit 2 ")
    assert 0 < before.count("word") < 30
    assert "blue" not in show_chunks(document, chunks, hits=hits[:1]).html


def test_a_long_document_is_drawn_around_its_gold():
    document = Document("d", "".join(f"word{i} " for i in range(5000)))
    span = Span("d", 30_000, 30_020)
    view = show_chunks(document, FixedChunker(100, 10).chunk(document), [span])
    assert "".join(Page(view.html).inside["mark"]) == document.text[30_000:30_020]
    assert "characters not drawn" in view.html
    assert len(view.html) < 60_000
    assert "more" in view.text.splitlines()[-1]


def test_chunks_of_other_documents_are_ignored():
    view = show_chunks(Document("d", "one two"), [hit("one", doc_id="e").chunk])
    assert view.text == "d: 0 chunks"
    assert show_chunks(Document("d", "one"), [hit("one", doc_id="d").chunk]).text.startswith("d: 1 chunk\n")


def test_a_table_escapes_every_cell_and_lets_each_choose_its_direction():
    texts = ["<b>x</b>", "שלום <script>", "مرحبا", "你好 & co"]
    view = show_table(pd.DataFrame({"text": texts, HOSTILE: 1.5}, index=["es", "he", "ar", HOSTILE]))
    page = Page(view.html)
    assert page.tags == {"div", "table", "tr", "th", "td"}
    assert [text for text in page.inside["td"] if text != "1.5"] == texts
    assert view.html.count('<td dir="auto"') == 8
    assert all(text in view.text for text in texts)


CODE = "Stop <it>[2]:\n\n```sh\nkill $1 && x[1] <script>\n```\n\nDone. [1]"


def test_code_is_shown_as_code_and_escaped():
    chunk = Chunk("guide", 0, len(CODE), CODE)
    for view in (
        show_answer(Answer("How?", CODE, citations=(Citation(1, chunk, CODE),))),
        show_hits([Hit(chunk, 1.0)]),
    ):
        page = Page(view.html)
        assert set(page.inside["code"]) == {"kill $1 && x[1] <script>"}
        assert "script" not in page.tags
    answer = show_answer(Answer("How?", CODE))
    assert Page(answer.html).inside["b"][-2:] == ["[2]", "[1]"]  # an index in code is no citation
    assert CODE in answer.text


def test_code_that_a_chunk_begins_in_is_shown_as_code():
    text = "x = 1\n```\n\nThen words."
    page = Page(show_hits([hit(text, start=50)]).html)
    assert page.inside["code"] == ["x = 1"]
    assert "Then words." in page.text


def test_gold_in_code_is_marked():
    start = CODE.index("kill")
    page = Page(show_hits([hit(CODE)], "How?", [Span("guide", start, start + 4)]).html)
    assert page.inside["mark"] == ["kill"]


def test_chunks_are_drawn_through_code():
    text = f"Words.\n\n{CODE}\n\nMore."
    document = Document("d", text)
    view = show_chunks(document, FixedChunker(9, 2).chunk(document))
    page = Page(view.html)
    assert len(page.inside["code"]) == 1
    assert re.sub(r"▏\d+", "", page.inside["code"][0]) == text[text.index("```") : text.rindex("```") + 3]
