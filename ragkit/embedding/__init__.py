"""Turning text into vectors, without ever cutting a text short in silence.

all-MiniLM-L6-v2 reads 256 tokens (254 of the text and two special ones); the usual wrapper drops what is
longer. Here a long text is split into windows of equal length, and its vector is the mean over all of them.

``load_embedder()`` gives the packaged model; ``load_embedder(NAME_OR_PATH)`` any other. An embedder that can also
hand out the vector of every single token in its context is a ``TokenEncoder``: the token store is built from one.

Read ``texts.py`` for the idea, ``local.py`` for the models, ``load.py`` for their names.
"""

from ragkit.embedding.load import load_embedder, models_on_disk
from ragkit.embedding.local import SentenceTransformerEmbedder, TransformerEmbedder
from ragkit.embedding.prefixes import known_prefixes
from ragkit.embedding.texts import Ids, TokenEncoder, WindowVectors, encode_texts, split_evenly, unit

__all__ = [
    "Ids",
    "SentenceTransformerEmbedder",
    "TokenEncoder",
    "TransformerEmbedder",
    "WindowVectors",
    "encode_texts",
    "known_prefixes",
    "load_embedder",
    "models_on_disk",
    "split_evenly",
    "unit",
]
