"""A killed process has lost nothing that it acknowledged; `make bench` kills 200 of them."""

from __future__ import annotations

from bench.bench_crash import losses


def test_nothing_acknowledged_is_lost_by_kills(tmp_path):
    acknowledged, lost, damaged = losses(8, tmp_path)
    assert acknowledged > 0
    assert (lost, damaged) == (0, 0)
