"""Which changes of a notebook's output are forgiven, and what is said of those that are not."""

from __future__ import annotations

import doctest

import notebook_compare
import pytest
from hypothesis import given
from hypothesis import strategies as st
from notebook_compare import differences

from ragkit.base import Chunk, Hit
from ragkit.notebook.display import show_hits

TABLE = """\
                     recall@5   mrr  questions  verdict
BM25, 128 tokens        0.612  0.44        360  no detectable difference
dense, 128 tokens       0.542  0.40        360  better
dense, 256 tokens       0.498  0.37       2339  no detectable difference
-----------------------------------------------"""


def changed(*pairs: tuple[str, str]) -> str:
    """``TABLE`` with each first text of ``pairs``, which must be there, replaced by the second."""
    table = TABLE
    for old, new in pairs:
        assert old in table
        table = table.replace(old, new)
    return table


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.40", "0.41"),  # the last digit
        ("0.40", "0.39"),
        ("0.542", "0.547"),  # 1 %
        ("0.542", "0.5421"),
        ("0.400", "0.4"),  # Python's own way to write it
        ("+0.000", "-0.000"),
        ("0.001", "-0.000"),
        ("-.060", "-.061"),
        ("1e-05", "2e-05"),
        ("1.50e-05", "1.51e-05"),
        ("150.25", "151.7"),
        ("97.5%", "97.6%"),
        ("{'black': 1.25}", "{'black': 1.26}"),
        ("-0.063 [-0.111, -0.005]", "-0.064 [-0.110, -0.004]"),
        ("[0.392 0.021 0.   ]", "[0.392 0.021 0.001]"),  # as numpy writes it
        ("[ 0.1 -0.2]", "[-0.0 -0.2]"),
        ("[0. 1.]", "[-0. 1.]"),
        ('<td style="width:50.0%">0.542</td>', '<td style="width:50.4%">0.543</td>'),
        ("nan", "nan"),
    ],
)
def test_close_floats_are_alike(old, new):
    assert differences(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("0.542", "0.561", "0.542 became 0.561 (+0.019, allowed 0.00542)"),
        ("0.0542", "0.0552", "0.0542 became 0.0552 (+0.0010, allowed 0.000542)"),
        ("0.23", "-0.23", "0.23 became -0.23 (-0.46, allowed 0.01)"),
        ("0.5", "0.5812", "0.5 became 0.5812 (+0.0812, allowed 0.005)"),
        ("1.5e-05", "1.5e-04", "1.5e-05 became 1.5e-04 (+0.000135, allowed 1e-06)"),
        ("2339", "2340", "2339 became 2340 (+1, allowed 0)"),
        ("rank 17", "rank 15", "17 became 15 (-2, allowed 0)"),
        ("+3", "3", "+3 became 3 (+0, allowed 0)"),
        ("in 2023.", "in 2024.", "2023. became 2024. (+1, allowed 0)"),
        ("1", "0.999", "1 became 0.999 (-0.001, allowed 0)"),
        ("100", "100.0", "100 became 100.0 (+0.0, allowed 0)"),
        ("97%", "98%", "97 became 98 (+1, allowed 0)"),
        ("<td>0.50</td>", "<td>0.60</td>", "0.50 became 0.60 (+0.10, allowed 0.01)"),
    ],
)
def test_other_numbers_are_reported_with_the_difference(old, new, difference):
    assert differences(old, new) == [f"line 1: {difference}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v0.4", "v0.5"),
        ("1.2.3", "1.2.4"),
        ("127.0.0.1:80", "127.0.0.2:80"),
        ("02.1 done", "02.2 done"),
        ("HTTP/1.1", "HTTP/1.2"),
        ("0:10.36", "0:10.37"),
        ("0.1-0.2", "0.1-0.3"),
        ("gpt-3.5", "gpt-3.6"),
        ("9.9m", "9.8m"),
        ("nan", "0.5"),
        ("inf", "-inf"),
        ("0.5", "inf"),
        ("better", "worse"),
        ("a b", "ab"),
        ("<b>0.5</b>", "<i>0.5</i>"),
    ],
)
def test_words_are_exact(old, new):
    assert differences(f"x {old}", f"x {new}") == [f"line 1: {f'x {old}'!r} became {f'x {new}'!r}"]


def test_a_column_may_become_wider():
    wider = changed(
        ("recall@5   mrr", " recall@5   mrr"), (" 0.612", "-0.000"), ("0.542", " 0.542"), ("-----", "------")
    )
    assert differences(TABLE.replace("0.612", "0.000"), wider) == []


def test_a_changed_verdict_shows_both_lines():
    assert differences(TABLE, changed(("  better", "  no detectable difference"))) == [
        "line 3: 'dense, 128 tokens       0.542  0.40        360  better' "
        "became 'dense, 128 tokens       0.542  0.40        360  no detectable difference'"
    ]


def test_a_missing_and_a_new_row_are_named():
    row = "dense, 128 tokens       0.542  0.40        360  better"
    without = changed((row + "\n", ""))
    assert differences(TABLE, without) == [f"line 3: {row!r} is missing"]
    assert differences(without, TABLE) == [f"line 3: {row!r} is new"]


def test_every_difference_is_named_with_its_line():
    assert differences(TABLE, changed(("0.44", "0.48"), ("2339", "2340"))) == [
        "line 2: 0.44 became 0.48 (+0.04, allowed 0.01)",
        "line 4: 2339 became 2340 (+1, allowed 0)",
    ]


def test_line_breaks_count_and_rows_of_a_table_do_not_move():
    assert differences("a\nb", "a b") != []
    assert differences("a\n\nb", "a\nb") == ["line 2: '' is missing"]
    assert differences("a 0.50\nb 0.50", "b 0.50\na 0.50") != []


