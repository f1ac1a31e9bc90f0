"""reStructuredText and the dialects of Markdown become one plain Markdown."""

from __future__ import annotations

from textwrap import dedent

import pytest
from docutils import nodes, utils
from docutils.parsers.rst import directives, roles
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Section
from ragkit.corpus.rst import Page, fold, html_words, parse, titles, write
from ragkit.markdown import blocks, sections


def read(source: str, markup: str = "rst", **options) -> Page:
    return write(parse(dedent(source).strip("\n") + "\n", markup), **options)


def text(source: str, markup: str = "rst") -> str:
    return read(source, markup).text


RST_AND_MD = [
    (
        "rst",
        """
        Guide
        =====

        Use :meth:`~app.Control.revoke` or :class:`.Task`, see `the site <https://x.org>`_ and *more*
        on two lines; ``--flag`` stays.

        Stop
        ----

        .. code-block:: python

            if x:
                stop()  # **now**

        .. note:: Mind the gap.
        """,
    ),
    (
        "md",
        """
        # Guide

        Use {meth}`~app.Control.revoke` or {class}`.Task`, see [the site](https://x.org) and *more*
        on two lines; `--flag` stays.

        ## Stop

        ```python
        if x:
            stop()  # **now**
        ```

        :::{note}
        Mind the gap.
        :::
        """,
    ),
]
SAME_TEXT = """\
# Guide

Use revoke or Task, see the site and more on two lines; `--flag` stays.

## Stop

```python
if x:
    stop()  # **now**
```

Note: Mind the gap."""


@pytest.mark.parametrize(("markup", "source"), RST_AND_MD)
def test_both_languages_read_the_same(markup, source):
    page = read(source, markup)
    assert page.text == SAME_TEXT
    assert page.title == "Guide"
    stop = SAME_TEXT.index("## Stop")
    assert page.sections == (
        Section(("Guide",), 0, 9, stop),
        Section(("Guide", "Stop"), stop, stop + 9, len(SAME_TEXT)),
    )
    assert page.sections == sections(page.text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (":ref:`the guide <guide-workers>`", "the guide"),
        (":doc:`/userguide/workers`", "workers"),
        (":pep:`8` and :issue:`12` and :sig:`HUP`", "PEP 8 and #12 and HUP"),
        (":func:`!len` and :unheard-of:`words`", "len and words"),
        ("A |substitution| that nobody defined", "A substitution that nobody defined"),
        ("`A link`_ to nowhere, and foo_", "A link to nowhere, and foo"),
        ("*args and **kwargs and a lone `tick", "*args and **kwargs and a lone `tick"),
        ("- a\n- b\n\n  - c\n", "- a\n- b\n  - c"),
        ("3. a\n4. b\n", "3. a\n4. b"),
        ("term : kind\n    What it is.\n", "- term (kind): What it is."),
        ("| one\n| two\n", "one\ntwo"),
        (":param int n: how many\n:returns: the sum\n", "- Parameter n (int): how many\n- Returns: the sum"),
        ("Fact [1]_.\n\n.. [1] Source.\n", "Fact [1].\n\n[1] Source."),
        ("====  ====\nName  Use\n====  ====\na     b\n====  ====\n", "| Name | Use |\n| --- | --- |\n| a | b |"),
        (".. versionadded:: 5.1\n", "New in version 5.1"),
        (".. versionchanged:: 5.2\n   Faster now.\n", "Changed in version 5.2: Faster now."),
        (".. deprecated:: 6 Use :func:`b`.\n", "Deprecated since version 6: Use b."),
        (".. seealso:: The manual\n", "See also: The manual"),
        (".. admonition:: Beware\n\n   Of the dog.\n", "Beware: Of the dog."),
        (".. warning::\n\n   - a\n   - b\n", "Warning:\n\n- a\n- b"),
        (".. py:function:: f(a, \\*args)\n   :async:\n\n   Does it.\n", "- `f(a, *args)`: Does it."),
        (
            ".. class:: Task(name)\n\n   A task.\n\n   .. method:: run()\n\n      Runs.\n",
            "- `Task(name)`: A task.\n\n  - `run()`: Runs.",
        ),
        (".. option:: -A, --app\n\n   The app.\n", "- `-A, --app`: The app."),
        (".. dropdown:: More ``code``\n\n   Hidden.\n", "- More `code`: Hidden."),
        (".. unknown:: words\n   :option: 3\n\n   and more\n", "- words: and more"),
        (".. autosummary::\n   :toctree: api\n\n   ~pkg.one\n   pkg.two\n", "- `pkg.one`\n- `pkg.two`"),
        (".. autofunction:: f\n", ""),
        (".. autoclass:: C\n\n   Words of the author.\n", "- `C`: Words of the author."),
        (".. code-block:: python\n   :linenos:\n\n   a = 1\n\n\n   b = 2\n", "```python\na = 1\n\n\nb = 2\n```"),
        ("Example::\n\n    $ run  --now\n", "Example:\n\n```text\n$ run  --now\n```"),
        (">>> 1 + 1\n2\n", "```pycon\n>>> 1 + 1\n2\n```"),
        (".. math:: a^2\n", "```math\na^2\n```"),
    ],
)
def test_rst_down_to_its_words(source, expected):
    assert text(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        ".. toctree::\n\n   a\n   b\n",
        ".. contents::\n   :local:\n",
        ".. index:: a, b\n",
        ".. This is a comment.\n",
        ".. setting:: FOO\n",
        ".. module:: a.b\n   :synopsis: x\n",
        ".. raw:: html\n\n   <b>x</b>\n",
        ".. image:: x.png\n   :alt: x\n",
        ".. include:: /etc/passwd\n",
        ".. literalinclude:: /etc/passwd\n",
        ".. csv-table::\n   :file: /etc/passwd\n",
        ".. raw:: html\n   :file: /etc/passwd\n",
        ":orphan:\n",
    ],
)
def test_what_is_not_on_the_page_is_not_in_the_text(source):
    assert text(source) == ""
    assert text(f"before\n\n{source}\nafter\n") == "before\n\nafter"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("see [`x`](other.md#x), [b](#b) and [c][d]\n\n[d]: https://x.org", "see `x`, b and c"),
        ("| a | b |\n|---|---|\n| 1 | *2* |", "| a | b |\n| --- | --- |\n| 1 | 2 |"),
        ("- [x] done\n- [ ] open", "- done\n- open"),
        ("Press <kbd>Ctrl</kbd><br>twice\n\n<!-- no -->\n<p>and <b>once</b></p>", "Press Ctrl twice\n\nand once"),
        ("![logo](x.png) words", "words"),
        ("---\ntitle: From above\n---\n\nwords", "# From above\n\nwords"),
        ("---\ntitle: From above\n---\n\n# Own\n\nwords", "# Own\n\nwords"),
        ('!!! warning "Stop"\n    First.\n\n    Second.\n\nAfter.', "Stop: First.\n\nSecond.\n\nAfter."),
        ('=== "Sync"\n\n    ```sh\n    run\n    ```', "Sync:\n\n```sh\nrun\n```"),
        ("```\n!!! note\n    verbatim\n```", "```text\n!!! note\n    verbatim\n```"),
        ("(label)=\n# Title", "# Title"),
        ("```{eval-rst}\n.. note:: :func:`f` it is\n```", "Note: f it is"),
        ("```{code-cell}\n:tags: [a]\n1 + 1\n```", "```python\n1 + 1\n```"),
        ("```{toctree}\na\n```\n\n```{include} /etc/passwd\n```", ""),
    ],
)
def test_markdown_down_to_its_words(source, expected):
    assert text(source, "md") == expected


