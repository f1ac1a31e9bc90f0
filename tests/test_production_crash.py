"""What production parts leave behind when things go wrong: killed processes, shared, locked, full and corrupt files."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash import STORES, Report, kill_many


def killed(folder: Path, *names: str, kills: int, seed: int = 0) -> Report:
    return kill_many(folder, {name: STORES[name] for name in names}, kills, seed)


def test_nothing_acknowledged_is_lost_and_nothing_is_broken_by_kills(tmp_path):
    report = killed(tmp_path, "plain", kills=10)
    assert (report.lost, report.broken) == ([], [])
    assert report.kills == 10
    assert report.acknowledged > 20


@pytest.mark.parametrize(
    ("name", "what"),
    [("hasty", "is not there"), ("careless", "is there in part"), ("overwriting", "malformed|page|corrupt")],
)
def test_a_writer_that_is_wrong_is_caught(tmp_path, name, what):
    """Acknowledges before it commits; writes without a transaction; writes past SQLite."""
    import re

    report = killed(tmp_path, name, kills=4)
    assert re.search(what, "\n".join(report.lost + report.broken))
