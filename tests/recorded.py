"""A language model whose answers are appended to rows, so that a bench is resumed, and computed again without it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from sample import Rows

from ragkit.base import EndpointError, Generation, Question, Usage
from ragkit.generation import OpenAIChat
from ragkit.llm.chat import Messages
from ragkit.llm.local import packaged_weights

_END = time.monotonic() + float(os.environ.get("RAGKIT_BENCH_SECONDS", "inf"))


class NotRecordedError(LookupError):
    """There is no row for these messages, and the model is not to be asked (or not here)."""


def may_ask() -> bool:
    """Whether what is not in the rows is asked: the model is here, and ``$RAGKIT_BENCH_SECONDS`` are not over."""
    return packaged_weights().path.is_file() and time.monotonic() < _END


@dataclass(eq=False, repr=False)
class Recorded(OpenAIChat):
    """A chat model that answers from ``rows`` what it was asked before, and appends what it was not.

    A row has the ``label``, the sha256 of the messages, the id of the question among ``questions`` that they hold, the
    text, its tokens (read, written) and the milliseconds. An empty answer is an ``EndpointError``, as it was.

    ``keep`` is what a row keeps of the text: all, or less where a model copies what it reads and only a part is used.
    """

    rows: Rows = field(kw_only=True)
    label: str = field(kw_only=True, default="")
    questions: Sequence[Question] = field(kw_only=True, default=())
    keep: Callable[[str], str] = field(kw_only=True, default=str)

    def labelled(self, label: str, keep: Callable[[str], str] = str) -> Recorded:
        """The same model and rows under another label."""
        return replace(self, label=label, keep=keep)

    def key(self, messages: Messages, extra: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        options = {**self.extra, **(extra or {})}
        request = [list(messages), self.max_tokens, self.temperature, *([options] if options else [])]
        sent = json.dumps(request, ensure_ascii=False)
        return self.label or self.prompt.name, hashlib.sha256(sent.encode()).hexdigest()[:16]

    def has(self, messages: Messages) -> bool:
        """Whether these messages were answered before."""
        return self.key(messages) in self.rows.rows

    async def pieces(
        self, messages: Messages, stream: bool = True, extra: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[str | Generation, None]:
        """As ``ChatModel.pieces``, in one piece.

        Raises:
            NotRecordedError: there is no row, and the model may not be asked.
            EndpointError: the model failed, or its recorded answer is empty.
        """
        key = self.key(messages, extra)
        if key not in self.rows.rows:
            if not may_ask():
                raise NotRecordedError(f"{key}: not in {self.rows.path}")
            text, tokens, began = "", (0, 0), time.perf_counter()
            try:
                async with aclosing(super().pieces(messages, stream=False, extra=extra)) as pieces:
                    [done] = [piece async for piece in pieces if isinstance(piece, Generation)]
                text, tokens = done.text, (done.usage.input_tokens, done.usage.output_tokens)
            except EndpointError as error:
                if "sent an empty answer" not in str(error):
                    raise
            asked = next((q.id for q in self.questions if q.text in messages[-1]["content"]), "")
            ms = round((time.perf_counter() - began) * 1000)
            self.rows.add(key, question=asked, text=self.keep(text), tokens=list(tokens), ms=ms)
        row = self.rows.rows[key]
        if not row["text"]:
            raise self._error("sent an empty answer (recorded)", "ask in another way, or another model")
        yield row["text"]
        yield Generation(row["text"], usage=Usage(self.model, *row["tokens"]))
