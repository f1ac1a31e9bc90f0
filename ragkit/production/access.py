"""Who may ask a service, and which documents they see: tokens from the environment, each of a tenant.

    $RAGKIT_TOKENS = {"a-long-random-token": {"tenant": "acme", "where": {"project": "celery"}}}

or the path of a file with that. No token is in a message, a log, a trace or a ``repr``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.base import InputError


class Tenant(BaseModel):
    """Whose token it is, and which documents it opens: those whose metadata match ``where`` (``Corpus.only``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: Annotated[str, Field(min_length=1, max_length=100)]
    where: dict[str, str] = {}


NOBODY = Tenant.model_construct(tenant="", where={})
"""Who asks where no tokens are required."""


class Tokens:
    """Tokens and their tenants; without any, none is required.

    Only digests of the tokens are in memory, and comparing takes as long for a wrong token as for a right one.

    >>> Tokens({"a-token-of-sixteen": {"tenant": "acme"}}).tenant("Bearer a-token-of-sixteen")
    Tenant(tenant='acme', where={})

    Raises:
        InputError: a token is shorter than 16 characters, or its entry is none; says which by its number.
    """

    def __init__(self, entries: Mapping[str, object]) -> None:
        self._tenants: list[tuple[bytes, Tenant]] = []
        for number, (token, entry) in enumerate(entries.items(), 1):
            try:
                tenant = Tenant.model_validate(entry)
            except ValidationError:
                raise InputError(
                    f'RAGKIT_TOKENS, entry {number}: expected a token with {{"tenant": "acme", "where": {{...}}}}, '
                    "where `where` has texts by the name of a metadata field, or is left out"
                ) from None
            if len(token) < 16:
                raise InputError(f"RAGKIT_TOKENS, entry {number}: the token is shorter than 16 characters")
            self._tenants.append((_digest(token.encode()), tenant))

    @classmethod
    def from_environment(cls) -> Tokens:
        """Those of ``$RAGKIT_TOKENS``: a JSON object, or the path of a file with one.

        Raises:
            InputError: it is neither, or an entry is wrong. What it holds is not in the message.
        """
        text = os.environ.get("RAGKIT_TOKENS", "").strip()
        if not text:
            return cls({})
        entries: object = None
        with suppress(OSError, ValueError):
            if not text.startswith("{"):
                text = Path(text).expanduser().read_text(encoding="utf-8")
            entries = json.loads(text)
        if not isinstance(entries, dict) or not entries:
            raise InputError(
                "$RAGKIT_TOKENS is set, and is neither a JSON object of tokens nor the path of a file with one: "
                'expected {"a-long-random-token": {"tenant": "acme", "where": {"project": "celery"}}}'
            )
        return cls(entries)

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def __repr__(self) -> str:
        return f"Tokens({len(self._tenants)})"

    @property
    def filters(self) -> tuple[dict[str, str], ...]:
        """What the tokens let through, each filter once; everything where no token is required."""
        filters: list[dict[str, str]] = []
        for _, tenant in self._tenants:
            if tenant.where not in filters:
                filters.append(tenant.where)
        return tuple(filters) or ({},)

    def tenant(self, authorization: str) -> Tenant | None:
        """Whose token an ``Authorization`` header holds; None: nobody's."""
        if not self._tenants:
            return NOBODY
        scheme, _, token = authorization.partition(" ")
        digest = _digest(token.strip().encode("latin-1", "replace"))
        owners = [owner for known, owner in self._tenants if hmac.compare_digest(known, digest)]
        return owners[0] if owners and scheme.lower() == "bearer" else None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
