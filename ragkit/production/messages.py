"""What a service reads and writes: the JSON of requests, answers and errors, its own and OpenAI's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ragkit.base import Answer, Citation, EndpointError, Hit
from ragkit.production.feedback import Thumb

_REPLACED = "\n\nThe answer, in place of the text above:\n\n"

# ---- what comes in


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a question needs a visible character")
    return text


Text = Annotated[str, Field(max_length=4_000), AfterValidator(_not_blank)]
Id = Annotated[str, Field(max_length=200)]


@dataclass(frozen=True)
class Asked:
    """A question to a pipeline; ``earlier`` are the user's own before it, oldest first, where it may be a follow-up."""

    question: str
    earlier: tuple[str, ...] = ()
    k: int = 10
    session: str = ""


class Query(BaseModel):
    """The body of ``POST /query``."""

    model_config = ConfigDict(extra="forbid")

    question: Text
    k: Annotated[int, Field(ge=1, le=50)] = 10
    stream: bool = False
    session: Id = ""

    @property
    def asked(self) -> Asked:
        return Asked(self.question, k=self.k, session=self.session)


class Opinion(BaseModel):
    """The body of ``POST /feedback``: what ``FeedbackStore.add`` takes."""

    model_config = ConfigDict(extra="forbid")

    trace_id: Id
    thumb: Thumb
    reasons: Annotated[list[Id], Field(max_length=10)] = []
    correction: Annotated[str, Field(max_length=20_000)] = ""
    flagged: Annotated[list[str], Field(max_length=50)] = []
    comment: Annotated[str, Field(max_length=20_000)] = ""
    who: Id = ""


class TextPart(BaseModel):
    """A part of a message; pictures and sounds are refused."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        parts = self.content if isinstance(self.content, list) else []
        return self.content if isinstance(self.content, str) else "".join(part.text for part in parts)


class StreamOptions(BaseModel):
    """Whether the last event of a stream has the usage."""

    include_usage: bool = False


class Chat(BaseModel):
    """The body of ``POST /v1/chat/completions``; what else OpenAI's has (temperature, tools, ...) changes nothing."""

    model: Id
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def asked(self) -> Asked:
        """The last of the user's questions with those before it; other roles are not read.

        Raises:
            ServiceError: the last message is not the user's, or no question.
        """
        *earlier, last = ["", *(message.text for message in self.messages if message.role == "user")]
        try:
            TypeAdapter(Text).validate_python(last if self.messages[-1].role == "user" else "")
        except ValidationError:
            message = "the last message has to be the user's, a question of at most 4,000 characters"
            raise ServiceError(422, "invalid_request", message) from None
        return Asked(last, tuple(text[:4_000] for text in earlier if text))


# ---- what goes out


class ServiceError(Exception):
    """An error for the client: a status, a type for programs, a message for people, with nothing of the inside."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"type": self.kind, "message": self.message}}


BUSY = partial(
    ServiceError, 429, "too_many_requests", "too many questions at once: try again in a second", {"Retry-After": "1"}
)
NOT_READY = partial(
    ServiceError, 503, "not_ready", "the index is being built: try again in a few seconds", {"Retry-After": "5"}
)
FOREIGN = partial(ServiceError, 403, "forbidden", "without tokens, only this machine is served")
NO_TOKEN = partial(
    ServiceError,
    401,
    "unauthorized",
    "expected Authorization: Bearer, with a token of this service",
    {"WWW-Authenticate": "Bearer"},
)
NO_TRACE = partial(ServiceError, 404, "not_found", "no trace with this id: expected the trace_id of an answer")


def failure_of(error: BaseException) -> ServiceError:
    """What the client is told of ``error``; the log has the rest."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, EndpointError):
        return ServiceError(502, "model_failed", "the language model failed, or did not answer in time")
    return ServiceError(500, "internal", "the service failed to answer; its log says why")


def answer_fields(answer: Answer) -> dict[str, Any]:
    """An answer as the service sends it: offsets are characters of the document, timings milliseconds."""
    reason = "the language model failed, so a fallback answered" if answer.fallback else answer.reason
    return {
        "question": answer.question,
        "text": answer.text,
        "abstained": answer.abstained,
        "reason": reason,
        "writer": answer.writer,
        "citations": [_citation(citation) for citation in answer.citations],
        "passages": [_passage(hit) for hit in answer.hits],
        "timings": {stage: round(ms, 3) for stage, ms in answer.timings.items()},
        "usage": {"input_tokens": answer.usage.input_tokens, "output_tokens": answer.usage.output_tokens},
        "trace_id": answer.trace_id,
    }


def _citation(citation: Citation) -> dict[str, Any]:
    span, chunk = citation.span, citation.chunk
    place = {"document": chunk.doc_id, "section": citation.section, "page": citation.page}
    place |= {"start": span.start, "end": span.end}
    return {"number": citation.number, **place, "quote": citation.quote, "chunk": chunk.id, "text": chunk.text}


def _passage(hit: Hit) -> dict[str, Any]:
    chunk = hit.chunk
    place = {"chunk": chunk.id, "document": chunk.doc_id, "title": str(chunk.metadata.get("title", ""))}
    return {**place, "section": chunk.section, "text": chunk.text, "score": float(hit.score)}


def to_json(content: object) -> str:
    """ASCII, so that half of a surrogate pair in a document does no harm."""
    return json.dumps(content, separators=(",", ":"))


def event(content: object, name: str = "") -> str:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {content if isinstance(content, str) else to_json(content)}\n\n"


class Completion:
    """An answer in the form of OpenAI's chat completions, whole or in pieces."""

    def __init__(self, chat: Chat) -> None:
        self.model, self.written, self.created = chat.model, "", int(time.time())
        self.usage = chat.stream_options is not None and chat.stream_options.include_usage

    def _body(self, kind: str, choices: list[dict[str, Any]], trace_id: str = "") -> dict[str, Any]:
        head = {"id": f"chatcmpl-{trace_id or 'under-way'}", "object": kind, "created": self.created}
        return {**head, "model": self.model, "choices": choices}

    def _chunk(self, delta: dict[str, str], finish: str | None = None, trace_id: str = "") -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return self._body("chat.completion.chunk", [choice], trace_id)

    def whole(self, answer: Answer) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = self._body("chat.completion", [choice], answer.trace_id)
        return body | {"usage": _usage(answer)} | _extras(answer)

    def events(self, piece: str | Answer) -> Iterator[str]:
        if isinstance(piece, str):
            role = {} if self.written else {"role": "assistant"}
            self.written += piece
            yield event(self._chunk({**role, "content": piece}))
            return
        if self.written.strip() != piece.text.strip():  # this protocol can't take back what it has sent
            yield event(self._chunk({"content": f"{_REPLACED}{piece.text}"}))
        yield event(self._chunk({}, "stop", piece.trace_id) | _extras(piece))
        if self.usage:
            yield event(self._body("chat.completion.chunk", [], piece.trace_id) | {"usage": _usage(piece)})
        yield event("[DONE]")


def _usage(answer: Answer) -> dict[str, int]:
    read, written = answer.usage.input_tokens, answer.usage.output_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _extras(answer: Answer) -> dict[str, Any]:
    """What OpenAI's completions do not have: clients pass it on or ignore it."""
    fields = answer_fields(answer)
    return {name: fields[name] for name in ("question", "citations", "passages", "abstained", "reason", "trace_id")}


def query_events(piece: str | Answer) -> Iterator[str]:
    if isinstance(piece, str):
        yield event({"text": piece}, "piece")
    else:
        yield event(answer_fields(piece), "answer")
