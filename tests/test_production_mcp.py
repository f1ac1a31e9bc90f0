"""``ragkit mcp``: the official client against the real command in a process of its own, on a small folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fpdf import FPDF
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult

from ragkit.base import Corpus, Document, InputError
from ragkit.cli import main
from ragkit.production.live import Collection
from ragkit.production.mcp import Tools

HANDBOOK = """\
# Handbook

## Holidays

Every employee has 28 days of paid holiday a year. Ask your team lead two weeks before.

## Office

The office is open Monday to Friday from 9 to 5. The alarm is armed at 18:30.
"""
LABELS = (
    ("How many days of holiday do I have?", "handbook.md", "28 days of paid holiday"),
    ("When is the alarm armed?", "handbook.md", "armed at 18:30"),
    ("How long is the warranty of the kettle?", "kettle.pdf", "lasts for three years"),
)
COMMAND = [sys.executable, "-m", "ragkit.cli", "mcp"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of Markdown, a PDF of two pages, a long text and three labelled questions."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "handbook.md").write_text(HANDBOOK)
    (folder / "long.txt").write_text("The lamp is dimmed by its wheel.\n\n" * 380)
    pdf = FPDF()
    pdf.set_font("helvetica", size=11)
    pages = "Press the red lever of the kettle to boil the water.", "The warranty of the kettle lasts for three years."
    for text in pages:
        pdf.add_page()
        pdf.multi_cell(0, 6, text)
    pdf.output(str(folder / "kettle.pdf"))
    lines = [json.dumps({"question": q, "document": d, "quote": quote}) for q, d, quote in LABELS]
    (folder / "questions.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def environment(home: Path) -> dict[str, str]:
    unset = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL")
    return {name: value for name, value in os.environ.items() if name not in unset} | {"RAGKIT_HOME": str(home)}


@asynccontextmanager
async def connected(home: Path, *arguments: str) -> AsyncIterator[ClientSession]:
    server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *arguments], env=environment(home))
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield session


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "search": ("search", {"query": "warranty of the kettle", "k": 2}),
    "ask": ("ask", {"question": "How long does the warranty of the kettle last?"}),
    "not in the documents": ("ask", {"question": "Who won the world cup of 1998?"}),
    "read": ("read", {"document": "handbook", "start": 12, "end": 40}),
    "a PDF": ("read", {"document": "kettle"}),
    "too much": ("read", {"document": "long", "start": 5, "end": 10**9}),
    "evaluate": ("evaluate", {"pipelines": ["naive", "served"]}),
    "blank": ("search", {"query": " \n"}),
    "no query": ("search", {}),
    "many": ("search", {"query": "kettle", "k": 1000}),
    "no number": ("ask", {"question": "Why?", "k": "ten"}),
    "long query": ("search", {"query": "kettle " * 1000}),
    "unknown document": ("read", {"document": "handbook.md"}),
    "a path": ("read", {"document": "../../etc/passwd"}),
    "past the end": ("read", {"document": "handbook", "start": 10_000}),
    "backwards": ("read", {"document": "handbook", "start": 20, "end": 10}),
    "unknown pipeline": ("evaluate", {"pipelines": ["best"]}),
    "unknown tool": ("delete", {}),
}


@pytest.fixture(scope="module")
def results(folder: Path, home: Path) -> dict[str, CallToolResult]:
    """The result of every call of ``CALLS``, in one session; the first begins while documents are being read."""

    async def call_all() -> dict[str, CallToolResult]:
        async with connected(home, "--corpus", str(folder)) as session:
            names = [tool.name for tool in (await session.list_tools()).tools]
            assert names == ["search", "ask", "read", "evaluate"]
            return {name: await session.call_tool(tool, arguments) for name, (tool, arguments) in CALLS.items()}

    return asyncio.run(call_all())


def content(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    structured = result.structured_content
    assert json.loads(result.content[0].text) == structured  # type: ignore[union-attr]
    return structured  # type: ignore[return-value]


def test_search_says_where_each_passage_stands(results):
    first, second = content(results["search"])["passages"]
    assert (first["document"], first["page"]) == ("kettle", 1)
    assert first["id"] == f"kettle#{first['start']}-{first['end']}"
    assert "three years" in first["text"]
    assert first["score"] > second["score"]


def test_ask_cites_the_page_on_which_the_quote_stands(results):
    answer = content(results["ask"])
    (cited,) = answer["citations"]
    assert "three years [1]" in answer["text"].replace(".", "")
    assert (cited["number"], cited["document"]) == (1, "kettle")
    assert (answer["silent"], answer["writer"]) == (False, "quotes")
    page = content(results["a PDF"])["text"]
    assert page[cited["start"] : cited["end"]] == cited["quote"]


def test_ask_is_silent_with_a_reason_where_the_documents_are(results):
    answer = content(results["not in the documents"])
    assert answer["silent"] is True
    assert "confidence" in answer["reason"]
    assert answer["citations"] == []


def test_read_returns_a_window_with_its_sections_and_pages(results):
    window = content(results["read"])
    assert window["text"] == HANDBOOK[12:40]
    assert (window["start"], window["end"], window["length"]) == (12, 40, len(HANDBOOK.rstrip()))
    assert window["sections"] == ["Handbook > Holidays"]
    assert content(results["a PDF"])["pages"] == [1, 2]


def test_read_is_limited_and_says_where_to_go_on(results):
    window = content(results["too much"])
    assert (window["start"], window["end"]) == (5, 12_005)
    assert window["length"] > 12_500


def test_evaluate_gives_a_verdict_in_words(results):
    table = content(results["evaluate"])
    assert [(row["pipeline"], row["verdict"]) for row in table["rows"]] == [
        ("naive", "baseline"),
        ("served", "no detectable difference"),
    ]
    assert all(row["hit_at_10"] == 1 for row in table["rows"])
    assert "3 questions in 2 documents" in table["notes"][0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("blank", r"^search: query is ' \\n': expected a question"),
        ("no query", "^search: query: Field required$"),
        ("many", "^search: k: Input should be less than or equal to 20$"),
        ("no number", "^ask: k: Input should be a valid integer"),
        ("long query", "^search: query: String should have at most 2000 characters$"),
        ("unknown document", r"has no document 'handbook.md'; expected .* such as \['handbook'\]$"),
        ("a path", r"has no document '../../etc/passwd'; expected one that `search` returns$"),
        ("past the end", r"characters \[10000, 14000\) of 'handbook': expected start < end and start < \d+$"),
        ("backwards", r"characters \[20, 10\) of 'handbook': expected start < end"),
        ("unknown pipeline", "^evaluate: pipelines.0: Input should be 'served', 'naive'"),
        ("unknown tool", "Unknown tool: delete"),
    ],
)
def test_an_error_is_one_sentence(results, call, words):
    result = results[call]
    assert result.is_error
    (text,) = [part.text for part in result.content]
    assert "\n" not in text
    assert re.search(words, text), text


def test_a_folder_that_is_not_there_is_the_error_of_every_tool(home, tmp_path):
    async def call() -> list[CallToolResult]:
        async with connected(home, "--corpus", str(tmp_path / "nowhere")) as session:
            return [
                await session.call_tool(name, arguments) for name, arguments in (CALLS["search"], CALLS["evaluate"])
            ]

    for result in asyncio.run(call()):
        assert result.is_error
        assert "nowhere: no such folder; expected a folder with" in result.content[0].text


def test_a_file_that_changes_is_in_the_next_answer_and_a_folder_that_vanishes_changes_nothing(home, tmp_path):
    place = tmp_path / "notes"
    place.mkdir()
    (place / "kettle.md").write_text("# Kettle\n\nPress the red lever of the kettle to boil the water.\n")

    async def call() -> list[CallToolResult]:
        async with connected(home, "--corpus", str(place)) as session:
            question, document = {"question": "When is the alarm armed?"}, {"document": "handbook"}
            before = await session.call_tool("ask", question)
            (place / "handbook.md").write_text(HANDBOOK)
            after = [await session.call_tool("read", document), await session.call_tool("ask", question)]
            place.rename(tmp_path / "elsewhere")
            return [before, *after, await session.call_tool("ask", question)]

    before, text, *answers = map(content, asyncio.run(call()))
    assert before["silent"]
    assert text["text"].strip() == HANDBOOK.strip()
    assert all("18:30" in answer["text"] for answer in answers)


class SlowIndex:
    """Reads its folder at once, and builds for a moment; ``reads`` are what it finds, None for a build without end."""

    def __init__(self, *reads: Corpus | Exception | None) -> None:
        self.reads, self.built, self.error, self.ready = list(reads), "naive", None, False

    async def refresh(self) -> None:
        read = self.reads.pop(0)
        await asyncio.sleep(0.01)
        if read is None:
            await asyncio.Event().wait()
        self.error = read if isinstance(read, Exception) else None
        self.corpus = self.corpus if self.error else read
        self.ready = True

    def collection(self, where: object) -> Collection:
        return Collection(self.corpus, None)


def test_a_call_during_a_build_sees_what_changed_meanwhile_and_does_not_wait_while_builds_fail():
    old, new = (Corpus("notes", (Document("a", text),)) for text in ("old", "new"))

    async def read(index: SlowIndex, calls: int) -> list[str]:
        tools = Tools(index, lambda _: [])
        tools.begin()
        await asyncio.sleep(0)  # the folder is read, and changes now
        async with asyncio.timeout(10):
            return [(await tools.read("a")).text for _ in range(calls)]

    assert asyncio.run(read(SlowIndex(old, new), 1)) == ["new"]
    assert asyncio.run(read(SlowIndex(old, InputError("broken"), None), 3)) == ["old"] * 3


# The command in a process that writes to stdout where it may, and reads documents when a file appears.
NOISY = """
import os, sys, time, warnings
from ragkit import cli
from ragkit.production import live

