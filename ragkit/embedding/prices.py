"""What hosted models cost: ``data/prices.toml``, and estimates made with it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from ragkit.base import RagkitError
from ragkit.files import data_file
from ragkit.tokens import minilm_tokenizer

PER = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens of input, on a day; ``dimensions`` is the length of a whole vector."""

    usd: float
    as_of: date
    dimensions: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What a call would take: an estimate. ``usd`` is None where the price is not known.

    >>> str(Spend("text-embedding-3-small", 2000, 940_000, 0.0188))
    'text-embedding-3-small: 2,000 texts, about 940,000 tokens, about $0.019'
    """

    model: str
    texts: int
    tokens: int
    usd: float | None

    def __str__(self) -> str:
        money = "price not known" if self.usd is None else f"about ${self.usd:.2g}"
        return f"{self.model}: {self.texts:,} texts, about {self.tokens:,} tokens, {money}"


def prices() -> Mapping[str, Price]:
    """Every hosted embedding model whose price is known, by name (``ragkit.llm.costs`` has those that write).

    Raises:
        RagkitError: ``data/prices.toml`` is missing or cannot be read.
    """
    file = data_file("prices.toml")
    try:
        table: Mapping[str, Mapping[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))
        rows = {model: row for model, row in table.items() if "usd_output" not in row}
        return {model: Price(float(row["usd"]), row["as_of"], int(row["dimensions"])) for model, row in rows.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RagkitError(
            f"{file}: cannot be read ({error!r}); expected a table per model with usd, as_of and dimensions"
        ) from error


def estimate(model: str, texts: Sequence[str]) -> Spend:
    """What ``model`` would take for ``texts``, counted in the tokens of the packaged tokenizer.

    The model counts in its own tokens, which the reply tells: this is for the order of magnitude, before paying.
    """
    tokenizer = minilm_tokenizer()
    tokens = sum(tokenizer.count(text) for text in texts)
    price = prices().get(model)
    return Spend(model, len(texts), tokens, price.usd * tokens / PER if price else None)
