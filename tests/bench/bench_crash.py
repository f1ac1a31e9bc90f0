"""Kill the process 200 times at random while it writes: what was acknowledged is there, and nothing is corrupt.

python tests/run_bench.py crash
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import STORES, kill_many

KILLS = 200
NAMES = ("plain",)


def main() -> list[tuple[str, float, str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        report = kill_many(Path(folder), {name: STORES[name] for name in NAMES}, KILLS)
        size = sum(path.stat().st_size for path in Path(folder).glob("*.db")) / 1e6
    for trouble in (report.lost + report.broken)[:20]:
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
    ]
