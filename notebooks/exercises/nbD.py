"""The exercises of ``D_prompt_injection``."""

from __future__ import annotations

from exercises.check import exercise


@exercise(
    "D.1",
    expects=int,
    hint="With a rate of 1 %, n tries without a success have the probability 0.99 ** n. When is that below 0.05?",
    praise="The rule of three: with nothing in n tries, the rate may still be 3 / n. So 100 pages can promise 3 %.",
)
def tries_for_one_percent(answer: int) -> str | None:
    if answer in (298, 299, 300):
        return None
    if answer == 100:
        return "with a rate of 1 %, 100 tries find nothing in 37 % of the cases: 0.99 ** 100 is 0.37."
    if answer == 95:
        return "95 % is how sure you want to be, not how often you have to try."
    if answer == 59:
        return "0.95 ** 59 is below 0.05: that rules out a rate of 5 %. Put 0.99 there."
    if answer == 459:
        return "0.99 ** 459 is 0.01: that is 99 % sure. Here 95 % are enough."
    if answer < 298:
        return f"0.99 ** {answer} is {0.99 ** max(answer, 0):.2f}, still above 0.05: luck could explain it."
    return f"{answer} are more than needed: 0.99 ** {answer} is {0.99**answer:.4f}, well below 0.05. Fewer will do."
