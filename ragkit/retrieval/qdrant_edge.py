"""Qdrant's engine in this process, for a ``QdrantStore`` at ``edge:FOLDER``: nothing of Qdrant's but a folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ragkit.base import require

_UPDATES = {
    "create_payload_index": "create_field_index",
    "upsert": "upsert_points",
    "update_vectors": "update_vectors",
    "set_payload": "set_payload",
    "delete": "delete_points_by_filter",
}


class EdgeClient:
    """Qdrant's engine in this process, in ``folder``: those methods of Qdrant's client that ``QdrantStore`` calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._edge = m = require("qdrant_edge", "scale")
        self._shard: Any = None
        other = {
            "PointStruct": m.Point,
            "VectorParams": m.EdgeVectorParams,
            "SparseVectorParams": m.EdgeSparseVectorParams,
            "Distance": SimpleNamespace(DOT=m.Distance.Dot),
            "PayloadSchemaType": SimpleNamespace(KEYWORD=m.PayloadSchemaType.Keyword),
            "HasIdCondition": lambda has_id: m.HasIdCondition(set(has_id)),
            "QueryRequest": self._query,
        }
        self.models = SimpleNamespace(**vars(m) | other)

    def _query(self, query: Any, using: str, limit: int, filter: Any, params: Any, with_payload: Any) -> Any:
        nearest = self._edge.Query.Nearest(query, using)
        return self._edge.QueryRequest(limit, query=nearest, filter=filter, params=params, with_payload=with_payload)

    def call(self, method: str, *arguments: Any) -> Any:
        """What the client's ``method`` returns."""
        m, shard = self._edge, self._shard
        result: Any = None
        match method:
            case "collection_exists":
                if result := (self.folder / "edge_config.json").exists():
                    self._shard = m.EdgeShard.load(str(self.folder))
            case "create_collection":
                self.folder.mkdir(parents=True, exist_ok=True)
                self._shard = m.EdgeShard.create(str(self.folder), m.EdgeConfig(*arguments))
            case "count":
                result = SimpleNamespace(count=shard.count(m.CountRequest(True, *arguments)))
            case "retrieve":
                result = shard.retrieve(*arguments, False)
            case "scroll":
                limit, offset, with_payload = arguments
                result = shard.scroll(m.ScrollRequest(offset, limit, None, with_payload))
            case "query_batch_points":
                result = [SimpleNamespace(points=own) for own in shard.query_batch(m.QueryBatchRequest(*arguments))]
            case "optimize":
                shard.optimize()
            case _:
                shard.update(getattr(m.UpdateOperation, _UPDATES[method])(*arguments))
        return result

    def close(self) -> None:
        if self._shard:
            self._shard.close()
