"""Simulated readers: people whose thumbs are wrong in known ways, to see what thumbs can be trusted for.

**Nobody gave these opinions.** Whether an answer is right is known (it quotes the gold, or says that there is none
where there is none); what a reader makes of it, and whether they say so, is drawn by chance:

- *position*: of an answer's quotes, the one at place i is read with probability ``(1 / i) ** position``, as results
  of a search are looked at (the position-based model; Joachims, Swaminathan and Schnabel 2017, arXiv 1608.04468).
- *trust*: a wrong answer that reads well is taken for right by a share of the readers.
- *slips*: a share of the thumbs points the wrong way.
- *silence*: most say nothing, and those who are content say less often something than those who are not.

The shares are assumptions, to be changed and looked at, not measurements.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ragkit.base import Answer, InputError, Question, Span
from ragkit.production.opinions import Thumb


@dataclass(frozen=True)
class Opinion:
    """What one simulated reader makes of one answer. ``right`` is the truth, ``thumb`` what they think, ``speaks``
    whether anybody hears of it; ``flagged`` are chunks that they read and found beside the point."""

    reader: str
    question: str
    trace_id: str
    right: bool
    thumb: Thumb
    speaks: bool
    reasons: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Readers:
    """``position``, ``trust``, ``slips``: see the module. ``happy`` and ``unhappy``: the shares of those who are
    content, or not, that say so. The same seed gives the same opinions.

    Raises:
        InputError: a share outside 0..1, or ``position`` < 0.
    """

    position: float = 1.0
    trust: float = 0.3
    slips: float = 0.05
    happy: float = 0.03
    unhappy: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.position < 0 or not all(0 <= s <= 1 for s in (self.trust, self.slips, self.happy, self.unhappy)):
            raise InputError(f"{self}: expected shares from 0 to 1, and position 0 or more")

    def judge(self, question: Question, answer: Answer, reader: str = "reader") -> Opinion:
        """What ``reader`` makes of ``answer``; the same every time.

        >>> careful = Readers(position=0, trust=0, slips=0, happy=1, unhappy=1)
        >>> careful.judge(Question("q", "Why?"), Answer("Why?", "Because.")).reasons
        ('should have abstained',)
        """
        chance = random.Random(f"{self.seed}\0{reader}\0{question.id}")
        right = is_right(question, answer)
        read = [
            (span, chunk_id)
            for place, (span, chunk_id) in enumerate(quotes(answer), 1)
            if chance.random() < (1 / place) ** self.position
        ]
        beside = tuple(dict.fromkeys(i for span, i in read if not any(span.overlap(gold) for gold in question.gold)))
        if answer.abstained:
            content, reasons = right, () if right else ("should not have abstained",)
        elif not question.gold:
            content, reasons = chance.random() < self.trust, ("should have abstained",)
        else:
            found = any(span.overlap(gold) for span, _ in read for gold in question.gold)
            content, reasons = found or chance.random() < self.trust, ("wrong",)
        if chance.random() < self.slips:
            content = not content
        speaks = chance.random() < (self.happy if content else self.unhappy)
        if content:
            return Opinion(reader, question.id, answer.trace_id, right, 1, speaks)
        return Opinion(reader, question.id, answer.trace_id, right, -1, speaks, reasons, beside)


def is_right(question: Question, answer: Answer) -> bool:
    """Whether the answer quotes something of the gold; where there is no gold, whether it says so."""
    if answer.abstained or not question.gold:
        return answer.abstained and not question.gold
    return any(span.overlap(gold) for span, _ in quotes(answer) for gold in question.gold)


def quotes(answer: Answer) -> Iterator[tuple[Span, str]]:
    """Where each quote of the answer stands, and the chunk that it is from; a citation without quote is all of it."""
    for citation in answer.citations:
        chunk = citation.chunk
        start = chunk.start + max(0, chunk.text.find(citation.quote))
        yield Span(chunk.doc_id, start, min(chunk.end, start + (len(citation.quote) or len(chunk.text)))), chunk.id
