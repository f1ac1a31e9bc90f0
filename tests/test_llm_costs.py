"""What an answer cost, where that is known."""

from __future__ import annotations

from datetime import date

import pytest

from ragkit.base import RagkitError, Usage
from ragkit.embedding.prices import prices
from ragkit.llm import costs
from ragkit.llm.costs import chat_prices, cost


def test_a_call_costs_what_it_reads_and_what_it_writes():
    price = chat_prices()["gpt-4o-mini"]
    assert cost(Usage("gpt-4o-mini", 1_000_000, 0)) == price.input
    assert cost(Usage("gpt-4o-mini", 0, 1_000_000)) == price.output
    assert cost(Usage("gpt-4o-mini-2024-07-18", 10, 10)) == cost(Usage("gpt-4o-mini", 10, 10))


@pytest.mark.parametrize("usage", [Usage(), Usage("llama3.2", 9, 9), Usage("gpt-4o-mini"), Usage("gpt-4o-minimal", 9)])
def test_what_is_not_known_is_not_free(usage):
    assert cost(usage) is None


def test_every_price_has_its_day_and_models_that_write_are_no_embedders():
    assert all(isinstance(price.as_of, date) and 0 < price.input < price.output for price in chat_prices().values())
    assert not set(chat_prices()) & set(prices())


def test_a_broken_file_is_an_error_in_words(tmp_path, monkeypatch):
    broken = tmp_path / "prices.toml"
    broken.write_text("[a]\nusd = 1\nusd_output = 'much'\n")
    monkeypatch.setattr(costs, "data_file", lambda name: broken)
    chat_prices.cache_clear()
    with pytest.raises(RagkitError, match="expected a table per model"):
        cost(Usage("a", 1, 1))
    chat_prices.cache_clear()
