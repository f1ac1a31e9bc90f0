"""Turning text into vectors, without ever cutting a text short in silence.

Read ``vectors.py`` for what embedders share, ``models.py`` for models on this machine (with ``bert.py``, which encodes
queries without torch, and ``e5.py``, which unpacks a packaged model), ``openai.py`` for models behind an endpoint, and
``cache.py`` for vectors that are never computed, or paid for, twice.
"""

from ragkit.embedding.cache import CachedEmbedder
from ragkit.embedding.models import load_embedder, models_on_disk
from ragkit.embedding.openai import OpenAIEmbedder
from ragkit.embedding.vectors import TokenEncoder, encode, unit
from ragkit.llm.chat import prices

__all__ = [
    "CachedEmbedder",
    "OpenAIEmbedder",
    "TokenEncoder",
    "encode",
    "load_embedder",
    "models_on_disk",
    "prices",
    "unit",
]
