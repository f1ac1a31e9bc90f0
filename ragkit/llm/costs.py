"""What hosted models cost: the prices of ``data/prices.toml``, each with its day, and what follows from them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

from ragkit.base import RagkitError, Usage
from ragkit.files import data_file
from ragkit.tokens import minilm_tokenizer

PER = 1_000_000
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens that a model reads, and that it writes, on a day.

    A model that embeds writes nothing: its ``usd_output`` is None, and ``dimensions`` the length of its vectors.
    """

    usd: float
    as_of: date
    usd_output: float | None = None
    dimensions: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What embedding some texts would take. ``usd`` is None where the price is not known.

    >>> str(CostEstimate("text-embedding-3-small", 2000, 940_000, 0.0188))
    'text-embedding-3-small: 2,000 texts, about 940,000 tokens, about $0.019'
    """

    model: str
    texts: int
    tokens: int
    usd: float | None

    def __str__(self) -> str:
        money = "price not known" if self.usd is None else f"about ${self.usd:.2g}"
        return f"{self.model}: {self.texts:,} texts, about {self.tokens:,} tokens, {money}"


@cache
def prices() -> Mapping[str, Price]:
    """Every hosted model whose price is known, by name.

    Raises:
        RagkitError: ``data/prices.toml`` is missing or cannot be read.
    """
    file = data_file("prices.toml")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        by_model = {model: Price(**row) for model, row in table.items()}
        for model, price in by_model.items():
            if not isinstance(price.as_of, date) or not price.usd + (price.usd_output or price.dimensions or 0) > 0:
                raise ValueError(f"{model}: {price}")
        return by_model
    except (ValueError, TypeError) as error:
        raise RagkitError(
            f"{file}: cannot be read ({error}); expected a table per model with usd, as_of, and usd_output for a "
            "model that writes or dimensions for one that embeds"
        ) from error


def cost(usage: Usage) -> float | None:
    """The US dollars of one call; None where the model's price or its tokens are not known: that is not free.

    A dated snapshot costs what its model costs. A local server that bears a hosted model's name costs nothing, and
    this can't tell.

    >>> cost(Usage("gpt-4o-mini-2024-07-18", 2_000, 100)), cost(Usage("llama3.2", 2_000, 100))
    (0.00036, None)
    """
    price = prices().get(usage.model) or prices().get(_SNAPSHOT.sub("", usage.model))
    if price is None or not (usage.input_tokens or usage.output_tokens):
        return None
    return round((usage.input_tokens * price.usd + usage.output_tokens * (price.usd_output or 0)) / PER, 9)


def estimate(model: str, texts: Sequence[str]) -> CostEstimate:
    """What ``model`` would take to embed ``texts``, in tokens of the packaged tokenizer.

    The model counts in tokens of its own: this is for the order of magnitude, before paying.
    """
    tokens = sum(map(minilm_tokenizer().count, texts))
    return CostEstimate(model, len(texts), tokens, cost(Usage(model, tokens)) if tokens else 0.0)
