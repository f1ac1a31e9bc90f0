"""The text of bytes whose encoding nobody names.

Encodings of one byte a letter differ in a few letters, and each decodes nearly everything: "à la carte" is as good as
"ŕ la carte" unless one knows which letters a language has. So alphabets decide first, and ``charset-normalizer`` where
the letters are not Latin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from ragkit.base import require

_LATIN = ("cp1252", "cp1250", "cp1254", "iso8859-2", "cp1257", "iso8859-15")
"""The likelier first: most letters are the same in several of them."""
_ALPHABETS = [
    frozenset(letters + letters.upper())
    for letters in (
        "äöüßéèàç",  # German
        "àâæçéèêëîïôœùûüÿ",  # French
        "áéíñóúüçàèïò·ªº¿¡",  # Spanish, Catalan
        "áâãàçéêíóôõúü",  # Portuguese
        "àèéìíîòóùú",  # Italian
        "åäöéæøüàõšž",  # Swedish, Finnish, Danish, Norwegian, Estonian
        "áéíóúýðþæö",  # Icelandic
        "áéèëêíïóöúü",  # Dutch
        "ąćęłńóśźż",  # Polish
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "áéíóöőúüű",  # Hungarian
        "čćđšž",  # Croatian, Bosnian, Serbian, Slovenian
        "ăâîşţ",  # Romanian
        "çğıöşüâîİ",  # Turkish
        "ąčęėįšųūž",  # Lithuanian
        "āčēģīķļņšūž",  # Latvian
    )
]
_SIGNS = re.compile(r"m³|[²½¼¾£©®»](?![^\W\d_])|[«„“”‚‘’‹›–—…•·€§°™\xa0\xad]")
"""What stands in any text besides letters: many of these are letters in another encoding, and stand within words."""
_NOT_WRITTEN_TODAY = [
    f"cp{n}" for n in (437, 720, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865, 869)
]
"""Encodings of DOS: in a short text they look as likely as Windows' own."""


def decode(data: bytes, declared: Sequence[str] = ()) -> str | None:
    """The text of ``data`` by an encoding that is ``declared``, UTF-8, or else by its letters; ``None``: it has none.

    >>> decode("Service à la carte".encode("cp1252")), decode("Zażółć gęślą jaźń".encode("iso8859-2"))
    ('Service à la carte', 'Zażółć gęślą jaźń')
    """
    for encoding in (*declared, "utf-8", *_LATIN):
        with suppress(UnicodeDecodeError, LookupError):
            text = data.decode(encoding)
            if encoding not in _LATIN or encoding in declared or _is_of_one_language(text):
                return text.removeprefix("\ufeff")
    guesses = require("charset_normalizer", "formats").from_bytes(data, cp_exclusion=_NOT_WRITTEN_TODAY)
    best = guesses.best()
    if best is None:
        return None
    return str(next((guess for guess in guesses if guess.encoding == "cp1252" and guess.chaos <= best.chaos), best))


def _is_of_one_language(text: str) -> bool:
    letters = {letter for letter in _SIGNS.sub("", text) if letter > "\x7f"}
    return any(letters <= alphabet for alphabet in _ALPHABETS)
