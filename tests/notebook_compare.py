r"""When two outputs of a notebook count as the same, and where they differ.

Processors round differently, so the last digits of what a model computes are not the same on every machine. Two
texts are alike if they have the same lines, and these rules hold:

- **Floats** may differ by 1 in the last shown digit or by 1 % of the reference, whichever is more; where one of them
  shows more digits (Python writes 0.5 for 0.500), the last digit of that one counts. A sign belongs to its number, so
  +0.000 and -0.000 are alike. A float has a decimal point or a signed exponent and stands by itself: 0.5, .5, 0.
  (as numpy writes it), 97.5%, 1e-05.
- **Everything else is exact**: integers and words, nan and inf among them. These are words: what belongs to a longer
  one (v0.4, gpt-3.5, TLSv1.2, 9.9m), what has two dots (1.2.3, 127.0.0.1) or an additional zero in front (02.1), paths
  (HTTP/1.1), times (0:00.36), ranges (0.1-0.2). A version or a section number with one dot, alone, cannot be told from
  a float: it is one.
- **Blanks**: a run of them is one, and those around a float and at the ends of a line do not count, for a float that
  becomes a digit wider moves its whole column; neither does the length of a line drawn with - ─ = ═. Line breaks count.
- **Hits**, as ``ragkit.notebook.display.show_hits`` writes them in text and in HTML, may change places if their shown
  scores differ by at most .01, before and after; hits further apart then have the same order as before. The rank stays
  with the place, the other things with the hit. Rows of any other table do not move, and a passage that was not in the
  list is another hit, however close its score is.

HTML is compared by the same rules, tags and attributes included.

>>> differences("recall 0.542 better", "recall 0.543 better")
[]
>>> differences("recall 0.542 better", "recall 0.561 better")
['line 1: 0.542 became 0.561 (+0.019, allowed 0.00542)']
>>> differences("3 of 2339", "3 of 2340")
['line 1: 2339 became 2340 (+1, allowed 0)']
>>> differences("a better", "a no difference")
["line 1: 'a better' became 'a no difference'"]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import combinations, pairwise

RELATIVE = Decimal("0.01")
SWAP = Decimal("0.01")
_MOST = 20  # differences that are listed
_WIDE = 120  # characters of a line that are quoted

_FLOAT = re.compile(
    r"""
    (?<![\w./]) (?<!\w[-–]) (?<!\d:)  # not the end of a word, a version, a path, a range, a time
    [+-]?
    (?: (?:0|[1-9]\d*) (?: \.\d* | (?=e[+-]\d) ) | \.\d+ )
    (?: e[+-]?\d+ )?
    (?! [\w/] | [.:]\d | [-–]\w )  # nor its beginning
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(rf"{_FLOAT.pattern} | (?<![\w.]) [+-]?\d+ (?![\w.])", re.VERBOSE)
_RULE = re.compile(r"([-─=═])\1{2,}")

# The place of a hit (with its rank), the hit, its score: the text of show_hits and its HTML.
_HITS = (
    re.compile(r"^(?P<place> ?(?P<rank>\d+)  )(?P<hit>score (?P<score>-?\d+\.\d+)  .*\n    .*)$", re.MULTILINE),
    re.compile(
        r'(?P<place><details(?: open)? style="[^"]*"><summary><b>(?P<rank>\d+)</b>)'
        r"(?P<hit> · [^\n]*? · score (?P<score>-?\d+\.\d+)<b>.*?</details>)",
        re.DOTALL,
    ),
)


def differences(reference: str, output: str) -> list[str]:
    """What ``output`` has that ``reference`` does not forgive, one sentence a difference; empty if they are alike.

    Lines are counted from 1 in ``reference``; those that are new, in ``output``.
    """
    if reference == output:
        return []
    faults = []
    for hits in _HITS:
        output, moved = _in_order(hits, reference, output)
        faults += moved
    faults += _line_differences(reference.split("\n"), output.split("\n"))
    return [*faults[:_MOST], *([f"and {len(faults) - _MOST} more"] if len(faults) > _MOST else [])]


def _fold(line: str) -> str:
    """The line with one blank for many and around each float."""
    return " ".join(_RULE.sub(r"\1\1\1", _FLOAT.sub(r" \g<0> ", line)).split())