def load_folder(path, read=live.load_folder):
    print("a print")
    os.system("echo a child")
    warnings.warn("a warning")
    while not os.path.exists("go"):
        time.sleep(0.02)
    return read(path)

live.load_folder = load_folder
sys.exit(cli.main(["mcp", "--corpus", sys.argv[1]]))
"""
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class Raw:
    """The command without a client: lines of JSON."""

    def __init__(self, folder: Path, home: Path, place: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NOISY, str(folder)],
            cwd=place,
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(place / "stderr").open("w"),
            text=True,
        )

    def send(self, **message: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert message["jsonrpc"] == "2.0"
        return message

    def greet(self) -> None:
        self.send(id=1, method="initialize", params=HELLO)
        assert self.receive()["result"]["serverInfo"]["name"] == "ragkit"
        self.send(method="notifications/initialized")


@pytest.fixture
def raw(folder: Path, home: Path, tmp_path: Path) -> Iterator[Raw]:
    started = Raw(folder, home, tmp_path)
    yield started
    started.process.kill()
    started.process.communicate()


def test_only_the_protocol_is_on_stdout_and_the_client_need_not_wait_for_the_index(raw, tmp_path):
    raw.greet()
    raw.send(id=2, method="tools/call", params={"name": "search", "arguments": {"query": "kettle"}})
    raw.send(id=3, method="tools/list")
    assert raw.receive()["id"] == 3  # before the documents are read
    (tmp_path / "go").touch()
    assert not raw.receive()["result"].get("isError")
    rest, _ = raw.process.communicate(timeout=20)
    assert (rest, raw.process.returncode) == ("", 0)
    noise = (tmp_path / "stderr").read_text()
    for line in ("a print", "a child", "a warning"):
        assert line in noise


def test_a_client_that_leaves_does_not_wait_for_the_index(raw):
    raw.greet()
    raw.send(id=2, method="tools/call", params={"name": "search", "arguments": {"query": "kettle"}})
    raw.process.communicate(timeout=20)
    assert raw.process.returncode == 0


def test_without_the_package_the_command_says_which_extra_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp"]) == 2
    assert "ragkit-workbench[serve]" in capsys.readouterr().err
