"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from browser import chromium, lab  # noqa: F401 - fixtures

from ragkit.base import Corpus, Document, Embedder, Question, Section, Span

# In CI the same examples every time: a red run there is about the change, not about luck.
hypothesis.settings.register_profile("ragkit", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("ragkit")

# The files that take longest: begun first, so that no worker is at one of them when the others have ended.
LONGEST = (
    *("test_own_documents", "test_llm_local", "test_embedding_servers", "test_cli", "test_chunking", "test_doctests"),
    *("B_fine_tuning", "12_monitoring", "C_many_languages", "05_embeddings", "13_feedback", "10_modular_rag"),
    "15_to_production",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def ragkit_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $RAGKIT_HOME for a test that writes there."""
    home = tmp_path / "home"
    monkeypatch.setenv("RAGKIT_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def small_corpus() -> Corpus:
    """Three short documents with sections and two questions, written by hand: no file, no model."""
    texts = {
        "kettle/guide": (
            "Kettle",
            "Boiling\nPress the red lever to boil the water.\n\nCleaning\nUse vinegar.\n",
        ),
        "lamp/guide": (
            "Lamp",
            "Dimming\nTurn the wheel.\n\nBulbs\nOnly E27 bulbs with at most 40 watts fit.\n",
        ),
        "radio/guide": ("Radio", "Tuning\nPress SEEK until a station is found. — ½ turn sets the volume.\n"),
    }
    documents = []
    for doc_id, (title, text) in texts.items():
        blocks = text.split("\n\n")
        starts = [sum(len(b) + 2 for b in blocks[:i]) for i in range(len(blocks))]
        sections = tuple(
            Section((title, block.split("\n")[0]), start, start + block.index("\n") + 1, end)
            for block, start, end in zip(blocks, starts, [*starts[1:], len(text)], strict=True)
        )
        documents.append(Document(doc_id, text, title, sections, {"project": doc_id.split("/")[0], "title": title}))

    def gold(index: int, words: str) -> tuple[Span, ...]:
        start = documents[index].text.index(words)
        return (Span(documents[index].id, start, start + len(words)),)

    questions = (
        Question("boil", "How do I heat water?", gold(0, "Press the red lever to boil the water.")),
        Question("bulb", "Which bulbs fit?", gold(1, "Only E27 bulbs with at most 40 watts fit.")),
        Question("none", "Who invented the telephone?", tags=("unanswerable",)),
    )
    return Corpus("small", tuple(documents), questions)


@pytest.fixture(scope="session")
def tiny() -> Corpus:
    """The documentation of three projects, as `ragkit fetch tiny` left it."""
    from ragkit.corpus import load_pydocs

    return load_pydocs("tiny")


@pytest.fixture(scope="session")
def core() -> Corpus:
    """The documentation of five projects, as `ragkit fetch core` left it."""
    from ragkit.corpus import load_pydocs

    return load_pydocs("core")


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    """The packaged model, loaded once."""
    from ragkit.embedding import load_embedder

    return load_embedder()
