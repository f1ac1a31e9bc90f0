"""What an answer cost, where that is known."""

from __future__ import annotations

from datetime import date

import pytest

from ragkit.base import RagkitError, Usage
from ragkit.llm import costs
from ragkit.llm.costs import cost, estimate, prices


def test_a_call_costs_what_it_reads_and_what_it_writes():
    price = prices()["gpt-4o-mini"]
    assert cost(Usage("gpt-4o-mini", 1_000_000, 0)) == price.usd
    assert cost(Usage("gpt-4o-mini", 0, 1_000_000)) == price.usd_output
    assert cost(Usage("gpt-4o-mini-2024-07-18", 10, 10)) == cost(Usage("gpt-4o-mini", 10, 10))
    assert cost(Usage("text-embedding-3-small", 1_000_000)) == prices()["text-embedding-3-small"].usd


@pytest.mark.parametrize("usage", [Usage(), Usage("llama3.2", 9, 9), Usage("gpt-4o-mini"), Usage("gpt-4o-minimal", 9)])
def test_what_is_not_known_is_not_free(usage):
    assert cost(usage) is None


def test_an_estimate_counts_tokens_and_says_what_it_does_not_know():
    texts = ["How do I stop a worker?"] * 3
    assert str(estimate("text-embedding-3-large", texts)).endswith("3 texts, about 21 tokens, about $2.7e-06")
    assert "price not known" in str(estimate("m", texts))
    assert estimate("text-embedding-3-large", []).usd == 0


def test_every_price_has_its_day_and_is_of_one_kind():
    for price in prices().values():
        assert isinstance(price.as_of, date)
        assert (price.usd_output is None) != (price.dimensions is None)
        assert price.usd > 0


@pytest.mark.parametrize(
    "line", ["usd_output = 'much'", "as_of = 2026-01-01", "usd_output = 2\nas_of = 3", "pence = 1", "["]
)
def test_a_broken_file_is_an_error_in_words(line, tmp_path, monkeypatch):
    broken = tmp_path / "prices.toml"
    broken.write_text(f"[a]\nusd = 0\n{line}\n")
    monkeypatch.setattr(costs, "data_file", lambda name: broken)
    prices.cache_clear()
    with pytest.raises(RagkitError, match=r"expected a table per model"):
        cost(Usage("a", 1, 1))
    prices.cache_clear()