def test_a_long_line_is_quoted_where_it_differs_and_a_long_list_is_cut():
    (difference,) = differences("x" * 500 + " better " + "y" * 500, "x" * 500 + " worse " + "y" * 500)
    assert " better " in difference
    assert " worse " in difference
    assert len(difference) < 300
    many = differences("\n".join("0.1" for _ in range(33)), "\n".join("0.9" for _ in range(33)))
    assert len(many) == 21
    assert many[-1] == "and 13 more"


def hits(*scored: tuple[str, float]) -> list[Hit]:
    passages = {
        "kettle": "Press the red lever to boil water.",
        "lamp": "Turn the wheel to dim it. " * 20 + "At 0.5 A the fuse blows.",
        "radio": "Press SEEK until a station comes.\n\nSet the volume.",
        "stove": "Turn the knob.",
    }
    return [Hit(Chunk(name, 0, len(passages[name]), passages[name], ("Guide",)), score) for name, score in scored]


def both_forms(before: list[Hit], after: list[Hit]) -> list[list[str]]:
    """The differences of what ``show_hits`` writes, as text and as HTML. The gold is in the lamp."""
    views = [show_hits(h, "How do I turn it?", [Chunk("lamp", 0, 25, "").span]) for h in (before, after)]
    return [differences(views[0].text, views[1].text), differences(views[0].html, views[1].html)]


BEFORE = hits(("kettle", 0.66), ("lamp", 0.65), ("radio", 0.64), ("stove", 0.32))


@pytest.mark.parametrize(
    "after",
    [
        hits(("lamp", 0.66), ("kettle", 0.65), ("radio", 0.64), ("stove", 0.32)),
        hits(("kettle", 0.66), ("radio", 0.65), ("lamp", 0.65), ("stove", 0.32)),
        hits(("kettle", 0.66), ("lamp", 0.66), ("radio", 0.64), ("stove", 0.33)),
    ],
)
def test_hits_with_close_scores_may_change_places(after):
    assert both_forms(BEFORE, after) == [[], []]


def test_a_passage_may_be_in_a_list_twice():
    before, after = hits(("kettle", 0.66), ("lamp", 0.65), ("kettle", 0.32)), hits(("lamp", 0.66), ("kettle", 0.66))
    assert both_forms(before, [*after, before[2]]) == [[], []]


def test_hits_in_two_lists_change_places_in_their_own_list_only():
    one, two = (show_hits(h, "?").text for h in (BEFORE, [BEFORE[1], BEFORE[0], *BEFORE[2:]]))
    assert differences(f"{one}\n{one}", f"{one}\n{two}") == []
    first, second = show_hits(BEFORE[:1], "?").text, show_hits(BEFORE[1:2], "?").text
    assert differences(f"{first}\n{second}", f"{second}\n{first}") != []


def test_hits_with_a_clear_margin_may_not():
    after = hits(("kettle", 0.66), ("lamp", 0.65), ("stove", 0.64), ("radio", 0.32))
    for difference in both_forms(BEFORE, after):
        assert difference[0] == (
            "hits 3 and 4 changed places: scores 0.64 and 0.32 became 0.32 and 0.64 (allowed: 0.01 apart)"
        )
    # Each is close to the next, but the third has passed the first.
    after = hits(("radio", 0.66), ("lamp", 0.65), ("kettle", 0.65), ("stove", 0.32))
    for difference in both_forms(BEFORE, after):
        assert difference[0].startswith("hits 1 and 3 changed places: scores 0.66 and 0.64 became 0.65 and 0.66")


def test_hits_that_come_apart_while_they_change_places_may_not():
    before, after = hits(("kettle", 6.65), ("lamp", 6.65)), hits(("lamp", 6.70), ("kettle", 6.65))
    for difference in both_forms(before, after):
        assert difference == [
            "hits 1 and 2 changed places: scores 6.65 and 6.65 became 6.65 and 6.70 (allowed: 0.01 apart)"
        ]


def test_another_hit_is_reported_with_its_score():
    text, html = both_forms(BEFORE[:3], hits(("kettle", 0.66), ("lamp", 0.65), ("stove", 0.63)))
    assert text[0].startswith("line 6: ' 3  score 0.64  radio › Guide' became ' 3  score 0.63  stove › Guide")
    assert html != []


def test_a_missing_hit_is_reported():
    text, html = both_forms(BEFORE, BEFORE[:3])
    assert text[0] == "line 8: ' 4  score 0.32  stove › Guide' is missing"
    assert html != []


WORDS = st.lists(st.sampled_from(["better", "360", "0.5", "-.25", "1.2.3", "\n", "  ", "[", "1e-05", "x"]))


@given(WORDS, st.data())
def test_an_added_word_is_never_forgiven(words, data):
    place = data.draw(st.integers(0, len(words)))
    text, longer = " ".join(words), " ".join([*words[:place], "not", *words[place:]])
    assert differences(text, text) == []
    assert differences(text, longer) != []
    assert differences(longer, text) != []


@given(st.floats(-1000, 1000).map(lambda x: round(x, 3)), st.integers(-1000, 1000))
def test_a_float_is_forgiven_as_far_as_the_rule_says(value, thousandths):
    change = round(thousandths / 1000 * abs(value) / 20, 3)  # up to 5 %
    alike = differences(f"{value:.3f}", f"{value + change:.3f}") == []
    if abs(change) <= 0.0005 or abs(change) < 0.0099 * abs(value):
        assert alike
    elif abs(change) > max(0.0015, 0.0101 * abs(value)):
        assert not alike


def test_the_examples_of_the_module():
    assert doctest.testmod(notebook_compare).failed == 0
