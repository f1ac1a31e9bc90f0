"""Fill the tables of ``notebooks/growth.md`` from ``results/rows/growth.jsonl``: ``make results``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; what stands between them is replaced.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from bench.bench_growth import FILTERS, NAMES, SETTINGS, SIZES, TUNED_ON
from cluster_plan import Assumptions, Plan, plan
from run_bench import RESULTS, ROOT

from ragkit.files import atomic_write

PAGE = ROOT / "notebooks" / "growth.md"
Rows = Mapping[tuple[str, ...], Mapping[str, Any]]

# What a reader may want to change: when an engine is no longer the right choice. Milliseconds are of CPU.
QUERY_MS, LEAST_RECALL, ROOM_GB, BUILD_SECONDS = 50, 0.9, 1, 480
RULES: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    f"query over {QUERY_MS} ms": lambda row: milliseconds(row["100"]) > QUERY_MS,
    f"recall below {LEAST_RECALL}": lambda row: row["100"]["recall"] < LEAST_RECALL,
    f"room over {ROOM_GB} GB": lambda row: row["bytes"] > ROOM_GB * 1e9,
    f"build over {BUILD_SECONDS} s": lambda row: row.get("build cpu", 0) > BUILD_SECONDS,
    f"1 % kept: query over {QUERY_MS} ms": lambda row: milliseconds(row["1"]) > QUERY_MS,
    f"1 % kept: recall below {LEAST_RECALL}": lambda row: row["1"]["recall"] < LEAST_RECALL,
}
STOPPED = f"build over {BUILD_SECONDS} s"  # what a build that was stopped has broken


def load() -> dict[tuple[str, ...], dict[str, Any]]:
    """The rows by their keys."""
    lines = (RESULTS / "rows" / "growth.jsonl").read_text().splitlines()
    return {tuple(row["key"]): row for row in map(json.loads, lines[1:])}


def milliseconds(found: Mapping[str, float]) -> float:
    """Of CPU a query, the mean; where it was not measured, the median time."""
    return found["cpu"] if "cpu" in found else found["p50"]


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right.

    >>> print(table(["engine", "s"], [["flat", "1"]]))
    | engine | s |
    |---|---:|
    | flat | 1 |
    """
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    return "\n".join(
        f"| {' | '.join(line)} |" if i != 1 else f"|{'|'.join(line)}|" for i, line in enumerate([*lines, *body])
    )


