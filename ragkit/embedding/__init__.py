"""Turning text into vectors, without ever cutting a text short in silence.

Read ``vectors.py`` for what embedders share, ``models.py`` for models on this machine (with ``bert.py``, which encodes
queries without torch, and ``e5.py``, which unpacks a packaged model), ``openai.py`` for models behind an endpoint, and
``cache.py`` for vectors that are never computed, or paid for, twice.
"""

from ragkit.embedding.cache import CachedEmbedder
from ragkit.embedding.models import SentenceTransformerEmbedder, TransformerEmbedder, load_embedder, models_on_disk
from ragkit.embedding.openai import OpenAIEmbedder
from ragkit.embedding.vectors import (
    Ids,
    TokenEncoder,
    WindowVectors,
    check_vectors,
    encode,
    encode_texts,
    known_prefixes,
    split_evenly,
    unit,
)
from ragkit.llm.chat import prices

__all__ = [
    "CachedEmbedder",
    "Ids",
    "OpenAIEmbedder",
    "SentenceTransformerEmbedder",
    "TokenEncoder",
    "TransformerEmbedder",
    "WindowVectors",
    "check_vectors",
    "encode",
    "encode_texts",
    "known_prefixes",
    "load_embedder",
    "models_on_disk",
    "prices",
    "split_evenly",
    "unit",
]
