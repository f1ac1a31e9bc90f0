"""Measure what the project promises and print it beside the targets: ``make bench``, for some ``BENCH="start drift"``.

Each ``tests/bench/bench_*.py`` has ``main()``, which returns rows ``(name, value, unit, target)``. A target is
``"<= 5"`` or ``">= 0.4"``, or ``""`` where a figure is only noted. What could not be measured, for want of a key or of
a download, is a row without a target whose value is the command that measures it. The rows go to
``results/NAME.json`` with the date, the machine and the command; ``make results`` renders them as ``RESULTS.md``.
"""

from __future__ import annotations

import json
import operator
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import date
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ragkit.files import atomic_write

Row = tuple[str, float | str, str, str]
ROOT = Path(__file__).resolve().parent.parent
BENCHES, RESULTS = ROOT / "tests" / "bench", ROOT / "results"
COMPARE = {"<=": operator.le, ">=": operator.ge}


def met(value: float | str, target: str) -> bool:
    """Whether ``value`` keeps the promise ``target``.

    >>> met(3.2, "<= 5"), met(3.2, ">= 5"), met(3.2, "")
    (True, False, True)
    """
    if not target or isinstance(value, str):
        return True
    sign, number = target.split()
    return bool(COMPARE[sign](value, float(number)))


def shown(value: float | str) -> str:
    """A figure, or the command that measures it.

    >>> shown(26.012), shown("make bench BENCH=embedding")
    ('26.01', 'run it: `make bench BENCH=embedding`')
    """
    return f"run it: `{value}`" if isinstance(value, str) else f"{value:,.4g}"


def rows_of(path: Path) -> list[Row]:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.main())


def machine() -> str:
    """The processor, its cores, system and Python, in a line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def main(names: Sequence[str]) -> int:
    """Run the benches called ``names`` (all without names) and write their results; 1 if a target was missed."""
    paths = {path.stem.removeprefix("bench_"): path for path in sorted(BENCHES.glob("bench_*.py"))}
    if unknown := set(names) - set(paths):
        sys.stdout.write(f"no bench called {', '.join(sorted(unknown))}; there are: {', '.join(paths)}\n")
        return 2
    missed = 0
    for name in names or paths:
        begin = time.perf_counter()
        rows = rows_of(paths[name])
        sys.stdout.write(f"{name} ({time.perf_counter() - begin:.0f} s)\n")
        for what, value, unit, target in rows:
            fine = met(value, target)
            missed += not fine
            promise = f"target {target}: {'met' if fine else 'MISSED'}" if target else ""
            sys.stdout.write(f"  {what:<52} {shown(value):>12} {unit:<12} {promise}\n")
        fields = ("name", "value", "unit", "target")
        about = (paths[name].read_text().split('"""')[1]).strip().partition("\n")[0]
        result = {
            "about": about,
            "date": date.today().isoformat(),
            "machine": machine(),
            "command": f"make bench BENCH={name}",
            "rows": [dict(zip(fields, row, strict=True)) for row in rows],
        }
        atomic_write(RESULTS / f"{name}.json", (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    sys.stdout.write(f"{missed} figures missed their target; results are in {RESULTS.name}/\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
