"""What an ``/embeddings`` endpoint sends, read with care. Nothing here talks to a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ragkit.base import Vectors
from ragkit.llm.chat import shortened


def parse_embeddings(body: bytes, count: int) -> tuple[Vectors, int]:
    """The vectors ``(count, d)`` in the order of the texts that were sent, and the tokens they took.

    The reply says by ``index`` which vector is whose; its own order does not count.

    >>> parse_embeddings(b'{"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}', 2)[0].tolist()
    [[1.0], [2.0]]

    Raises:
        ValueError: too few or too many vectors, a place twice or none, lists of different lengths, NaN, infinity or
            only zeros; or the body is something else.
    """
    try:
        reply = json.loads(body)
        rows = {int(row["index"]): row["embedding"] for row in reply["data"]}
        given = len(reply["data"])
        tokens = int((reply.get("usage") or {}).get("total_tokens") or 0)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no embeddings but {shortened(repr(body[:200]))}") from error
    if given != count or rows.keys() != set(range(count)):
        raise ValueError(f"{given} vectors for {count} texts, at the places {shortened(repr(sorted(rows)), 60)}")
    return _checked([rows[i] for i in range(count)]), tokens


def _checked(rows: Sequence[Any]) -> Vectors:
    lengths = sorted({len(row) if isinstance(row, list) else 0 for row in rows})
    if len(lengths) != 1 or lengths[0] < 1:
        raise ValueError(f"vectors of {' and '.join(map(str, lengths))} numbers in one reply")
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which is found below
            vectors: Vectors = np.array(rows, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"a vector that is no list of numbers ({shortened(str(error))})") from error
    squared = np.square(vectors, dtype=np.float64).sum(axis=tuple(range(1, vectors.ndim)))
    bad = np.flatnonzero(~(np.isfinite(squared) & (squared > 0)))
    if len(bad) or vectors.ndim != 2:
        where = bad[0] if len(bad) else 0
        raise ValueError(f"a vector with NaN, infinity or only zeros (text {where} of {len(rows)})")
    return vectors


def byte_windows(text: str, room: int) -> list[str]:
    """``text`` in pieces of at most ``room`` bytes of UTF-8 and of nearly the same length, cut after white space where
    there is any. Pieces of nothing but white space are left out, all else is kept.

    >>> byte_windows("one two three four", 10)
    ['one two ', 'three four']
    """
    pieces: list[str] = []
    while (size := n_bytes(text)) > room:
        cut = max(1, -(-len(text) // -(-size // room)))
        while n_bytes(text[:cut]) > room and cut > 1:
            cut = max(1, cut * 9 // 10)
        cut = next((i for i in range(cut, cut // 2, -1) if text[i - 1].isspace()), cut)
        pieces.append(text[:cut])
        text = text[cut:]
    return [piece for piece in (*pieces, text) if piece.strip()]


def n_bytes(text: str) -> int:
    """The length of ``text`` in UTF-8: no tokenizer of bytes or characters makes more tokens of it."""
    return len(text.encode("utf-8", "surrogatepass"))
