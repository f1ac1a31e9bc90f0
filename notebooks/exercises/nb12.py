"""The exercises of ``12_monitoring``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exercises.check import exercise
from ragkit.production.alerts import RATES, Alert

SLOW_WEEK = 2


@exercise(
    "12.1",
    expects=dict,
    hint='metric="latency", stage="rerank", and a limit from the table: above the p95 of week 1, below that of week 2.',
    praise="A rule on one stage sees what the total hides. The limit is for this machine: another one needs its own.",
)
def only_the_slow_week(answer: Mapping[int, Sequence[Alert]]) -> str | None:
    if set(answer) != {1, 2, 3, 4}:
        return f"the keys are {sorted(answer)}, expected the weeks 1 to 4, each with its list of alerts."
    alerts = [alert for week in sorted(answer) for alert in answer[week]]
    if not alerts:
        return "your rule fires in no week. Is `above` below the p95 of week 2, and `least` below its queries?"
    if any(alert.rule.metric in RATES for alert in alerts):
        return f'your rule measures {alerts[0].rule.metric!r}. What was unusual in week 2? Take metric="latency".'
    others = [week for week in sorted(answer) if week != SLOW_WEEK and answer[week]]
    if not answer[SLOW_WEEK]:
        return f"your rule fires in week {others[0]}, and not in week 2."
    if others:
        return f"your rule fires in week {others[0]}, too: raise the limit, or look at the stage that was slow."
    return None
