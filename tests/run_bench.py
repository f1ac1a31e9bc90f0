"""Measure what the project promises and print it beside the targets: ``make bench``.

Each ``tests/bench/bench_*.py`` has ``main()``, which returns rows ``(name, value, unit, target)``. A target is
``"<= 5"`` or ``">= 0.4"``, or ``""`` where a figure is only kept. All rows go to ``bench.json`` in ragkit's home.
"""

from __future__ import annotations

import json
import operator
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ragkit.files import atomic_write, home

Row = tuple[str, float, str, str]
BENCHES = Path(__file__).parent / "bench"
COMPARE = {"<=": operator.le, ">=": operator.ge}


def met(value: float, target: str) -> bool:
    """Whether ``value`` keeps the promise ``target``.

    >>> met(3.2, "<= 5"), met(3.2, ">= 5"), met(3.2, "")
    (True, False, True)
    """
    if not target:
        return True
    sign, number = target.split()
    return bool(COMPARE[sign](value, float(number)))


def rows_of(path: Path) -> list[Row]:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.main())


def main(names: Sequence[str]) -> int:
    """Run the benches whose file name contains one of ``names`` (all without names); 1 if a target was missed."""
    paths = [p for p in sorted(BENCHES.glob("bench_*.py")) if not names or any(n in p.stem for n in names)]
    results, missed = [], 0
    for path in paths:
        begin = time.perf_counter()
        rows = rows_of(path)
        sys.stdout.write(f"{path.stem} ({time.perf_counter() - begin:.0f} s)\n")
        for name, value, unit, target in rows:
            fine = met(value, target)
            missed += not fine
            promise = f"target {target}: {'met' if fine else 'MISSED'}" if target else ""
            sys.stdout.write(f"  {name:<52} {value:>12,.4g} {unit:<12} {promise}\n")
            results.append({"bench": path.stem, "name": name, "value": value, "unit": unit, "target": target})
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    atomic_write(home() / "bench.json", json.dumps({"machine": machine, "rows": results}, indent=1).encode())
    sys.stdout.write(f"{len(results)} figures, {missed} missed their target; kept in {home() / 'bench.json'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
