"""Kill the process 200 times at random while it writes traces, feedback and cached answers: what was acknowledged is
there, and nothing is corrupt. Then the same with three processes at once, that live.

python tests/run_bench.py crash
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import STORES, kill_many, kill_while_made, write_together

KILLS = 200
PARTS = ("traces", "pruned", "feedback", "cache", "evicting")
"""Traces, traces of which the oldest are removed, feedback, cached answers, cached answers that drive out others."""


def main() -> list[tuple[str, float, str, str]]:
    stores = {name: STORES[name] for name in PARTS}
    with tempfile.TemporaryDirectory() as folder:
        report = kill_many(Path(folder), stores, KILLS)
        size = sum(path.stat().st_size for path in Path(folder).glob("*.db")) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        asked = kill_many(Path(folder), {"pipeline": STORES["pipeline"]}, 25)
    with tempfile.TemporaryDirectory() as folder:
        made = kill_while_made(Path(folder), stores, 30)
    with tempfile.TemporaryDirectory() as folder:
        shared = write_together(Path(folder), stores, processes=3, count=300)
    for trouble in [each for r in (report, asked, made, shared) for each in r.lost + r.broken][:20]:
        sys.stdout.write(f"  {trouble}\n")
    return [
        ("kills", report.kills, "", f">= {KILLS}"),
        ("kills within a write", report.inside, "", ""),
        ("kills before the first write", report.early, "", ""),
        ("writes that were acknowledged", report.acknowledged, "", ""),
        ("acknowledged writes that were lost", len(report.lost), "", "<= 0"),
        ("files or records that were corrupt", len(report.broken), "", "<= 0"),
        ("size of the files at the end", size, "MB", ""),
        ("time of it all", report.seconds, "s", "<= 300"),
        ("kills of a real pipeline with monitor and cache", asked.kills, "", ""),
        ("answers that were seen", asked.acknowledged, "", ""),
        ("of these without their trace or entry, or corrupt", len(asked.lost) + len(asked.broken), "", "<= 0"),
        ("kills while new files were made", made.kills, "", ""),
        ("of these before the first write", made.early, "", ""),
        ("files that were unusable afterwards", len(made.lost) + len(made.broken), "", "<= 0"),
        ("writes of three processes to the same files", shared.acknowledged, "", ""),
        ("of these lost, refused or corrupt", len(shared.lost) + len(shared.broken), "", "<= 0"),
    ]
