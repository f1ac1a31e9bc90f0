"""The exercises of ``00_start_here``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.base import Answer

ASKED = (
    "How do I make Black and isort work together?",
    "How do I roast coffee beans?",
    "Does Black have an API?",
)  # in the lesson


@exercise(
    "00.1",
    expects=Answer,
    hint="Ask how to do something with Black, Gunicorn or aiohttp, in everyday words that a manual would not use.",
    praise="Now open its source: is it an answer? An unsure one is to be read before it is believed.",
)
def unsure_answer(answer: Answer) -> str | None:
    if answer.question in ASKED:
        return "this question stands in the lesson. Ask one of your own."
    if answer.abstained:
        return (
            f"it says that it found nothing ({answer.reason}). That is further away than unsure: keep to the subject "
            "of these documents."
        )
    if not answer.reason.startswith("unsure"):
        return "it gives this answer without a reservation. Ask for something that the documents hardly mention."
    return None
