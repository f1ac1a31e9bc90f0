"""What tells one part of a pipeline from another like it: all of its settings, however deep they stand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, MappingProxyType, MethodType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from ragkit.base import Chunk, Corpus

Signature: TypeAlias = object
"""Texts, numbers and tuples of them: equal settings, equal signatures; its ``repr`` has no address in it."""

Place: TypeAlias = tuple[object, str]

_MANY = 32  # of a longer collection, the digest is kept: its owner is asked again with every question
# Concrete types: to ask every value whether it is a Mapping would take most of the time.
_SCALARS = (str, bytes, bool, int, float, complex)
_COLLECTIONS = (dict, MappingProxyType, set, frozenset, list, tuple)
_LONG = (*_COLLECTIONS, np.ndarray)
_digests: WeakKeyDictionary[object, dict[str, tuple[object, int, str]]] = WeakKeyDictionary()


def signature(part: object) -> Signature:
    """The settings of ``part``: its ``identity`` where it has one, else its class and its public attributes.

    Attributes that begin with ``_`` are not told, so that is the place for what a part makes for itself. One that
    counts its calls in public looks like a new part after each of them, unless it has an ``identity``. A collection of
    more than 32 things that is changed in place, and keeps its length, is not noticed.

    >>> class Shorter:
    ...     def __init__(self, most):
    ...         self.most = most
    >>> signature(Shorter(3)) == signature(Shorter(3)), signature(Shorter(3)) == signature(Shorter(4))
    (True, False)
    """
    return _told(part, {}, (None, ""))


def _told(part: Any, seen: dict[int, int], place: Place) -> Signature:
    """``place`` is where it stands: the part that holds it, and its name there."""
    if part is None or isinstance(part, _SCALARS):
        return part
    if isinstance(identity := getattr(part, "identity", None), str) and identity:
        return _name(part), identity
    if (simple := _simple(part)) is not None:
        return simple
    if isinstance(part, _COLLECTIONS):
        return _collection(part, seen, place)
    if isinstance(part, partial):
        return "partial", *(_told(each, seen, place) for each in (part.func, part.args, part.keywords))
    if isinstance(part, MethodType):
        return _told(part.__func__, seen, place), _told(part.__self__, seen, place)
    if id(part) in seen:  # only what lives on: the id of something that is gone may be another's a moment later
        return "the same as", seen[id(part)]
    seen[id(part)] = len(seen)
    if isinstance(part, FunctionType):
        return _function(part, seen, place)
    public = sorted((name, value) for name, value in _attributes(part) if not name.startswith("_"))
    return _name(part), tuple((name, _held(value, seen, (part, name))) for name, value in public)


def _simple(part: Any) -> Signature | None:
    """What says all about itself at once."""
    if isinstance(part, Chunk):
        return part.id, part.text
    if isinstance(part, Corpus):
        return part.fingerprint
    if isinstance(part, np.ndarray):
        return str(part.dtype), part.shape, hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest()
    if isinstance(part, re.Pattern):
        return part.pattern, part.flags
    if isinstance(part, PurePath | np.generic):
        return str(part)
    return _name(part) if isinstance(part, type) else None


def _collection(part: Any, seen: dict[int, int], place: Place) -> Signature:
    owner, name = place
    if isinstance(part, dict | MappingProxyType):
        pairs = [(_told(k, seen, place), _held(v, seen, (owner, f"{name}.{k}"))) for k, v in part.items()]
        return "mapping", tuple(sorted(pairs, key=lambda pair: repr(pair[0])))
    told = [_held(each, seen, (owner, f"{name}.{i}")) for i, each in enumerate(part)]
    if isinstance(part, set | frozenset):
        return "set", tuple(sorted(told, key=repr))
    return "list", tuple(told)


def _held(value: Any, seen: dict[int, int], place: Place) -> Signature:
    """As ``_told``; of what is long, a digest that is kept as long as the same object stands in the same place."""
    owner, name = place
    if not (isinstance(value, _LONG) and len(value) > _MANY):
        return _told(value, seen, place)
    try:
        kept = _digests.setdefault(owner, {})
    except TypeError:  # no weak reference can be made to the owner
        kept = {}
    there = kept.get(name)
    if there is None or there[0] is not value or there[1] != len(value):
        digest = hashlib.sha256(repr(_told(value, {}, (None, ""))).encode("utf-8", "surrogatepass")).hexdigest()
        there = kept[name] = (value, len(value), digest)
    return there[2]


def _attributes(part: object) -> Iterable[tuple[str, Any]]:
    slots = (name for kind in type(part).__mro__ for name in _slots(kind))
    yield from ((name, getattr(part, name)) for name in slots if hasattr(part, name))
    yield from getattr(part, "__dict__", {}).items()


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _function(function: FunctionType, seen: dict[int, int], place: Place) -> Signature:
    """A function by its code, its defaults and what it has closed over: two lambdas have the same name."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    bound = (function.__defaults__, function.__kwdefaults__, cells)
    return function.__module__, function.__qualname__, _code(function.__code__), _told(bound, seen, place)


def _code(code: CodeType) -> Signature:
    constants = tuple(_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts)
    return hashlib.sha256(code.co_code).hexdigest(), code.co_names, constants


def _name(part: object) -> str:
    kind = part if isinstance(part, type) else type(part)
    return f"{kind.__module__}.{kind.__qualname__}"