def test_code_of_the_same_project_is_shown_where_it_is_included():
    code = "import x\n\n\n@wraps\ndef one():\n    return 1\n\n\ndef two():\n    return 2\n"
    files = {"docs/code/a.py": code, "docs/part.rst": "The *part*.\n"}
    source = ".. include:: part.rst\n\n.. literalinclude:: code/a.py\n   :pyobject: one\n"
    page = write(parse(source, "rst", "docs/page.rst", files.get))
    assert page.text == "The part.\n\n```python\n@wraps\ndef one():\n    return 1\n```"
    lines = ".. literalinclude:: code/a.py\n   :lines: 9-\n"
    assert write(parse(lines, "rst", "docs/page.rst", files.get)).text == "```python\ndef two():\n    return 2\n```"


def test_a_page_that_includes_itself_ends():
    files = {"a.rst": "words\n\n.. include:: b.rst\n", "b.rst": "more\n\n.. include:: a.rst\n"}
    page = write(parse(files["a.rst"], "rst", "a.rst", files.get))
    assert page.text.startswith("words\n\nmore")
    assert len(page.text) < 100


def test_faq_headings_become_questions_and_leave_no_trace():
    source = """
        FAQ
        ===

        How do I stop it?
        -----------------

        See `How do I start it?`_.

        Really?
        ~~~~~~~

        Yes.

        How do I start it?
        ------------------

        Press the key.

        Notes
        -----

        - How do I **stop** it?
        - Something else

        Empty?
        ------
        """
    page = read(source, faq=True, banned=frozenset({fold("How do I stop it?"), fold("How do I start it?")}))
    assert [(q.question, page.text[q.start : q.end]) for q in page.questions] == [
        ("How do I stop it?", "See How do I start it?.\n\nYes."),
        ("Really?", "Yes."),
        ("How do I start it?", "Press the key."),
    ]
    assert page.text == "# FAQ\n\nSee How do I start it?.\n\nYes.\n\nPress the key.\n\n## Notes\n\n- Something else"
    assert {s.path for s in page.sections} == {("FAQ",), ("FAQ", "Notes")}


def test_the_title_of_an_faq_is_no_question():
    page = read("Questions?\n==========\n\nWords.\n", faq=True)
    assert (page.text, page.questions) == ("# Questions?\n\nWords.", ())


def test_references_show_the_title_of_their_target():
    page = read(":ref:`a-label` and :doc:`/b`", resolve=lambda kind, target: f"{kind} {target}")
    assert page.text == "ref a-label and doc /b"


