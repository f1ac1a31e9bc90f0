"""What 100 million chunks need on a Qdrant cluster: bytes, nodes, disks, hours and dollars, from named assumptions.

The bytes are Qdrant's own arithmetic. Its `capacity planning`_ page: vectors take 4 bytes a number; half as much again
for indexes, versions and the segments that optimisation writes; half as much again for payloads; a migration or a
restored snapshot needs twice the disk. Its published estimator counts the rest one by one: 2 m links of 4 bytes in the
lowest layer of HNSW, 24 bytes of ids a point. At least three nodes, two replicas, and two shards a node are its advice,
too.

.. _capacity planning: https://qdrant.tech/documentation/capacity-planning/
"""

from __future__ import annotations

import math
from dataclasses import dataclass

GB = 1e9
HOUR, DAY = 3600, 86_400
BYTES_A_NUMBER = {"float32": 4.0, "int8": 1.0, "binary": 1 / 8}


@dataclass(frozen=True)
class Assumptions:
    """What a reader replaces. The defaults of prices, machines and rates are examples, not offers."""

    chunks: int = 100_000_000
    dimension: int = 384
    m: int = 16  # of HNSW
    in_memory: str = "int8"  # the vectors that are searched: "float32", "int8" or "binary"
    tokens_a_chunk: int = 256
    payload_bytes: int = 1500  # text and metadata of a chunk, on disk
    indexed_bytes: int = 50  # what is filtered by, in memory
    headroom: float = 1.25  # of memory: temporary segments, the system, the cache of hot pages
    replicas: int = 2
    node_memory_gb: float = 64.0
    node_cores: int = 16
    usable_memory: float = 0.8  # of a node's
    free_disk: float = 2.0  # disk beside what is stored: optimisation, snapshots, a restore
    encoder_tokens_per_second: float = 5000.0  # of one machine
    encoders: int = 20
    measured_chunks: int = 300_000  # in one index: where the next two were measured, which grow as its logarithm
    index_core_ms_a_chunk: float = 1.0  # HNSW, one copy
    core_ms_a_search: float = 1.0  # of one shard
    busy: float = 0.5  # the share of the cores that queries may take
    node_usd_a_month: float = 400.0
    disk_usd_a_gb_month: float = 0.10
    encoder_usd_an_hour: float = 0.20


@dataclass(frozen=True)
class Plan:
    """The answer: gigabytes (of 10**9 bytes), machines, hours, dollars."""

    rule_of_thumb_gb: float
    vectors_gb: float
    searched_gb: float
    links_gb: float
    ids_gb: float
    indexed_gb: float
    payload_gb: float
    memory_gb: float  # of one copy, headroom included
    disk_gb: float  # of one copy, free room included
    nodes: int
    shards: int
    chunks_a_shard: float
    disk_a_node_gb: float
    encode_days: float
    index_hours: float
    queries_per_second: float
    encode_usd: float
    usd_a_month: float


def plan(given: Assumptions) -> Plan:
    """The cluster for ``given``.

    >>> small = Assumptions(chunks=1_000_000, dimension=1024, in_memory="float32")
    >>> round(plan(small).rule_of_thumb_gb, 3)  # the example of Qdrant's page: 6,144,000,000 bytes
    6.144
    >>> plan(small).nodes, plan(small).shards
    (3, 6)
    """
    n = given.chunks
    numbers = n * given.dimension / GB
    vectors = numbers * BYTES_A_NUMBER["float32"]
    searched = numbers * BYTES_A_NUMBER[given.in_memory]
    links = n * 2 * given.m * 4 / GB
    ids = n * 24 / GB
    indexed = n * given.indexed_bytes / GB
    payload = n * given.payload_bytes * 1.5 / GB
    quantised = 0.0 if given.in_memory == "float32" else searched
    memory = (searched + links + ids + indexed) * given.headroom
    disk = (vectors + quantised + links + ids + indexed + payload) * given.free_disk

    nodes = max(3, math.ceil(memory * given.replicas / (given.node_memory_gb * given.usable_memory)))
    shards = 2 * nodes
    cores = nodes * given.node_cores
    deeper = math.log(n / shards) / math.log(given.measured_chunks)
    disks = disk * given.replicas
    encode_seconds = n * given.tokens_a_chunk / given.encoder_tokens_per_second
    return Plan(
        rule_of_thumb_gb=vectors * 1.5,
        vectors_gb=vectors,
        searched_gb=searched,
        links_gb=links,
        ids_gb=ids,
        indexed_gb=indexed,
        payload_gb=payload,
        memory_gb=memory,
        disk_gb=disk,
        nodes=nodes,
        shards=shards,
        chunks_a_shard=n / shards,
        disk_a_node_gb=disks / nodes,
        encode_days=encode_seconds / given.encoders / DAY,
        index_hours=n * given.replicas * given.index_core_ms_a_chunk * deeper / 1000 / cores / HOUR,
        queries_per_second=given.busy * cores / (shards * given.core_ms_a_search * deeper / 1000),
        encode_usd=encode_seconds / HOUR * given.encoder_usd_an_hour,
        usd_a_month=nodes * given.node_usd_a_month + disks * given.disk_usd_a_gb_month,
    )
