"""Nothing acknowledged is lost and nothing hangs: servers killed, disks full, networks down, nodes gone, clients rude.

``make faults``, or ``python tests/run_bench.py faults``, takes four to six minutes; it is no part of ``make test``.
``RAGKIT_FAULTS="postgres_writes service_load"`` runs some scenarios (``SCENARIOS``), and writes their rows alone.

The counts are what matters: the times are those of one machine, where the server, its clients and the fault share the
cores. Servers are killed by SIGKILL, and the machine goes on: this says nothing of a power cut.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

from bench.faults import database, network, service, workers

Row = tuple[str, float | str, str, str]
SCENARIOS: dict[str, Callable[[], list[database.Row]]] = {
    "postgres_writes": database.killed_during_writes,
    "postgres_queries": database.killed_during_queries,
    "postgres_replica": database.replica_promoted,
    "disk_full": database.disk_full,
    "store_network": network.store_network,
    "writer_gone": network.writer_gone,
    "model_network": network.model_network,
    "ray": workers.ray_killed,
    "service_load": service.service_load,
}


def missing(name: str) -> str:
    """What a scenario needs and this machine has not; "" where there is all."""
    if name == "ray" and find_spec("ray") is None:
        return "with the extra scale"
    namespaces = ["unshare", "--map-root-user", "--mount", "true"]
    if name == "disk_full" and (sys.platform != "linux" or subprocess.run(namespaces, check=False).returncode != 0):
        return "on a Linux with user namespaces"
    return ""


def main() -> list[Row]:
    rows: list[Row] = []
    for name in os.environ.get("RAGKIT_FAULTS", " ".join(SCENARIOS)).split():
        if what := missing(name):
            rows.append((name, f"make bench BENCH=faults, {what}", "", ""))
            continue
        begin = time.monotonic()
        rows += [(f"{name}: {row}", *rest) for row, *rest in SCENARIOS[name]()]
        sys.stderr.write(f"{name}: {time.monotonic() - begin:.0f} s\n")
    return rows