def test_titles_finds_labels_without_parsing():
    source = ".. _top:\n.. _start:\n\n=======\n A Page\n=======\n\n.. _in side:\n\nInner ``code``\n--------------\n"
    labels = {"top": "A Page", "start": "A Page", "in side": "Inner code"}
    assert titles(source) == ("A Page", labels)
    assert titles("(x)=\n## Title\n") == ("Title", {"x": "Title"})


def test_docutils_is_left_as_it_was():
    before = directives.directive, roles.role, dict(roles._roles)
    text(".. role:: raw-html(raw)\n   :format: html\n\n.. class:: x\n\n:raw-html:`<b>`")
    assert (directives.directive, roles.role, dict(roles._roles)) == before


@pytest.mark.parametrize("words", ["# 1", "- a", "+ b", "* c", "> d", "1. e", "22) f", "```g", "~~~", "---", "==="])
def test_words_that_look_like_marks_are_a_paragraph(words):
    tree = utils.new_document("")
    tree += [nodes.paragraph("", "", nodes.Text(part)) for part in ("Before.", words, "after.")]
    page = write(tree)
    assert [(b.kind, page.text[b.start : b.end].replace("\\", "")) for b in blocks(page.text)] == [
        ("paragraph", "Before."),
        ("paragraph", words),
        ("paragraph", "after."),
    ]


def test_a_fence_is_longer_than_the_fences_in_its_code():
    page = read("````md\nSo:\n\n```sh\nrun\n```\n````\n", "md")
    assert page.text == "````md\nSo:\n\n```sh\nrun\n```\n````"
    assert [b.kind for b in blocks(page.text)] == ["code"]


def test_cells_that_span_keep_the_columns_below_them_in_place():
    source = """
        +---+-------+
        | a | b     |
        +---+---+---+
        | c | d | e |
        |   +---+---+
        |   | f | g |
        +---+---+---+
        """
    assert text(source) == "|  |  |  |\n| --- | --- | --- |\n| a | b |  |\n| c | d | e |\n|  | f | g |"


def test_code_and_pipes_in_a_cell_stay_in_their_cell():
    source = ".. list-table::\n\n   * - ``a|b``\n     - ::\n\n         x\n         y\n"
    assert text(source) == "|  |  |\n| --- | --- |\n| `a\\|b` | `x y` |"


def test_a_signature_over_several_lines_is_one_term():
    assert text(".. py:function:: f(a, \\\n                 b)\n\n   Does it.\n") == "- `f(a, b)`: Does it."


def test_a_quote_is_marked_and_an_indented_list_is_none():
    assert text("Said:\n\n    Words.\n\n    More.\n") == "Said:\n\n> Words.\n>\n> More."
    assert text("Then:\n\n    - a\n    - b\n") == "Then:\n\n- a\n- b"


def test_html_words_are_paragraphs():
    assert html_words("<p>One <em>two</em><ul><li>- a</ul><script>no()</script>end") == "One two\n\n\\- a\n\nend"


# Whatever the source, the page is sound.

PIECES = (
    "Title\n=====\n¦Sub\n---\n¦# A\n¦## B\n¦- item\n¦  more\n¦.. note::¦   \n¦:ref:`x`¦``¦`¦*¦**¦::\n\n¦    code\n¦\n"
    "¦\n\n¦.. class:: ¦```{note}\n¦```\n¦<b>¦</p>¦[a](b)¦\\¦_¦__¦1. ¦!!! note\n¦| a | b |\n|---|\n¦\t¦.. ¦:a: b\n¦\r\n"
)
SOURCES = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES.split("¦")), max_size=40).map("".join))


def check(page: Page) -> None:
    if page.text:
        assert page.sections[0].start == 0
        assert page.sections[-1].end == len(page.text)
    for section, following in zip(page.sections, page.sections[1:], strict=False):
        assert section.end == following.start
    for section in page.sections:
        assert section.start <= section.body <= section.end
        assert section.start < section.end
        if section.body > section.start:
            marks = "#" * min(6, len(section.path))
            assert page.text[section.start : section.body].strip() == f"{marks} {section.path[-1]}"
    for question in page.questions:
        assert page.text[question.start : question.end].strip()


@pytest.mark.parametrize("markup", ["rst", "md"])
@given(source=SOURCES, faq=st.booleans())
@settings(max_examples=150)
def test_any_text_becomes_a_sound_page(markup, source, faq):
    check(write(parse(source, markup), faq=faq))


@pytest.mark.parametrize("markup", ["rst", "md"])
@pytest.mark.parametrize(
    "source", ["> " * 3000 + "x", "- " * 3000 + "x", "".join(" " * i + "- x\n\n" for i in range(250))]
)
def test_deep_nesting_does_not_end_in_a_crash(markup, source):
    page = write(parse(source, markup))
    check(page)
    assert "x" in page.text or markup == "md"  # Markdown's parser passes over what is nested too deep


@given(st.text("<>/pbrehad!- \n&;lit", max_size=80))
def test_any_html_has_words(source):
    assert isinstance(html_words(source), str)
