"""What a service reads and writes: the JSON of requests, answers and errors, its own and OpenAI's."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ragkit.base import Answer, Citation, EndpointError, Hit
from ragkit.production.feedback import Thumb

LONGEST = 4_000  # characters of a question
DONE = "[DONE]"  # the last event of OpenAI's
_REPLACED = "\n\nThe answer, in place of the text above:\n\n"


KINDS = {
    400: "invalid_request",
    413: "too_large",
    422: "invalid_request",
    500: "internal",
    502: "model_failed",
    503: "unavailable",
    504: "time_limit",
}
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}


class ServiceError(Exception):
    """An error for the client: a status, which has a type for programs, and a message with nothing of the inside."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, HEADERS.get(status, {})
        kind = KINDS.get(status) or HTTPStatus(status).name.lower()
        self.body = {"error": {"type": kind, "message": message}}


def failure_of(error: BaseException) -> ServiceError:
    """What the client is told of ``error``; the log has the rest."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, EndpointError):
        return ServiceError(502, "the language model failed, or did not answer in time")
    return ServiceError(500, "the service failed to answer; its log says why")


# ---- what comes in


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a question needs a visible character")
    return text


Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_not_blank)]
Id = Annotated[str, Field(max_length=200)]


class Query(BaseModel):
    """The body of ``POST /query``; ``earlier`` are questions before it, oldest first, where it may be a follow-up."""

    model_config = ConfigDict(extra="forbid")

    question: Text
    earlier: Annotated[list[Text], Field(max_length=200)] = []
    k: Annotated[int, Field(ge=1, le=50)] = 10
    stream: bool = False
    session: Id = ""


class FeedbackRequest(BaseModel):
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
    """A part of a question; pictures and sounds are refused."""

    type: Literal["text"]
    text: str


class UserMessage(BaseModel):
    """A question within a conversation."""

    role: Literal["user"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class OtherMessage(BaseModel):
    """A turn of a conversation that is not read."""

    role: str


class Chat(BaseModel):
    """The body of ``POST /v1/chat/completions``; what else OpenAI's has (temperature, tools, ...) changes nothing."""

    model: Id
    messages: Annotated[list[UserMessage | OtherMessage], Field(min_length=1, max_length=200)]
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None

    @property
    def query(self) -> Query:
        """The last of the user's questions with those before it.

        Raises:
            ServiceError: the last message is not the user's, or no question.
        """
        *earlier, last = self.messages
        before = [message.text[:LONGEST] for message in earlier if isinstance(message, UserMessage)]
        try:
            question = last.text if isinstance(last, UserMessage) else ""
            return Query(question=question, earlier=list(filter(str.strip, before)), stream=bool(self.stream))
        except ValidationError:
            message = f"the last message has to be the user's, a question of at most {LONGEST:,} characters"
            raise ServiceError(422, message) from None


# ---- what goes out


def to_json(content: object) -> str:
    """ASCII, so that half of a surrogate pair in a document does no harm."""
    return json.dumps(content, separators=(",", ":"))


def event(content: object, name: str = "") -> str:
    """A server-sent event."""
    return (f"event: {name}\n" if name else "") + f"data: {content if content == DONE else to_json(content)}\n\n"


class QueryFormat:
    """An answer as ``POST /query`` sends it: offsets are characters of the document, timings milliseconds."""

    def whole(self, answer: Answer) -> dict[str, Any]:
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

    def events(self, piece: str | Answer) -> Iterator[str]:
        if isinstance(piece, str):
            yield event({"text": piece}, "piece")
        else:
            yield event(self.whole(piece), "answer")


def _citation(citation: Citation) -> dict[str, Any]:
    span, chunk = citation.span, citation.chunk
    place = {"document": chunk.doc_id, "section": citation.section, "page": citation.page}
    place |= {"start": span.start, "end": span.end}
    return {"number": citation.number, **place, "quote": citation.quote, "chunk": chunk.id, "text": chunk.text}


def _passage(hit: Hit) -> dict[str, Any]:
    chunk = hit.chunk
    place = {"chunk": chunk.id, "document": chunk.doc_id, "title": str(chunk.metadata.get("title", ""))}
    return {**place, "section": chunk.section, "text": chunk.text, "score": float(hit.score)}


class CompletionFormat:
    """An answer as OpenAI's chat completion, with the citations and passages beside it; one for each request."""

    def __init__(self, chat: Chat) -> None:
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": chat.model}
        self.usage, self.written = bool((chat.stream_options or {}).get("include_usage")), ""

    def whole(self, answer: Answer) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {**self.head, "object": "chat.completion", "choices": [choice], "usage": _usage(answer)}
        return body | _extras(answer)

    def events(self, piece: str | Answer) -> Iterator[str]:
        if isinstance(piece, str):
            role = {} if self.written else {"role": "assistant"}
            self.written += piece
            yield self._chunk({**role, "content": piece})
            return
        if self.written.strip() != piece.text.strip():  # this protocol can't take back what it has sent
            yield self._chunk({"content": f"{_REPLACED}{piece.text}"})
        yield self._chunk({}, "stop", _extras(piece))
        if self.usage:
            yield event({**self.head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(piece)})
        yield event(DONE)

    def _chunk(self, delta: dict[str, str], finish: str | None = None, extras: Mapping[str, Any] = {}) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event({**self.head, "object": "chat.completion.chunk", "choices": [choice], **extras})


def _usage(answer: Answer) -> dict[str, int]:
    read, written = answer.usage.input_tokens, answer.usage.output_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _extras(answer: Answer) -> dict[str, Any]:
    """What OpenAI's completions do not have: clients pass it on or ignore it."""
    fields = QueryFormat().whole(answer)
    return {name: fields[name] for name in ("question", "citations", "passages", "abstained", "reason", "trace_id")}
