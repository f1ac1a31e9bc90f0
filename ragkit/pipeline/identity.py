"""Which pipeline this is: all of its settings that can change an answer, for the cache's key and for traces."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ragkit.base import LLM, InputError, Reranker, Retriever, Rewriter
from ragkit.generation.prompts import ANSWER
from ragkit.pipeline.signature import signature


def settings_of(
    identity: str,
    retriever: Retriever,
    others: Sequence[LLM | Reranker | Rewriter | None],
    numbers: Sequence[int],
    strict: bool = True,
) -> str:
    """sha256 of everything but the question that can change an answer.

    Args:
        identity: names corpus, chunks, models.
        retriever, others: the parts as they are at this moment: they can be exchanged. Each is told by its
            ``signature``, and by its ``repr`` where it has one of its own.
        numbers: the budget, ``fetch``, ``k``.
        strict: where not, the digest is "" instead of an error, and also where there is no ``identity``.

    Raises:
        InputError: one of ``others`` tells nothing of itself but its address, which another part may have tomorrow.
    """
    names = [_name(part) for part in others]
    nameless = [name for name in names if " at 0x" in name]
    if not strict and (nameless or not identity):
        return ""
    if nameless:
        raise InputError(
            f"a cache can't tell {nameless[0]!r} from another one like it: expected a part whose `identity`, or whose "
            f"__repr__, says its settings"
        )
    told = [identity, ANSWER.identity, *names, *numbers, *(signature(part) for part in (retriever, *others))]
    return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()


def _name(part: object) -> str:
    return str(getattr(part, "identity", "") or repr(part))


def parts(retriever: Retriever, reranker: Reranker | None, rewriter: Rewriter | None, llm: LLM) -> Mapping[str, str]:
    """What the pipeline is made of, by role."""
    others = {"rewriter": rewriter, "reranker": reranker, "llm": llm}
    told = {role: repr(part) for role, part in others.items() if part is not None}
    return {"retriever": type(retriever).__name__, **told}
