"""Text as a reader sees it: no block, sentence or passage loses a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.passages import blocks, passages, sentences

GUIDE = """\
Purging

Waiting tasks can be discarded. This can't be undone!

Use the purge command to discard all waiting tasks:

$ celery -A proj purge

Revoking

A single task is revoked by its id, e.g. from the shell.

- Revoked tasks are skipped.
- Running tasks go on, unless they are terminated.
"""


@given(st.text(st.sampled_from("aB.!: \n-`$=(1é") | st.characters(), max_size=200))
def test_blocks_and_passages_are_ordered_and_lose_no_word(text):
    position = 0
    for block in blocks(text):
        assert position <= block.start < block.end
        assert text[block.start : block.end].strip()
        assert not text[position : block.start].strip()
        position = block.end
    assert not text[position:].strip()
    found = [b for b in blocks(text) if b.kind == "heading"]
    headings = [] if len(found) == len(blocks(text)) else found
    covered = sorted([(p.start, p.end) for p in passages(text)] + [(h.start, h.end) for h in headings])
    joined = "".join(text[a:b] for a, b in covered)
    assert sorted("".join(joined.split())) == sorted("".join(text.split()))


def test_blocks_of_a_guide():
    assert [b.kind for b in blocks(GUIDE)] == ["heading", "prose", "prose", "code", "heading", "prose", "list"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("```python\nx = 1\n\ny = 2\n```", "code"),
        ("    kill 1\n\n    kill 2", "code"),
        ("def f(x):\n    return x", "code"),
        (">>> f(1)\n2", "code"),
        ("services:\n  web:\n    image: x", "code"),
        ("[tool.black]\nline-length = 88", "code"),
        ("celery -A proj worker --loglevel INFO", "code"),
        ("worker_concurrency\n    How many processes there are.", "entry"),
        ("Name | Value\n--- | ---\na | 1", "entry"),
        ("1. One\n\n   More of it.\n\n2. Two", "list"),
        ("It works. Note that a = 1 is fine here.", "prose"),
        ("Frequently Asked Questions", "heading"),
        ("Default: True", "prose"),
    ],
)
def test_kind_of_block(text, kind):
    assert [(b.kind, text[b.start : b.end]) for b in blocks(text)] == [(kind, text)]


def test_sentences_know_abbreviations():
    text = "Use pip, e.g. Version 2. (See J. Doe.) Is it v1.2? Yes!"
    assert [text[a:b] for a, b in sentences(text)] == [
        "Use pip, e.g. Version 2.",
        "(See J. Doe.)",
        "Is it v1.2?",
        "Yes!",
    ]


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


@pytest.mark.parametrize("told", ["celery purge", "It takes two steps.", "- one\n- two", "key\n    its value"])
def test_what_a_colon_announces_stays_with_it(told):
    text = f"Purging\n\nDo this:\n\n{told}\n\nThat is all."
    assert [text[p.start : p.end] for p in passages(text)] == [f"Do this:\n\n{told}", "That is all."]
