"""ragkit: understand retrieval-augmented generation, and prototype it before production.

The names that the course begins with stand here, flat. Each is imported from its module when it is first used, so that
``import ragkit`` is quick and loads no torch:

>>> from ragkit import Span
>>> len(Span("guide", 10, 25))
15
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# fmt: off
# isort: off
if TYPE_CHECKING:
    from ragkit.base import (
        Answer, Chunk, Corpus, Document, Hit, Question, Span,
        RagkitError, InputError, MissingExtraError, CorpusError, FetchError, ArchiveError,
        IntegrityError, StoreMismatchError, ModelNotFoundError, EndpointError, ContractError,
    )
    from ragkit.corpus import load_beir, load_folder, load_pydocs, load_squad
    from ragkit.chunking import FixedChunker, SentenceChunker, RecursiveChunker, HeadingChunker, SemanticChunker
    from ragkit.chunking import chunk_corpus
    from ragkit.embedding import load_embedder
    from ragkit.token_store import TokenStore
    from ragkit.retrieval.bm25 import BM25Retriever
    from ragkit.retrieval.dense import DenseRetriever
    from ragkit.retrieval.hybrid import Hybrid
    from ragkit.retrieval.rerank import Reranked, LateInteraction, CrossEncoder
    from ragkit.pipeline import RAGPipeline, naive, advanced, modular
    from ragkit.evaluation.compare import compare
# fmt: on

_MODULES = {
    "corpus": "load_pydocs load_folder load_beir load_squad",
    "chunking": "FixedChunker SentenceChunker RecursiveChunker HeadingChunker SemanticChunker chunk_corpus",
    "embedding": "load_embedder",
    "token_store": "TokenStore",
    "retrieval.bm25": "BM25Retriever",
    "retrieval.dense": "DenseRetriever",
    "retrieval.hybrid": "Hybrid",
    "retrieval.rerank": "Reranked LateInteraction CrossEncoder",
    "pipeline": "RAGPipeline naive advanced modular",
    "evaluation.compare": "compare",
}
_MODULE_OF = {name: f"ragkit.{module}" for module, names in _MODULES.items() for name in names.split()}

__version__ = "0.2.0.dev0"
__all__ = [  # noqa: RUF022 - in the order in which data flows
    "Document", "Span", "Question", "Chunk", "Hit", "Answer", "Corpus",
    "load_pydocs", "load_folder", "load_beir", "load_squad",
    "FixedChunker", "SentenceChunker", "RecursiveChunker", "HeadingChunker", "SemanticChunker", "chunk_corpus",
    "load_embedder", "TokenStore",
    "BM25Retriever", "DenseRetriever", "Hybrid",
    "Reranked", "LateInteraction", "CrossEncoder",
    "RAGPipeline", "naive", "advanced", "modular",
    "compare",
    "RagkitError", "InputError", "MissingExtraError", "CorpusError", "FetchError", "ArchiveError",
    "IntegrityError", "StoreMismatchError", "ModelNotFoundError", "EndpointError", "ContractError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ragkit' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_MODULE_OF.get(name, "ragkit.base")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
