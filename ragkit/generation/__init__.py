"""From hits to a cited answer: the context, the prompt, the writer, and when to stay silent."""

from ragkit.generation.answer import OpenAIChat, WithFallback, parse_citations, stream_answer, unknown_citations
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Extractive
from ragkit.generation.prompts import ANSWER, NOT_FOUND
from ragkit.llm.chat import endpoint_configured

__all__ = [
    "ANSWER", "NOT_FOUND", "Extractive", "OpenAIChat", "WithFallback", "build_context", "endpoint_configured",
    "parse_citations", "stream_answer", "unknown_citations",
]  # fmt: skip
