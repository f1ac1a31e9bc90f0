"""A pipeline as a text that can be read, kept, compared and run again: a TOML file of named modules.

    [pipeline]
    retriever = "both"
    fetch = 50

    [reranker]
    kind = "late interaction"

    [chunks.main]
    size = 512
    overlap = 64

    [modules.words]
    kind = "bm25"

    [modules.meaning]
    kind = "dense"
    scoring = "maxp"

    [modules.both]
    kind = "hybrid"
    of = ["words", "meaning"]

What a table may hold are the fields of its record in ``ragkit.pipeline.modules`` and ``settings``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from ragkit.base import Corpus, InputError, StoreMismatchError, require
from ragkit.files import atomic_write
from ragkit.pipeline.modules import MODULES
from ragkit.pipeline.settings import RERANKERS, REWRITERS, Chunking, one_of
from ragkit.token_store import TokenStore

T = TypeVar("T")
_REFERENCES = ("of", "wider")


@dataclass(frozen=True)
class MadeWith:
    """What a configuration was measured on: the fingerprint of the corpus, and the token store's identity."""

    corpus: str
    store: str


@dataclass(frozen=True)
class PipelineConfig:
    """All settings of a pipeline's retrieval side, and its context budget.

    ``retriever`` names one of ``modules``; ``reranker`` is one of the records in ``RERANKERS``, ``rewriter`` a name
    of ``REWRITERS`` (both in ``ragkit.pipeline.settings``); ``made_with``, where it
    is there, is checked when a pipeline is made.

    >>> config = PipelineConfig.from_toml('''
    ...     pipeline = {retriever = "words"}
    ...     modules.words = {kind = "bm25", contextual = true}
    ... ''')
    >>> config.modules["words"].contextual, config == PipelineConfig.from_toml(config.to_toml())
    (True, True)

    Raises:
        InputError: a module that is not there, or modules that contain each other.
    """

    retriever: str
    modules: Mapping[str, Any] = field(hash=False)
    chunks: Mapping[str, Chunking] = field(default_factory=lambda: {"main": Chunking()}, hash=False)
    reranker: Any = None
    rewriter: str = ""
    fetch: int | None = None
    budget: int = 2000
    made_with: MadeWith | None = None

    def __post_init__(self) -> None:
        if self.rewriter:
            one_of(self.rewriter, list(REWRITERS), "rewriter")
        for name in (self.retriever, *(n for names in self._references.values() for n in names)):
            if name not in self.modules:
                raise InputError(f"no module {name!r}{_nearest(name, self.modules)}")
        for name, module in self.modules.items():
            if (chunks := getattr(module, "chunks", "main")) not in self.chunks:
                raise InputError(f"module {name!r}: no chunks {chunks!r}{_nearest(chunks, self.chunks)}")
        try:
            TopologicalSorter(self._references).prepare()
        except CycleError as error:
            raise InputError(f"modules contain each other: {' -> '.join(reversed(error.args[1]))}") from None

    @cached_property
    def _references(self) -> dict[str, list[str]]:
        """The modules that each module contains."""
        return {
            name: [n for key in _REFERENCES for n in getattr(module, key, ())] for name, module in self.modules.items()
        }

    @property
    def fingerprint(self) -> str:
        """sha256 of every setting: equal fingerprints rank alike on the same corpus and store."""
        return hashlib.sha256(json.dumps(_table(self, made_with=False), sort_keys=True).encode()).hexdigest()

    def key(self, name: str) -> str:
        """What module ``name`` is made of, whatever it and its parts are called: equal keys rank alike."""
        module = self.modules[name]
        said: dict[str, Any] = asdict(module)
        for reference in _REFERENCES:
            if reference in said:
                said[reference] = [self.key(part) for part in said[reference]]
        said["chunks"] = asdict(self.chunks[said.get("chunks", "main")])  # a router counts the words of "main"
        return json.dumps([type(module).__name__, said], sort_keys=True)

    # ---- as text

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The configuration that ``text`` holds.

        Raises:
            InputError: not TOML, an unknown key (the nearest one is named), a value of another type, a module that is
                not there, modules that contain each other.
        """
        try:
            said = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"not TOML: {error}") from None
        _known(said, ("pipeline", "chunks", "modules", "reranker", "made_with"), "the file")
        modules = {name: _kind(MODULES, table, f"modules.{name}") for name, table in said.get("modules", {}).items()}
        chunks = {
            name: read_record(Chunking, table, f"chunks.{name}") for name, table in said.get("chunks", {}).items()
        }
        reranker = _kind(RERANKERS, said["reranker"], "reranker") if "reranker" in said else None
        made_with = read_record(MadeWith, said["made_with"], "made_with") if "made_with" in said else None
        top = read_record(_Top, said.get("pipeline", {}), "pipeline")
        chunks.setdefault("main", Chunking())
        return cls(top.retriever, modules, chunks, reranker, top.rewriter, top.fetch, top.budget, made_with)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The configuration in a file.

        Raises:
            InputError: as ``from_toml``, or there is no such file.
        """
        try:
            return cls.from_toml(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: {error}") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """This configuration as text; ``from_toml`` gives it back."""
        return str(require("tomlkit", "search").dumps(_table(self)))

    def save(self, path: str | Path) -> None:
        """Write this configuration to a file, in one step."""
        atomic_write(Path(path).expanduser(), self.to_toml().encode())

    # ---- what it was made with

    def made_on(self, corpus: Corpus, store: TokenStore) -> Self:
        """This configuration, with a note of the corpus and the vectors that it was measured on."""
        return replace(self, made_with=MadeWith(corpus.fingerprint, store.identity))

    def check(self, corpus: Corpus, store: TokenStore) -> None:
        """Refuse another corpus or other vectors than those that it was measured on.

        Raises:
            StoreMismatchError: says which of the two is another.
        """
        for what, said, found in (
            ("corpus", self.made_with and self.made_with.corpus, corpus.fingerprint),
            ("store", self.made_with and self.made_with.store, store.identity),
        ):
            if said and said != found:
                raise StoreMismatchError(
                    f"this configuration was made with the {what} {said[:16]}, and here is {found[:16]}: it may rank "
                    f"otherwise. To use it all the same, take [made_with] out and measure it again"
                )


@dataclass(frozen=True)
class _Top:
    """The table [pipeline]."""

    retriever: str
    rewriter: str = ""
    fetch: int | None = None
    budget: int = 2000


def _table(config: PipelineConfig, made_with: bool = True) -> dict[str, Any]:
    """The tables of the file. Settings that stand as they are by default are written too: defaults may change."""
    top = asdict(_Top(config.retriever, config.rewriter, config.fetch, config.budget))
    tables: dict[str, Any] = {
        "pipeline": {key: value for key, value in top.items() if value not in (None, "")},
        "chunks": {name: asdict(chunking) for name, chunking in config.chunks.items()},
        "modules": {name: _of_kind(MODULES, module) for name, module in config.modules.items()},
    }
    if config.reranker is not None:
        tables["reranker"] = _of_kind(RERANKERS, config.reranker)
    if made_with and config.made_with is not None:
        tables["made_with"] = asdict(config.made_with)
    return tables


def _of_kind(kinds: Mapping[str, type[Any]], record: Any) -> dict[str, Any]:
    """The table of a record: its kind, then its fields."""
    kind = next(name for name, each in kinds.items() if type(record) is each)
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(record).items()}
    return {"kind": kind, **values}


def _kind(kinds: Mapping[str, type[Any]], table: Any, where: str) -> Any:
    """The record that a table with a ``kind`` describes."""
    if not isinstance(table, dict) or not isinstance(table.get("kind"), str):
        raise InputError(f"[{where}]: expected a table with a kind: {', '.join(kinds)}")
    _known({table["kind"]: None}, tuple(kinds), f"[{where}], kind")
    return read_record(kinds[table["kind"]], {key: value for key, value in table.items() if key != "kind"}, where)


def read_record(record: type[T], table: Any, where: str) -> T:
    """``record`` from a table, every key and type checked."""
    if not isinstance(table, dict):
        raise InputError(f"[{where}]: found {table!r}, expected a table")
    types = get_type_hints(record)
    _known(table, tuple(types), f"[{where}]")
    missing = [f.name for f in fields(record) if f.name not in table and _required(f)]  # type: ignore[arg-type]
    if missing:
        raise InputError(f"[{where}]: {', '.join(missing)} must be said")
    try:
        return record(**{key: _typed(value, types[key], f"[{where}], {key}") for key, value in table.items()})
    except InputError as error:
        raise error if str(error).startswith("[") else InputError(f"[{where}]: {error}") from None


def _required(f: Any) -> bool:
    from dataclasses import MISSING

    return f.default is MISSING and f.default_factory is MISSING


def _typed(value: Any, kind: Any, where: str) -> Any:
    """``value``, if it is of type ``kind``; a single word stands for a list of it, a whole number for a number."""
    options = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    for option in options:
        origin, inner = get_origin(option), get_args(option)
        if origin is tuple:
            values = value if isinstance(value, list) else [value]
            return tuple(_typed(each, inner[0], where) for each in values)
        if origin is Literal and value in inner:
            return value
        if isinstance(origin, type) and origin is not tuple and isinstance(value, dict):
            return value
        if option is float and type(value) in (int, float):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    raise InputError(f"{where} = {value!r}: expected {_words(options)}")


def _words(options: Sequence[Any]) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    said = [
        ", ".join(map(repr, get_args(o))) if get_origin(o) is Literal else names.get(o, "a table")
        for o in options
        if o is not type(None)
    ]
    return " or ".join(said)


def _known(table: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise InputError(f"{where}: unknown {key!r}{_nearest(key, allowed)}")


def _nearest(word: str, allowed: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else f": expected one of {', '.join(map(repr, allowed))}"
