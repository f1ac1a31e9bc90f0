"""What documents get by the language that they are written in, where nobody chose: a model, a stemmer, stop words.

A language is an ISO 639-3 code, as in ``Corpus.report()``; ``Corpus.language`` is that of a folder. The presets,
configurations, ``TokenStore.open``, the widgets and the writers (``make_llm``) go by it. A retriever that is made by
hand is told: ``BM25Retriever(chunks, analyzer=Analyzer.for_language(corpus.language))``.

>>> defaults_for("deu")
Defaults(encoder='multilingual-e5-small', stemmer='german', stop_words=True)
>>> defaults_for("eng")
Defaults(encoder='all-MiniLM-L6-v2', stemmer='english', stop_words=True)
>>> defaults_for("jpn")
Defaults(encoder='multilingual-e5-small', stemmer='', stop_words=False)
"""

from __future__ import annotations

from typing import NamedTuple

from ragkit.base import InputError
from ragkit.embedding.e5 import E5_SMALL
from ragkit.tokens import MINILM

STEMMERS = {
    "ara": "arabic",
    "cat": "catalan",
    "ces": "czech",
    "dan": "danish",
    "deu": "german",
    "ell": "greek",
    "eng": "english",
    "epo": "esperanto",
    "est": "estonian",
    "fin": "finnish",
    "fra": "french",
    "hin": "hindi",
    "hun": "hungarian",
    "hye": "armenian",
    "ind": "indonesian",
    "ita": "italian",
    "lit": "lithuanian",
    "nep": "nepali",
    "nld": "dutch",
    "nob": "norwegian",
    "pes": "persian",
    "pol": "polish",
    "por": "portuguese",
    "ron": "romanian",
    "rus": "russian",
    "spa": "spanish",
    "srp": "serbian",
    "swe": "swedish",
    "tam": "tamil",
    "tur": "turkish",
    "yid": "yiddish",
}
"""Snowball's stemmer (PyStemmer) of each language that has one."""

STOP_WORDS = frozenset(
    [
        "danish",
        "dutch",
        "english",
        "french",
        "german",
        "italian",
        "norwegian",
        "portuguese",
        "russian",
        "spanish",
        "swedish",
        "turkish",
    ]
)
"""The languages, as their stemmers are called, that bm25s has stop words of."""


class Defaults(NamedTuple):
    """What documents in a language get: the name of a packaged model (``load_embedder``), of a stemmer ("": words stay
    as they are), and whether there are stop words."""

    encoder: str
    stemmer: str
    stop_words: bool


def defaults_for(language: str) -> Defaults:
    """The defaults for a language; "" (unknown) is taken for English, as documents were before there was a choice.

    Raises:
        InputError: ``language`` is no code of three letters.
    """
    if language and not (len(language) == 3 and language.isascii() and language.islower()):
        raise InputError(f"language {language!r}: expected an ISO 639-3 code, such as 'eng' or 'deu'")
    stemmer = STEMMERS.get(language or "eng", "")
    return Defaults(MINILM if is_english(language) else E5_SMALL, stemmer, stemmer in STOP_WORDS)


def is_english(language: str) -> bool:
    """Whether documents in ``language`` get what was made for English; unknown ones do.

    >>> is_english("eng"), is_english(""), is_english("mul")
    (True, True, False)
    """
    return language in ("", "eng")