def _template(text: str) -> list[str]:
    """The folded lines without their floats: equal for two texts that are alike."""
    return [_FLOAT.sub("\0", _fold(line)) for line in text.split("\n")]


def _in_order(hits: re.Pattern[str], reference: str, output: str) -> tuple[str, list[str]]:
    """``output`` with its hits in the order of ``reference``, and a sentence for each two whose scores forbid it.

    A list of hits that does not hold the same passages in both is left as it is.
    """
    before, after = list(hits.finditer(reference)), list(hits.finditer(output))
    if [hit["rank"] for hit in before] != [hit["rank"] for hit in after]:
        return output, []
    starts = [i for i, hit in enumerate(before) if hit["rank"] == "1"] + [len(before)]
    source = list(range(len(before)))  # where in ``after`` the hit of each place is
    for start, end in pairwise(starts):
        passages = [_template(hit["hit"]) for hit in after[start:end]]
        order = []
        for hit in before[start:end]:
            passage = _template(hit["hit"])
            order += [next((i for i, p in enumerate(passages, start) if p == passage and i not in order), -1)]
        if -1 not in order:
            source[start:end] = order
    faults = []
    for i, j in combinations(range(len(before)), 2):
        first, second = after[source[i]], after[source[j]]
        old, new = (Decimal(a["score"]) - Decimal(b["score"]) for a, b in ((before[i], before[j]), (first, second)))
        if source[i] > source[j] and max(abs(old), abs(new)) > SWAP:
            faults.append(
                f"hits {before[i]['rank']} and {before[j]['rank']} changed places: scores {before[i]['score']} and "
                f"{before[j]['score']} became {first['score']} and {second['score']} (allowed: {SWAP} apart)"
            )
    pieces, end = [], 0
    for i, hit in enumerate(after):
        # At a place that another hit has taken, rank and looks are those of the reference.
        same = source[i] == i
        pieces += [output[end : hit.start()], hit[0] if same else before[i]["place"] + after[source[i]]["hit"]]
        end = hit.end()
    return "".join([*pieces, output[end:]]), faults


def _line_differences(before: list[str], after: list[str]) -> Iterator[str]:
    """The lines that are missing, new or changed."""
    matcher = SequenceMatcher(None, _template("\n".join(before)), _template("\n".join(after)), autojunk=False)
    for _, a, b, c, d in matcher.get_opcodes():
        if b - a == d - c:
            for number, old, new in zip(range(a + 1, b + 1), before[a:b], after[c:d], strict=True):
                yield from (f"line {number}: {change}" for change in _changes(old, new))
        else:
            yield from (f"line {n}: {_clip(before[n - 1])!r} is missing" for n in range(a + 1, b + 1))
            yield from (f"line {n}: {_clip(after[n - 1])!r} is new" for n in range(c + 1, d + 1))


def _changes(old: str, new: str) -> Iterator[str]:
    """How two lines differ: by their numbers if they differ in nothing else, otherwise both lines."""
    before, after = _fold(old), _fold(new)
    if _NUMBER.sub("\0", before) == _NUMBER.sub("\0", after):
        for x, y in zip(_NUMBER.findall(before), _NUMBER.findall(after), strict=True):
            change = Decimal(y) - Decimal(x)
            floats = all(map(_FLOAT.fullmatch, (x, y)))
            allowed = _allowed(x, y) if floats else Decimal(0)
            if abs(change) > allowed or (x != y and not floats):
                yield f"{x} became {y} ({change:+}, allowed {float(allowed):.3g})"
    else:
        start = next((i for i, (x, y) in enumerate(zip(old, new, strict=False)) if x != y), 0)
        yield f"{_clip(old, start)!r} became {_clip(new, start)!r}"


def _allowed(old: str, new: str) -> Decimal:
    """By how much the float ``old`` may change: one without any digit after its point (3.) does not."""
    if old.endswith(".") and new.endswith("."):
        return Decimal(0)
    digit = min(Decimal(number).as_tuple().exponent for number in (old, new))
    return max(Decimal(1).scaleb(digit), abs(Decimal(old)) * RELATIVE)


def _clip(line: str, around: int = 0) -> str:
    """The line, or the piece of it that shows the character ``around``."""
    if len(line) <= _WIDE:
        return line
    start = max(0, min(around - _WIDE // 3, len(line) - _WIDE))
    return "…" * (start > 0) + line[start : start + _WIDE] + "…" * (start + _WIDE < len(line))
