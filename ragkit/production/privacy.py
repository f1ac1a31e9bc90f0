"""What of the texts a trace may keep: all, all but secrets, or none."""

from __future__ import annotations

import hashlib
import hmac
import traceback
from dataclasses import dataclass
from typing import Literal, get_args

from ragkit.base import InputError
from ragkit.production.redaction import redact

Text = Literal["redacted", "all", "none"]


@dataclass(frozen=True)
class Privacy:
    """How each kind of text is kept.

    With ``text="none"``, a question becomes a digest that is keyed with ``salt``, so that equal questions can still be
    counted. That is no secrecy against who has the salt: a question that can be guessed can be tried. Other texts
    become empty, an error keeps its type, and of a reason only whether it was an abstention or a fallback is left.

    >>> Privacy("redacted").question("Is sk-proj-abcdefghij0123456789 valid?")
    'Is [redacted: api key] valid?'
    >>> Privacy("none", salt="a").question("Why?") == Privacy("none", salt="b").question("Why?")
    False

    Raises:
        InputError: ``text`` is none of the three.
    """

    text: Text = "redacted"
    salt: str = ""

    def __post_init__(self) -> None:
        if self.text not in get_args(Text):
            raise InputError(f"text is {self.text!r}: expected 'redacted', 'all' or 'none'")

    def question(self, text: str) -> str:
        """The question, or what stands for it."""
        if self.text != "none":
            return self.other(text)
        normal = " ".join(text.split()).encode("utf-8", "surrogatepass")
        return "question:" + hmac.new(self.salt.encode(), normal, hashlib.sha256).hexdigest()[:16]

    def other(self, text: str) -> str:
        """An answer, a passage, a message."""
        return "" if self.text == "none" else encodable(redact(text) if self.text == "redacted" else text)

    def reason(self, reason: str, abstained: bool) -> str:
        """Why an answer is none, or not the model's."""
        if self.text == "none":
            return ("abstained" if abstained else "fallback") if reason else ""
        return self.other(reason)

    def error(self, error: BaseException) -> str:
        """``Type: message``."""
        return f"{type(error).__name__}: {self.other(str(error))}".removesuffix(": ")

    def stack(self, error: BaseException) -> str:
        """The lines that led to ``error``."""
        return self.other("".join(traceback.format_exception(error)))


def encodable(text: str) -> str:
    """``text`` without halves of surrogate pairs: no other program takes them.

    >>> encodable("a\\ud800")
    'a?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