def number(value: float) -> str:
    """Three significant digits.

    >>> [number(value) for value in (1234.6, 12.345, 0.01234)]
    ['1,235', '12.3', '0.0123']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def by_size(rows: Rows, cell: Callable[[Mapping[str, Any]], str]) -> str:
    """Engines down, sizes across: ``cell`` of each row that was built."""
    body = []
    for name, label in NAMES.items():
        measured = [rows.get(("drawn", name, str(n))) for n in SIZES]
        body.append([label, *("" if row is None else cell(row) if "bytes" in row else "stopped" for row in measured)])
    return table(["", *(f"{n:,}" for n in SIZES)], body)


def searched(percent: int) -> Callable[[Mapping[str, Any]], str]:
    def cell(row: Mapping[str, Any]) -> str:
        found = row[str(percent)]
        times = [number(found[what]) if what in found else "-" for what in ("cpu", "p50", "p95")]
        return f"{found['recall']:.2f}; {', '.join(times)}"

    return cell


def shapes(rows: Rows) -> str:
    sources = {"real": "real", "drawn": "drawn from them", "grown": "drawn from 1,000 of them"}
    names = [what for what in rows[("shape", "real")] if what != "key"]
    body = [[label, *(f"{rows['shape', source][name]:.2f}" for name in names)] for source, label in sources.items()]
    return table(["10,000 chunks", *names], body)


def real_beside_drawn(rows: Rows) -> str:
    body = []
    for name, label in NAMES.items():
        pair = [rows.get((source, name, str(SIZES[0]))) for source in ("real", "drawn")]
        cells = [searched(p)(row) if row else "" for p in FILTERS for row in pair]
        body.append([label, *cells])
    head = [f"{source}, {p} %" for p in FILTERS for source in ("real", "drawn")]
    return table(["10,000 chunks", *head], body)


def settings(rows: Rows) -> str:
    knobs = {"hnsw": "efSearch", "ivfpq": "share of cells", "refined": "share of cells", "qdrant": "hnsw_ef"}
    body = []
    for name in SETTINGS:
        if (row := rows.get(("drawn", name, str(TUNED_ON)), {})).get("recalls"):
            tried = ", ".join(f"{setting}: {share:.3f}" for setting, share in row["recalls"].items())
            body.append([NAMES[name], knobs.get(name, "ef_search"), f"{row['setting']:g}", tried])
    return table(["", "setting", "chosen", "recall@10 at 100,000"], body)


def post_filtering(rows: Rows) -> str:
    measured = {n: rows[key] for n in SIZES if (key := ("drawn", "post-filter", str(n))) in rows}
    body = [[f"{p} % kept", *(f"{row[str(p)]['recall']:.2f}" for row in measured.values())] for p in FILTERS[1:]]
    return table(["", *(f"{n:,}" for n in measured)], body)


def stops(rows: Rows) -> str:
    """Why what was not built was not built, and the load of the machine."""
    lines = [
        f"- {NAMES[key[1]]}, {int(key[2]):,} chunks: {row['stopped']}"
        for key, row in rows.items()
        if key[0] == "drawn" and "stopped" in row
    ]
    loads = [row["load"] for row in rows.values() if "load" in row]
    busy = f"- The machine's load average was {min(loads)} to {max(loads)} while this was measured; it has two cores."
    return "\n".join([*lines, busy])


def breaks(rows: Rows, name: str) -> dict[str, int]:
    """For each rule that an engine breaks, the smallest size at which it does."""
    broken: dict[str, int] = {}
    for n in SIZES:
        row = rows.get(("drawn", name, str(n)), {})
        if "stopped" in row:
            broken.setdefault(STOPPED, n)
        elif row:
            for rule, broke in RULES.items():
                if broke(row):
                    broken.setdefault(rule, n)
    return broken


def limits(rows: Rows) -> str:
    body = []
    for name, label in NAMES.items():
        measured = [n for n in SIZES if ("drawn", name, str(n)) in rows]
        broken = breaks(rows, name)
        right = []
        for rules in ([rule for rule in RULES if "kept" not in rule], list(RULES)):
            end = min((broken[rule] for rule in rules if rule in broken), default=math.inf)
            last = max((n for n in measured if n < end), default=0)
            right.append(f"{'at least ' if end == math.inf else ''}{last:,}" if last else "never")
        body.append(
            [
                label,
                *(f"{broken[rule]:,}" if rule in broken else "" for rule in RULES),
                *right,
            ]
        )
    return table(["", *RULES, "right up to", "and with 1 % kept"], body)


def measured_assumptions(rows: Rows) -> Assumptions:
    """The default assumptions, with the rates that were measured here."""
    built = {int(k[2]): row for k, row in rows.items() if k[:2] == ("drawn", "qdrant") and "build" in row}
    n = max(built)
    embedding = json.loads((RESULTS / "embedding.json").read_text())["rows"]
    return replace(
        Assumptions(),
        encoder_tokens_per_second=round(next(r["value"] for r in embedding if r["name"] == "all-MiniLM-L6-v2: speed")),
        measured_chunks=n,
        index_core_ms_a_chunk=round(built[n]["build cpu"] / n * 1000, 3),
        core_ms_a_search=milliseconds(built[n]["100"]),
    )


LABELS = {
    "rule_of_thumb_gb": "memory by the rule of thumb, float32 × 1.5, one copy (GB)",
    "vectors_gb": "vectors, float32 (GB)",
    "searched_gb": "vectors that are searched, in memory (GB)",
    "links_gb": "links of HNSW (GB)",
    "ids_gb": "ids and versions (GB)",
    "indexed_gb": "indexed payload (GB)",
    "payload_gb": "payload with its 50 %, on disk (GB)",
    "memory_gb": "memory of one copy, with headroom (GB)",
    "disk_gb": "disk of one copy, with free room (GB)",
    "nodes": "nodes",
    "shards": "shards, two a node",
    "chunks_a_shard": "chunks a shard (millions)",
    "disk_a_node_gb": "disk a node, replicas included (GB)",
    "encode_days": "days of encoding on all encoders",
    "index_hours": "hours of indexing on all nodes' cores",
    "queries_per_second": "queries a second",
    "encode_usd": "encoding once ($)",
    "usd_a_month": "nodes and disks a month ($)",
}


def plans(rows: Rows) -> str:
    given = measured_assumptions(rows)
    columns = ("float32", "int8", "binary")
    answers = [asdict(plan(replace(given, in_memory=column))) for column in columns]
    body = []
    for field in fields(Plan):
        scale = 1e-6 if field.name == "chunks_a_shard" else 1
        body.append([LABELS[field.name], *(number(answer[field.name] * scale) for answer in answers)])
    return table([f"{given.chunks:,} chunks", *columns], body)


def assumptions(rows: Rows) -> str:
    given = asdict(measured_assumptions(rows))
    body = [[f"`{name}`", str(value) if isinstance(value, str) else f"{value:,}"] for name, value in given.items()]
    return table(["assumption", "value"], body)


def formula(rows: Rows) -> str:
    """What Qdrant Edge wrote, beside the formula's bytes."""
    given, body = Assumptions(), []
    for n in SIZES:
        row = rows.get(("drawn", "qdrant", str(n)), {})
        if "bytes" in row:
            expected = given.dimension * 4 + 2 * given.m * 4 + 24
            body.append([f"{n:,}", number(row["bytes"] / n), number(expected)])
    return table(["chunks", "bytes a chunk on disk", "vectors, links and ids by the formula"], body)


def tables(rows: Rows) -> Iterator[tuple[str, str]]:
    """Name and Markdown of every table of the page."""
    yield "shape", shapes(rows)
    yield "real", real_beside_drawn(rows)
    yield "settings", settings(rows)
    yield (
        "build",
        by_size(rows, lambda row: ", ".join(number(row[what]) for what in ("build cpu", "build") if what in row)),
    )
    yield "room", by_size(rows, lambda row: number(row["bytes"] / 1e6))
    for percent in FILTERS:
        yield f"search {percent}", by_size(rows, searched(percent))
    yield "post-filter", post_filtering(rows)
    yield "stops", stops(rows)
    yield "limits", limits(rows)
    yield "formula", formula(rows)
    yield "plan", plans(rows)
    yield "assumptions", assumptions(rows)


def page(text: str, rows: Rows) -> str:
    """The page with its tables made anew.

    Raises:
        KeyError: the page asks for a table that there is not.
    """
    made = dict(tables(rows))
    pattern = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", text)


if __name__ == "__main__":
    atomic_write(PAGE, page(PAGE.read_text(), load()).encode())
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
