"""Who may ask a service, and which documents they see: tokens from the environment, each of a tenant.

    $RAGKIT_TOKENS = {"a-long-random-token": {"tenant": "acme", "where": {"source": "acme/*"}}}

or the path of a file with that. Documents of a folder have ``source`` (the file), ``project`` (the folder's name),
``title`` and, where it is known, ``date``. No token is in a message, a log, a trace or a ``repr``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.base import InputError

EXAMPLE = '{"a-long-random-token": {"tenant": "acme", "where": {"source": "acme/*"}}}'


class Tenant(BaseModel):
    """Whose token it is, and which documents it opens: those whose metadata match ``where`` (``Corpus.only``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: Annotated[str, Field(min_length=1, max_length=100)]
    where: dict[str, str | list[str]] = {}


NOBODY = Tenant.model_construct(tenant="", where={})
"""Who asks where no tokens are required."""


class Tokens:
    """Tokens and their tenants; without any, none is required. Only digests of the tokens are in memory.

    >>> Tokens({"a-token-of-sixteen": {"tenant": "acme"}}).tenant("Bearer a-token-of-sixteen")
    Tenant(tenant='acme', where={})

    Raises:
        InputError: a token is too short or can't stand in a header, or its entry is none; says which by its number.
    """

    def __init__(self, entries: Mapping[str, object]) -> None:
        self._tenants: dict[bytes, Tenant] = {}
        for number, (token, entry) in enumerate(entries.items(), 1):
            if not re.fullmatch("[!-~]{16,}", token):
                raise InputError(f"RAGKIT_TOKENS, entry {number}: a token has 16 or more visible ASCII characters")
            try:
                self._tenants[_digest(token)] = Tenant.model_validate(entry)
            except ValidationError:
                raise InputError(f"RAGKIT_TOKENS, entry {number}: expected entries as in {EXAMPLE}") from None

    @classmethod
    def from_environment(cls) -> Tokens:
        """Those of ``$RAGKIT_TOKENS``: a JSON object, or the path of a file with one.

        Raises:
            InputError: it is neither, or an entry is wrong. What it holds is not in the message.
        """
        text, entries = os.environ.get("RAGKIT_TOKENS", "").strip(), None
        if not text:
            return cls({})
        with suppress(OSError, ValueError):
            entries = json.loads(text if text[0] == "{" else Path(text).expanduser().read_text(encoding="utf-8"))
        if not isinstance(entries, dict) or not entries:
            raise InputError(f"$RAGKIT_TOKENS is neither a JSON object nor the path of a file with one: {EXAMPLE}")
        return cls(entries)

    def __bool__(self) -> bool:
        return bool(self._tenants)

    @property
    def filters(self) -> list[dict[str, str | list[str]]]:
        """What each token lets through; everything where no token is required."""
        return [tenant.where for tenant in self._tenants.values()] or [{}]

    def tenant(self, authorization: str) -> Tenant | None:
        """Whose token an ``Authorization`` header holds; None: nobody's."""
        if not self._tenants:
            return NOBODY
        scheme, _, token = authorization.partition(" ")
        return self._tenants.get(_digest(token.strip())) if scheme.lower() == "bearer" else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("latin-1", "replace")).digest()
