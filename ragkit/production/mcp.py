"""A pipeline and its corpus as tools of the Model Context Protocol (https://modelcontextprotocol.io), for an agent.

``ragkit mcp --corpus FOLDER`` serves four tools over stdin and stdout: ``search``, ``ask``, ``read`` and ``evaluate``.
The client is answered at once; documents are read and indexed meanwhile, and a tool that is called before that waits.
So does the first one after a file has changed: what it answers from is the folder as it is (``LiveIndex``).
While the server runs, whatever else this process writes to stdout goes to stderr (``mcp.server.stdio`` sees to it).

The docstrings of the tools and the ``Field`` of a parameter are what the agent's model reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from functools import partial
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from ragkit.base import Chunk, Corpus, InputError, Question, RagkitError, require
from ragkit.evaluation.compare import compare, difference_text
from ragkit.pipeline.rag import RAGPipeline
from ragkit.production.live import Collection, LiveIndex

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.types import CallToolResult, InputRequiredResult

WINDOW, LARGEST_WINDOW = 4_000, 12_000
"""Characters that ``read`` returns unless told otherwise, and at most."""

PASSAGE = 4_000
"""The most characters of a passage's text."""

Text = Annotated[str, Field(min_length=1, max_length=2_000)]
Pipeline = Literal["served", "naive", "advanced", "modular"]


class Passage(BaseModel, frozen=True):
    """A piece of a document: its characters ``[start, end)``. ``page`` is null where the file has no pages."""

    id: str
    document: str
    start: int
    end: int
    section: str
    page: int | None
    score: float
    text: str


class SearchResult(BaseModel, frozen=True):
    """Passages, the best first. A score compares the passages of one search and nothing else."""

    passages: list[Passage]


class CitedQuote(BaseModel, frozen=True):
    """What ``[number]`` of an answer stands for; ``quote`` are the characters ``[start, end)`` of the document."""

    number: int
    document: str
    start: int
    end: int
    section: str
    page: int | None
    quote: str


class AskResult(BaseModel, frozen=True):
    """``silent``: the documents do not answer the question, and ``reason`` says how that was seen."""

    text: str
    citations: list[CitedQuote]
    silent: bool
    reason: str
    writer: str


class ReadResult(BaseModel, frozen=True):
    """The characters ``[start, end)`` of a document of ``length`` characters, with the sections and pages in it."""

    document: str
    title: str
    start: int
    end: int
    length: int
    sections: list[str]
    pages: list[int]
    text: str


class Row(BaseModel, frozen=True):
    """One pipeline: means over the questions, the paired difference of MRR to the baseline, and the verdict on it."""

    pipeline: str
    mrr_at_10: float
    hit_at_10: float
    milliseconds: float
    difference: str
    verdict: str


class EvaluationResult(BaseModel, frozen=True):
    """The table, and what one must know to read it."""

    rows: list[Row]
    notes: list[str]


class Tools:
    """The four tools over ``index``, which is refreshed from ``begin`` on and at each call."""

    def __init__(self, index: LiveIndex, questions: Callable[[Corpus], Sequence[Question]]) -> None:
        self._index, self._questions = index, questions

    def begin(self) -> None:
        """Start to read and index. A client that leaves early does not wait for it."""
        self._refreshing = asyncio.create_task(self._index.refresh())

    async def _collection(self) -> Collection:
        """The documents as they are now, or, while these can't be indexed, as they last could be.

        Raises:
            Exception: they never could.
        """
        under_way = self._refreshing
        await self._refreshed()
        if self._refreshing is under_way and under_way.done():  # it may have read a file before it changed
            self.begin()
        await self._refreshed()
        if not self._index.ready and self._index.error:
            raise self._index.error
        return self._index.collection({})

    async def _refreshed(self) -> None:
        """Wait for the refresh under way, but not while refreshes fail and an older index can answer."""
        if not (self._index.ready and self._index.error):
            await asyncio.shield(self._refreshing)  # a tool that is cancelled does not cancel it

    async def _pipeline(self, collection: Collection, name: str = "served") -> RAGPipeline:
        return await self._index.pipeline_of(collection, self._index.built if name == "served" else name)

    async def search(
        self,
        query: Annotated[Text, Field(description="A question or key words, in the language of the documents.")],
        k: Annotated[int, Field(ge=1, le=20, description="How many passages to return.")] = 5,
    ) -> SearchResult:
        """Find the passages of the documents that answer a query, the best first, by their words and their meaning.

        Every passage says where it stands: document, characters, section and page. Call `read` with its document and
        characters to see what stands around it. Something is always returned; judge by the text whether it fits.
        """
        rag = await self._pipeline(await self._collection())
        hits = await asyncio.to_thread(rag.retriever.search, query, k)
        return SearchResult(passages=[_passage(hit.chunk, hit.score) for hit in hits])

    async def ask(
        self,
        question: Annotated[Text, Field(description="One question, as a full sentence.")],
        k: Annotated[int, Field(ge=1, le=20, description="How many passages the answer may rest on.")] = 10,
    ) -> AskResult:
        """Answer a question from the documents alone, with citations.

        `[1]` in the text is citation number 1. Where the documents do not hold the answer, `silent` is true and
        `reason` says why: then do not answer from memory, but search with other words or say that it is not there.
        """
        rag = await self._pipeline(await self._collection())
        answer = await rag.query(question, k)
        sources = [
            CitedQuote(
                number=each.number,
                document=each.chunk.doc_id,
                start=each.span.start,
                end=each.span.end,
                section=" > ".join(each.section),
                page=each.page,
                quote=each.quote[:PASSAGE],
            )
            for each in answer.citations
        ]
        return AskResult(
            text=answer.text, citations=sources, silent=answer.abstained, reason=answer.reason, writer=answer.writer
        )

    async def read(
        self,
        document: Annotated[str, Field(description="The document of a passage or a citation.")],
        start: Annotated[int, Field(ge=0, description="The first character, counted from 0.")] = 0,
        end: Annotated[int | None, Field(ge=1, description=f"One past the last; null: {WINDOW:,} characters.")] = None,
    ) -> ReadResult:
        """Read a window of a document: the text around a passage, or a whole short document.

        At most 12,000 characters at a time: `end` of the result is where to read on, `length` where the document ends.
        """
        return _window((await self._collection()).corpus, document, start, start + WINDOW if end is None else end)

    async def evaluate(
        self,
        pipelines: Annotated[
            list[Pipeline],
            Field(min_length=1, max_length=4, description='The first is the baseline; "served" is what `ask` uses.'),
        ] = ["served", "naive"],  # noqa: B006 - the tool's schema shows it
        limit: Annotated[int, Field(ge=2, le=200, description="How many questions to ask, evenly chosen.")] = 50,
    ) -> EvaluationResult:
        """Compare retrieval pipelines on the questions that have labelled answers in these documents.

        One row a pipeline. The verdict says whether its mean reciprocal rank differs from the baseline's by more than
        luck: "better", "worse" or "no detectable difference", which is not "equal". Seconds to a minute.
        """
        collection = await self._collection()
        systems: dict[str, RAGPipeline] = {name: await self._pipeline(collection, name) for name in pipelines}
        return await asyncio.to_thread(_evaluate, systems, partial(self._questions, collection.corpus), limit)


