"""Encode once, chunk later. Read ``store.py`` for the idea, ``build.py`` for the disk, ``sums.py`` for the trick."""

from ragkit.token_store.store import TokenStore

__all__ = ["TokenStore"]
