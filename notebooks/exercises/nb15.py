"""The exercises of ``15_to_production``."""

from __future__ import annotations

import asyncio
import time

from exercises.check import exercise
from ragkit.base import Context, Generation
from ragkit.concurrency import run_sync

LIMIT, LATE = 0.1, 2.0  # seconds


@exercise(
    "15.1",
    expects=type,
    hint="Await the model in `async with asyncio.timeout(self.seconds)`, the fallback in `except TimeoutError`.",
    praise="It is a model like any other: `advanced(corpus, llm=InTime(...))` answers in time.",
)
def in_time(answer: type) -> str | None:
    if not asyncio.iscoroutinefunction(getattr(answer, "generate", None)):
        return f"{answer.__name__} is expected to be a class with `async def generate(self, question, context)`."
    return run_sync(_judge(answer))


class _Writer:
    """Answers with its name after ``seconds``, or raises; notes whether it was asked, and whether it was cancelled."""

    def __init__(self, name: str, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.name, self.seconds, self.error = name, seconds, error
        self.asked = self.cancelled = False

    async def generate(self, question: str, context: Context) -> Generation:
        self.asked = True
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error:
            raise self.error
        return Generation(self.name)


async def _judge(answer: type) -> str | None:
    quick, spare = _Writer("quick"), _Writer("quotes")
    given = await _ask(answer, quick, spare)
    if not isinstance(given, Generation):
        return f"generate returned {type(given).__name__}, expected what the model or the fallback has generated."
    if given.text != "quick":
        return "the model was in time, and its answer is not what you return."
    if spare.asked:
        return "the model was in time, and the fallback was asked all the same."
    late, quotes = _Writer("late", LATE), _Writer("quotes")
    begin = time.perf_counter()
    try:
        given = await _ask(answer, late, quotes)
    except TimeoutError:
        return "the model is stopped in time, but nobody catches the TimeoutError: ask the fallback then."
    took = time.perf_counter() - begin
    if given.text != "quotes" or took > LATE:
        return f"a model of {LATE:g} s had {LIMIT:g} s, and after {took:.1f} s your answer is {given.text!r}."
    if not late.cancelled:
        return "the fallback has answered, and the model is still at work for nobody: cancel it."
    try:
        await _ask(answer, _Writer("broken", error=LookupError("a mistake")), _Writer("quotes"))
    except LookupError:
        return None
    return "the model failed with an error of its own, and nobody hears of it: catch TimeoutError alone."


async def _ask(answer: type, model: _Writer, fallback: _Writer) -> Generation:
    writer = answer(model, fallback, LIMIT)
    given: Generation = await writer.generate("question", Context("", (), 0))
    return given
