"""Which pipeline this is: all of its settings that can change an answer, for the cache's key and for traces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from ragkit.base import LLM, InputError, Reranker, Retriever, Rewriter
from ragkit.pipeline.diagram import Diagram
from ragkit.prompts import ANSWER


def settings_of(identity: str, diagram: Diagram, llm: LLM, numbers: Sequence[int], strict: bool = True) -> str:
    """sha256 of everything but the question that can change an answer.

    Args:
        identity: names corpus, chunks, models.
        diagram: every part, as ``RAGPipeline.describe`` tells it at this moment: parts can be exchanged.
        llm: who writes; its ``identity``, where it has one.
        numbers: the budget, ``fetch``, ``k``.
        strict: where not, the digest is "" instead of an error, and also where there is no ``identity``.

    Raises:
        InputError: a part tells nothing of itself but its address, which another part may have tomorrow.
    """
    told = [str(diagram), str(getattr(llm, "identity", repr(llm)))]
    nameless = [line.strip() for line in "\n".join(told).splitlines() if " at 0x" in line]
    if not strict and (nameless or not identity):
        return ""
    if nameless:
        raise InputError(
            f"a cache can't tell {nameless[0]!r} from another one like it: expected a part whose __repr__ says its "
            f"settings"
        )
    return hashlib.sha256(json.dumps([identity, *told, ANSWER.identity, *numbers]).encode()).hexdigest()


def parts(retriever: Retriever, reranker: Reranker | None, rewriter: Rewriter | None, llm: LLM) -> Mapping[str, str]:
    """What the pipeline is made of, by role."""
    told = {"rewriter": rewriter, "reranker": reranker, "llm": llm}
    return {
        "retriever": type(retriever).__name__,
        **{role: repr(part) for role, part in told.items() if part is not None},
    }