def mcp_server(name: str, index: LiveIndex, questions: Callable[[Corpus], Sequence[Question]]) -> MCPServer[None]:
    """A server with the four tools; ``server.run()`` serves stdin and stdout until the client closes them.

    ``index`` is built after the client is connected; while it can't be, its error is that of every call of a tool.
    ``name`` is what the model is told that the documents are, ``questions`` are the labelled ones of ``evaluate``.

    Raises:
        MissingExtraError: the package ``mcp`` is not installed.
    """
    require("mcp", "serve")
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations

    class Server(MCPServer[None]):
        async def call_tool(
            self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
        ) -> CallToolResult | InputRequiredResult:
            """As the library's, with our errors and those of the arguments in one sentence."""
            try:
                return await super().call_tool(name, arguments, context)
            except ToolError as error:
                if isinstance(error.__cause__, RagkitError | OSError):
                    raise ToolError(f"{name}: {error.__cause__}") from None
                if isinstance(error.__cause__, ValidationError):
                    raise ToolError(f"{name}: {_arguments_text(error.__cause__)}") from None
                raise

    tools = Tools(index, questions)

    @asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
        tools.begin()
        yield

    server = Server(
        "ragkit",
        instructions=f"Questions answered from these documents: {name}. `ask` answers with citations, `search` finds "
        "passages, `read` shows what stands around one. Prefer them to memory for what these documents are about.",
        lifespan=lifespan,
        log_level="WARNING",
    )
    for tool in (tools.search, tools.ask, tools.read, tools.evaluate):
        only_reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
        server.add_tool(tool, description=getdoc(tool), annotations=only_reads)
    return server


def _arguments_text(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def _passage(chunk: Chunk, score: float) -> Passage:
    return Passage(
        id=chunk.id,
        document=chunk.doc_id,
        start=chunk.start,
        end=chunk.end,
        section=" > ".join(chunk.section),
        page=chunk.pages[0].number if chunk.pages else None,
        score=round(score, 4),
        text=chunk.text[:PASSAGE],
    )


def _window(corpus: Corpus, name: str, start: int, end: int) -> ReadResult:
    try:
        document = corpus.document(name)
    except InputError as error:
        near = get_close_matches(name, [each.id for each in corpus.documents])
        raise InputError(f"{error}; expected one that `search` returns{f', such as {near}' * bool(near)}") from None
    length = len(document.text)
    if not start < min(end, length):
        raise InputError(f"characters [{start}, {end}) of {name!r}: expected start < end and start < {length}")
    end = min(end, start + LARGEST_WINDOW, length)
    return ReadResult(
        document=document.id,
        title=document.title,
        start=start,
        end=end,
        length=length,
        sections=[" > ".join(section.path) for section in document.sections_in(start, end)],
        pages=[page.number for page in document.pages_in(start, end)],
        text=document.text[start:end],
    )


def _evaluate(
    systems: Mapping[str, RAGPipeline], labelled: Callable[[], Sequence[Question]], limit: int
) -> EvaluationResult:
    questions = [question for question in labelled() if question.gold]
    every = max(1, -(-len(questions) // limit))
    retrievers = {name: rag.retriever for name, rag in systems.items()}
    result = compare(retrievers, questions[::every], baseline=next(iter(systems)), progress=False)
    rows = []
    for name, line in result.table.iterrows():
        estimate = difference_text(line["diff"], line["diff_low"], line["diff_high"], line["p"])
        row = Row(
            pipeline=str(name),
            mrr_at_10=round(line["mrr@10"], 3),
            hit_at_10=round(line["hit@10"], 3),
            milliseconds=round(line["ms_p50"], 1),
            difference="" if name == result.baseline else estimate,
            verdict=line["verdict"],
        )
        rows.append(row)
    return EvaluationResult(rows=rows, notes=list(result.caption))
