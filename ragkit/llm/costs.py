"""What an answer cost: the tokens that a model reports, and the prices of ``data/prices.toml``, each with its day."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from ragkit.base import RagkitError, Usage
from ragkit.files import data_file

PER = 1_000_000
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class ChatPrice:
    """US dollars per million tokens that a model reads and writes, on a day."""

    input: float
    output: float
    as_of: date


@cache
def chat_prices() -> Mapping[str, ChatPrice]:
    """Every hosted chat model whose price is known, by name.

    Raises:
        RagkitError: ``data/prices.toml`` is missing or cannot be read.
    """
    file = data_file("prices.toml")
    try:
        table: Mapping[str, Mapping[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))
        rows = {model: row for model, row in table.items() if "usd_output" in row}
        return {m: ChatPrice(float(row["usd"]), float(row["usd_output"]), row["as_of"]) for m, row in rows.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise RagkitError(
            f"{file}: cannot be read ({error!r}); expected a table per model with usd, usd_output and as_of"
        ) from error


def cost(usage: Usage) -> float | None:
    """The US dollars of one call; None where the model's price or its tokens are not known: that is not free.

    A dated snapshot costs what its model costs. A local server that bears a hosted model's name costs nothing, and
    this can't tell.

    >>> cost(Usage("gpt-4o-mini-2024-07-18", 2_000, 100)), cost(Usage("llama3.2", 2_000, 100))
    (0.00036, None)
    """
    price = chat_prices().get(usage.model) or chat_prices().get(_SNAPSHOT.sub("", usage.model))
    if price is None or not (usage.input_tokens or usage.output_tokens):
        return None
    return round((usage.input_tokens * price.input + usage.output_tokens * price.output) / PER, 9)
