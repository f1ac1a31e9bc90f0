"""Markdown as its syntax says: what is code is known, and no block or sentence loses a word."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from docutils import nodes
from hypothesis import given
from hypothesis import strategies as st

from ragkit.corpus import pydocs
from ragkit.corpus.pydocs import fetch, read_archive
from ragkit.corpus.rst import parse, write
from ragkit.markdown import blocks, sections, sentences

MARKS = st.sampled_from(
    [
        "a",
        "B.",
        "!",
        ": ",
        "\n",
        "\n\n",
        "- ",
        "`",
        "```",
        "```py",
        "$",
        "=",
        "===",
        "---",
        "# ",
        "1. ",
        "> ",
        "    ",
        "é",
        "\t",
        "\r\n",
        "\r",
        "。",
        "¿",
        "|",
    ]
)
TEXTS = st.lists(MARKS | st.characters(), max_size=60).map("".join)


@given(TEXTS, st.booleans())
def test_blocks_are_ordered_and_lose_no_word(text, cut):
    position = 0
    for block in blocks(text, cut):
        assert position <= block.start < block.end
        assert text[block.start : block.end].strip()
        assert not text[position : block.start].strip()
        assert (block.kind == "heading") == (1 <= block.level <= 6)
        position = block.end
    assert not text[position:].strip()


@given(TEXTS)
def test_sections_run_from_heading_to_heading(text):
    found = sections(text)
    assert "".join(text[s.start : s.end] for s in found) == text
    assert [s.start for s in found if s.path] == [b.start for b in blocks(text) if b.kind == "heading"]


@given(TEXTS, st.data())
def test_sentences_lose_no_word(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    position = start
    for a, b in sentences(text, start, end):
        assert position <= a < b <= end
        assert text[a:b] == text[a:b].strip()
        assert not text[position:a].strip()
        position = b
    assert not text[position:end].strip()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("One line\nand one more.\n\nAnother paragraph.", ["paragraph", "paragraph"]),
        ("Frequently asked questions", ["paragraph"]),
        ("def f(x):\n    return x", ["paragraph"]),  # without marks it is no code
        ("# A\n\n## B ##\ntext\n\nSetext\n---\n\nmore", ["heading", "heading", "paragraph", "heading", "paragraph"]),
        ("```python\nx = 1\n\n# no heading\n```", ["code"]),
        ("~~~\n```\n~~~\n\nwords", ["code", "paragraph"]),
        ("So:\n\n    kill 1\n\n    kill 2", ["paragraph", "code"]),
        ("1. One\n\n   More of it.\n\n2. Two", ["list"]),
        ("- a\n\n  ```sh\n  run\n  ```\n- b\n\nend", ["list", "code", "list", "paragraph"]),
        ("a | b\n--- | ---\n1 | 2\n\nend", ["table", "paragraph"]),
        ("a | b, said he", ["paragraph"]),
        ("> said\n> - a\n\nend", ["quote", "paragraph"]),
        ("---\ntitle: A\ntags: [b]\n---\n# C\nwords", ["code", "heading", "paragraph"]),
        ("<div>\n<b>x</b>\n</div>\n\n[a]: https://x.org", ["paragraph", "paragraph"]),
    ],
)
def test_kinds_of_blocks(text, kinds):
    assert [b.kind for b in blocks(text)] == kinds


def test_a_block_knows_the_heading_above_it():
    text = "before\n\n# The `A` #\n\none\n\nB\n===\n\ntwo"
    assert [(b.level, b.heading) for b in blocks(text)] == [(0, ""), (1, ""), (0, "The `A`"), (1, "The `A`"), (0, "B")]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("x = 1\n```\n\nThen:\n\n```python\ny = 2", ["code", "paragraph", "code"]),
        ("x = 1\n```\n\nThen.", ["code", "paragraph"]),
        ("```python\nx = 1", ["code"]),
        (
            "and so on.\n\n    Deep words.\n\n    ```sh\n    run\n    ```\n\n- b",
            ["paragraph", "paragraph", "code", "list"],
        ),
    ],
)
def test_a_piece_may_begin_in_a_fence_or_in_a_list(text, kinds):
    assert [b.kind for b in blocks(text, cut=True)] == kinds


def test_sentences_of_many_kinds():
    text = (
        "Use pip, e.g. Version 2. (See J. Doe.) Is it v1.2? Yes! `purge` is it. Not in 1999. Or so: it is\n"
        "1. First. Then\n2. second\n\nEs ist z.B. über da. Über uns. 中文。字符！"
    )
    assert [text[a:b] for a, b in sentences(text)] == [
        *("Use pip, e.g. Version 2.", "(See J. Doe.)", "Is it v1.2?", "Yes!", "`purge` is it.", "Not in 1999."),
        *("Or so: it is", "1. First.", "Then", "2. second", "Es ist z.B. über da.", "Über uns.", "中文。", "字符！"),
    ]


@pytest.mark.parametrize("unit", ["-1 ", ". ", ".", '."', " ", "\n", "A. ", "- ", "# ", "`", "|", "|-", "> ", "1. "])
def test_long_runs_of_one_mark_are_read(unit):
    """Quadratic time would take minutes here."""
    text = unit * (300_000 // len(unit))
    assert len(sentences(text)) <= len(text)
    assert len(blocks(text, cut=True)) <= len(text)


def test_what_is_code_is_known():
    """docutils' own literal blocks in the documents of ``tiny``: each is a block of code, and nothing else."""
    wrong, count = [], 0
    for project in pydocs.read_projects("pydocs.toml", "tiny"):
        files = read_archive(
            fetch(project.name, project.file, project.sha256), lambda name: name.endswith((".rst", ".md"))
        )
        for name, content in files.items():
            if not PurePosixPath(*PurePosixPath(name).parts[1:]).is_relative_to(project.docs):
                continue
            tree = parse(content.decode("utf-8-sig", "replace"), "md" if name.endswith(".md") else "rst", name)
            text = write(tree).text
            code = {_words(text[b.start : b.end].split("\n")[1:-1]) for b in blocks(text) if b.kind == "code"}
            for node in tree.findall(lambda n: isinstance(n, nodes.literal_block | nodes.doctest_block)):
                if isinstance(node.parent, nodes.entry | nodes.system_message) or not node.astext().strip():
                    continue  # a cell of a table has one line, and code in it stands in backticks
                count += 1
                if _words(node.astext().split("\n")) not in code:
                    wrong.append((name, node.astext()[:60]))
    assert wrong == []
    assert count > 700


def _words(lines):
    return tuple(line.strip() for line in lines if line.strip())
