"""Chunks from disk are the chunks that were cut."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ragkit.base import Chunk, Corpus, Document
from ragkit.chunking import FixedChunker, HeadingChunker, chunk_corpus
from ragkit.chunking import kept as module
from ragkit.chunking.kept import kept_chunks
from ragkit.files import home
from ragkit.testing import FakeTokenizer


@pytest.fixture
def cut(monkeypatch):
    """How often a corpus was really cut."""
    calls: list[object] = []
    monkeypatch.setattr(module, "chunk_corpus", lambda a, b: calls.append(a) or chunk_corpus(a, b))
    return calls


@pytest.mark.parametrize("chunker", [FixedChunker(6, 2, FakeTokenizer()), HeadingChunker(9, 0, FakeTokenizer())])
def test_the_second_time_they_come_from_disk(chunker, small_corpus, ragkit_home, cut):
    expected = chunk_corpus(chunker, small_corpus)
    for _ in range(3):
        found = kept_chunks(chunker, small_corpus)
        assert found == expected
        assert [c.metadata for c in found] == [c.metadata for c in expected]
    assert len(cut) == 1


def test_other_settings_and_other_texts_are_cut_anew(small_corpus, ragkit_home, cut):
    tokenizer = FakeTokenizer()
    first = small_corpus.documents[0]
    changed = Corpus("small", (replace(first, text=first.text + "More."), *small_corpus.documents[1:]))
    kept_chunks(FixedChunker(6, 2, tokenizer), small_corpus)
    kept_chunks(FixedChunker(6, 1, tokenizer), small_corpus)
    kept_chunks(HeadingChunker(6, 2, tokenizer), small_corpus)
    assert (
        kept_chunks(FixedChunker(6, 2, tokenizer), changed)[-1]
        == kept_chunks(FixedChunker(6, 2, tokenizer), small_corpus)[-1]
    )
    assert len(cut) == 4


def test_a_broken_file_is_cut_anew(small_corpus, ragkit_home, cut):
    chunker = FixedChunker(6, 2, FakeTokenizer())
    expected = kept_chunks(chunker, small_corpus)
    (file,) = home().glob("chunks/*/chunks.json")
    file.write_text(file.read_text()[:-9])
    assert kept_chunks(chunker, small_corpus) == expected
    assert kept_chunks(chunker, small_corpus) == expected
    assert len(cut) == 2


def test_a_chunker_without_visible_settings_is_not_remembered(small_corpus, ragkit_home):
    class Whole:
        def chunk(self, document: Document) -> list[Chunk]:
            return [Chunk(document.id, 0, len(document.text), document.text)]

    assert len(kept_chunks(Whole(), small_corpus)) == 3
    assert not (home() / "chunks").exists()
