"""Turning text into vectors, without ever cutting a text short in silence.

all-MiniLM-L6-v2 reads 256 tokens (254 of the text and two special ones); the usual wrapper drops what is
longer. Here a long text is split into windows of equal length, and its vector is the mean over all of them.

``load_embedder()`` gives the packaged model; ``load_embedder(NAME_OR_PATH)`` any other. An embedder that can also
hand out the vector of every single token in its context is a ``TokenEncoder``: the token store is built from one.

Read ``texts.py`` for the idea, ``local.py`` for the models, ``load.py`` for their names, then ``remote.py`` for models
behind an endpoint and ``cache.py`` for vectors that are never paid for twice.
"""

from ragkit.embedding.cache import CachedEmbedder
from ragkit.embedding.load import load_embedder, models_on_disk
from ragkit.embedding.local import SentenceTransformerEmbedder, TransformerEmbedder
from ragkit.embedding.prefixes import known_prefixes
from ragkit.embedding.prices import Spend, prices
from ragkit.embedding.remote import OpenAIEmbedder
from ragkit.embedding.texts import Ids, TokenEncoder, WindowVectors, encode_texts, split_evenly, unit

__all__ = [
    "CachedEmbedder",
    "Ids",
    "OpenAIEmbedder",
    "SentenceTransformerEmbedder",
    "Spend",
    "TokenEncoder",
    "TransformerEmbedder",
    "WindowVectors",
    "encode_texts",
    "known_prefixes",
    "load_embedder",
    "models_on_disk",
    "prices",
    "split_evenly",
    "unit",
]
