"""The chunkers keep every promise of the contract, on documents of every kind."""

from __future__ import annotations

import bisect
import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Chunk, ContractError, Corpus, Document, InputError, Section, StoreMismatchError
from ragkit.chunking import (
    Borders,
    FixedChunker,
    HeadingChunker,
    RecursiveChunker,
    SemanticChunker,
    SentenceChunker,
    border_likeness,
    check_chunks,
    chunk_corpus,
    cut,
)
from ragkit.markdown import blocks
from ragkit.tokens import minilm_tokenizer


class PieceTokenizer:
    """Words in pieces of three letters and single symbols; drops control characters and joiners, as WordPiece does."""

    identity = "pieces"
    pieces = re.compile(r"[^\W_]{1,3}|[^\w\s\x00-\x1f\u0300-\u036f\u200b-\u200f\ufe0f]|_")

    def offsets(self, text):
        return np.array([m.span() for m in self.pieces.finditer(text)], dtype=np.int64).reshape(-1, 2)

    def count(self, text):
        return len(self.offsets(text))


class FakeStore:
    """Token vectors that point in a direction chosen by the token's first letter."""

    identity = "fake"

    def __init__(self, documents, tokenizer):
        self.documents = {d.id: d for d in documents}
        self.tokenizer = tokenizer

    def tokens(self, doc_id):
        text = self.documents[doc_id].text
        offsets = self.tokenizer.offsets(text)
        kinds = np.array([ord(text[a]) % 8 for a, _ in offsets], dtype=np.int64)
        return offsets, np.eye(8, dtype=np.float32)[kinds]


PIECES = [
    *("word", "retry", "internationalisation", "CELERY_TASK_ACKS_LATE", "--max-requests", "e.g.", "3.14", "x" * 130),
    *(
        "Ends here. ",
        "Really? ",
        "Yes! ",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\t",
        "  ",
        "\u00a0",
        "\u2028",
        "\n- ",
        "\n1. ",
    ),
    *(
        "👩‍👩‍👧",
        "🤷🏽",
        "🏳️‍🌈",
        "e\u0301",
        "a\u0300\u0301b",
        "안녕하세요",
        "שלום עולם",
        "مرحبا",
        "中文字符。",
        "かな",
        "ﷺ",
        "ﬃ",
    ),
    *("\u200b", "\u200d", "\x00", "\x1c", "\u202e", "\ufffd", "\ud800", "\U0010ffff", "::", "`", "}"),
    *("\n```\n", "\n\n```py\nx = 1. Then\n\n```\n\n", "\n\n| a | b |\n| - | - |\n| 1. One | 2 |\n\n", "\n# "),
]


def random_document(seed: int) -> Document:
    """Empty, blank, one run without a space, or a mixture of everything, with or without headings."""
    rng = random.Random(seed)
    kind = rng.randrange(12)
    if kind == 0:
        text = "".join(rng.choices(" \n\r\t\u00a0\u2003\u200b", k=rng.randrange(4)))
    else:
        pieces = rng.choices(PIECES, k=rng.randrange(1, 25))
        text = ("" if kind == 1 else rng.choice(["", " ", " "])).join(pieces)
        if kind == 1:
            text = re.sub(r"\s", "", text)
    marks = sorted(rng.sample(range(len(text) + 1), min(rng.randrange(4), len(text))))
    ends = [*marks[1:], len(text)]
    sections = tuple(Section((f"H{a}",), a, min(b, a + rng.randrange(4)), b) for a, b in zip(marks, ends, strict=False))
    return Document(f"d{seed}", text, sections=sections)


def chunkers(size, overlap, tokenizer, documents):
    store = FakeStore(documents, tokenizer)
    simple = (FixedChunker, SentenceChunker, RecursiveChunker, HeadingChunker)
    return [c(size, overlap, tokenizer) for c in simple] + [SemanticChunker(store, size, overlap, 4, tokenizer)]


def assert_contract(document, chunks, size, starts):
    """The rules once more, independent of ``check_chunks``; ``starts``: where the tokens begin."""
    text, end, previous = document.text, 0, -1
    for c in chunks:
        assert text[c.start : c.end] == c.text
        assert previous < c.start
        assert max(c.start, end) < c.end
        assert text[end : c.start].strip() == ""
        inside = starts[bisect.bisect_left(starts, c.start) : bisect.bisect_left(starts, c.end)]
        assert len(inside) <= size or len(set(inside)) == 1
        end, previous = max(end, c.end), c.start
    assert text[end:].strip() == ""


@pytest.mark.parametrize(("real", "seeds"), [(False, range(4_000)), (True, range(4_000, 5_000))], ids=["cheap", "real"])
def test_five_thousand_documents_keep_every_promise(real, seeds):
    tokenizer = minilm_tokenizer() if real else PieceTokenizer()
    pieces = 0
    for seed in seeds:
        document = random_document(seed)
        size = random.Random(seed).choice([1, 2, 3, 5, 8, 16, 50])
        overlap = random.Random(seed + 1).randrange(size)
        starts = tokenizer.offsets(document.text)[:, 0].tolist()
        for chunker in chunkers(size, overlap, tokenizer, [document]):
            chunks = chunker.chunk(document)
            assert_contract(document, chunks, size, starts)
            check_chunks(document, chunks, size, tokenizer)
            assert chunks == chunker.chunk(document)
            pieces += len(chunks)
    assert pieces > 10 * len(seeds)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.integers(1, 12), st.data())
def test_any_text_keeps_every_promise(text, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    document, tokenizer = Document("d", text), minilm_tokenizer()
    starts = tokenizer.offsets(text)[:, 0].tolist()
    for chunker in chunkers(size, overlap, tokenizer, [document]):
        chunks = chunker.chunk(document)
        assert_contract(document, chunks, size, starts)
        assert chunks == chunker.chunk(Document("d", text))


@pytest.mark.parametrize(
    "unit", ["x", "ab ", "Wort. ", "中", "👩‍👩‍👧 "], ids=["no-space", "words", "sentences", "cjk", "emoji"]
)
def test_one_line_of_a_megabyte(unit):
    document = Document("d", (unit * 1_000_000)[:1_000_000])
    tokenizer = PieceTokenizer()
    for chunker in chunkers(512, 64, tokenizer, [document]):
        chunks = chunker.chunk(document)
        check_chunks(document, chunks, 512, tokenizer)
        assert len(chunks) > 300 or unit == "👩‍👩‍👧 "


def test_a_megabyte_without_a_space_through_the_real_tokenizer():
    document = Document("d", "x" * 1_000_000)
    assert [c.span.end for c in FixedChunker().chunk(document)] == [1_000_000]  # WordPiece reads it as one [UNK]


WORDS = st.lists(
    st.sampled_from(["task", "retried", "_", ".", "--max", "café", "中文", "x1y2", "(", "`", "🤷"]), max_size=60
)


@given(WORDS, st.sampled_from(["", " "]), st.integers(8, 30))
def test_a_chunk_counts_the_same_on_its_own(words, space, size):
    document, tokenizer = Document("d", space.join(words)), minilm_tokenizer()
    longest = max((len(w) for w in re.findall(r"\w+", document.text)), default=0)
    for chunk in FixedChunker(size, 0).chunk(document):
        assert tokenizer.count(chunk.text) <= max(size, longest)
        if longest <= size:
            inside = [a for a, _ in tokenizer.offsets(document.text) if chunk.start <= a < chunk.end]
            assert tokenizer.count(chunk.text) == len(inside)


def test_the_overlap_is_what_was_asked():
    document = Document("d", " ".join(f"w{i % 10}" for i in range(2000)))
    tokenizer = PieceTokenizer()
    chunks = FixedChunker(100, 25, tokenizer).chunk(document)
    for a, b in itertools.pairwise(chunks):
        assert tokenizer.count(document.text[b.start : a.end]) == 25
    assert {tokenizer.count(c.text) for c in chunks[:-1]} == {100}


def test_sentences_stay_whole_where_they_fit():
    text = "Tasks run once. Are they retried? Only if you ask! See e.g. the guide.\n\n- one item\n- another item\n"
    chunks = SentenceChunker(10, 0).chunk(Document("d", text))
    assert [c.text for c in chunks] == [
        "Tasks run once. Are they retried?",
        "Only if you ask!",
        "See e.g. the guide.",
        "- one item\n- another item",
    ]
    repeated = SentenceChunker(11, 6).chunk(Document("d", text))
    assert repeated[1].text == "Are they retried? Only if you ask!"


def test_no_chunk_lies_within_the_one_before():
    text = "Tasks run once. Are they retried? Only if you ask!"
    chunks = SentenceChunker(10, 6).chunk(Document("d", text))  # the second and third do not fit together
    assert [c.text for c in chunks] == ["Tasks run once. Are they retried?", "Only if you ask!"]


def test_recursive_prefers_the_coarsest_border():
    text = "One two three.\nFour five six.\n\nSeven eight nine.\nTen eleven twelve thirteen."
    assert [c.text for c in RecursiveChunker(10, 0).chunk(Document("d", text))] == text.split("\n\n")
    assert [c.text for c in RecursiveChunker(6, 0).chunk(Document("d", text))] == re.split(r"\n+", text)


def test_headings_are_never_mixed_and_name_their_chunks():
    text = "Guide\n\nTasks\n\nTasks are run.\n\nWorkers\n\n" + "Workers run tasks. " * 20
    tasks, workers = text.index("Tasks"), text.index("Workers")
    sections = (
        Section(("Guide",), 0, 6, tasks),
        Section(("Guide", "Tasks"), tasks, tasks + 6, workers),
        Section(("Guide", "Workers"), workers, workers + 8, len(text)),
    )
    document = Document("d", text, "Guide", sections, {"project": "celery"})
    chunks = HeadingChunker(30, 0).chunk(document)
    assert chunks[0].text == "Guide\n\nTasks\n\nTasks are run."
    assert [c.section for c in chunks] == [("Guide", "Tasks")] + [("Guide", "Workers")] * (len(chunks) - 1)
    assert len(chunks) > 3
    assert chunks[1].start == workers
    assert all(c.metadata == {"project": "celery"} for c in chunks)
    first, second, *_ = FixedChunker(30, 0).chunk(document)
    assert (first.section, first.sections, second.sections) == (("Guide",), sections, sections[2:])
    assert [first.section_at(offset) for offset in (0, tasks, workers)] == [section.path for section in sections]


def test_a_heading_that_was_taken_out_is_no_border():
    """The answers of an FAQ are its labels: a chunker that saw where they begin would read them from the key."""
    text = "# FAQ\n\nYes.\n\nNo.\n\n# Help\n\nAsk us."
    no, end = text.index("No."), text.index("# Help")
    title, *answers = Section(("FAQ",), 0, 7, 7), Section(("FAQ",), 7, 7, no), Section(("FAQ",), no, no, end)
    last = Section(("Help",), end, end + 8, len(text))
    chunks = HeadingChunker(30, 0).chunk(Document("d", text, sections=(title, *answers, last)))
    assert [c.text for c in chunks] == ["# FAQ\n\nYes.\n\nNo.", "# Help\n\nAsk us."]
    pages = Section(("Page 1",), 0, 0, no), Section(("Page 2",), no, no, len(text))
    assert len(HeadingChunker(30, 0).chunk(Document("d", text, sections=pages))) == 2


def test_semantic_cuts_where_the_subject_changes():
    text = "Aa aa aa aa. " * 10 + "Bb bb bb bb. " * 10
    document = Document("d", text.lower().replace(". b", ". B").replace(". a", ". A"))
    tokenizer = PieceTokenizer()

    class ByLetter(FakeStore):
        def tokens(self, doc_id):
            offsets = self.tokenizer.offsets(self.documents[doc_id].text)
            kinds = [self.documents[doc_id].text[a] in "Aa" for a, _ in offsets]
            return offsets, np.eye(2, dtype=np.float32)[np.array(kinds, dtype=int)]

    chunks = SemanticChunker(ByLetter([document], tokenizer), 100, 0, 8, tokenizer).chunk(document)
    assert [c.start for c in chunks] == [0, document.text.index("Bb")]


def test_semantic_refuses_a_store_of_another_text():
    longer = Document("d", "One. Two. Three. Four. Five.")
    chunker = SemanticChunker(FakeStore([longer], PieceTokenizer()), 3, 0, 2, PieceTokenizer())
    with pytest.raises(StoreMismatchError, match="28 characters, the document 4"):
        chunker.chunk(Document("d", "One."))


def test_border_likeness_is_the_cosine_of_the_two_means():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 6)).astype(np.float32)
    a, b = vectors[4:9].mean(0), vectors[9:14].mean(0)
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert border_likeness(vectors, np.array([9]), 5) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (0, 0, "1 or more"),
        (-5, 0, "1 or more"),
        (2.5, 0, "1 or more"),
        (True, 0, "1 or more"),
        (8, False, "0 to 7"),
        (8, 8, "0 to 7"),
        (8, 9, "0 to 7"),
        (8, -1, "0 to 7"),
        (1, 1, "0 to 0"),
    ],
)
@pytest.mark.parametrize("chunker", [FixedChunker, SentenceChunker, RecursiveChunker, HeadingChunker])
def test_sizes_outside_their_range_are_refused(chunker, size, overlap, message):
    with pytest.raises(InputError, match=message):
        chunker(size, overlap)


def test_semantic_refuses_the_same_sizes():
    with pytest.raises(InputError, match="0 to 7"):
        SemanticChunker(FakeStore([], PieceTokenizer()), 8, 8)
    with pytest.raises(InputError, match="window is 0"):
        SemanticChunker(FakeStore([], PieceTokenizer()), 8, 0, window=0)


TEXT = "alpha beta gamma delta"
DOCUMENT = Document("d", TEXT)


def piece(start, end, text=None, doc_id="d"):
    return Chunk(doc_id, start, end, TEXT[start:end] if text is None else text)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([piece(0, 10), piece(17, 22)], "'gamma' at position 11 is in no chunk"),
        ([piece(0, 10)], "'gamma delta' at position 11"),
        ([], "position 0"),
        ([piece(0, 22), piece(0, 10)], "does not start after the chunk before it, which starts at 0"),
        ([piece(0, 22, "alpha beta Gamma delta")], "d#0-22: its text is not the document's"),
        ([piece(0, 22, "alpha")], "its text is not"),
        ([piece(0, 22), piece(16, 17)], "d#16-17: it is blank"),
        ([piece(0, 22), piece(20, 30)], "its text is not"),
        ([piece(0, 22), piece(9, 9)], "is blank"),
        ([piece(0, 22, doc_id="other")], "other#0-22: its text is not"),
    ],
)
def test_a_broken_contract_is_found_where_it_breaks(chunks, message):
    class Broken:
        def chunk(self, document):
            return chunks

    with pytest.raises(ContractError, match=re.escape(message)):
        chunk_corpus(Broken(), Corpus("c", (DOCUMENT,)))


def test_a_chunk_above_its_size_is_found():
    class Long:
        size, tokenizer = 2, minilm_tokenizer()

        def chunk(self, document):
            return [piece(0, 5), piece(3, 22)]

    with pytest.raises(ContractError, match="d#3-22: it has 3 tokens: expected at most 2"):
        chunk_corpus(Long(), Corpus("c", (Document("d", TEXT),)))


def test_chunk_corpus_keeps_the_order_of_the_documents():
    corpus = Corpus("c", (Document("b", "one two"), Document("a", ""), Document("c", "three")))
    assert [c.id for c in chunk_corpus(FixedChunker(1, 0), corpus)] == ["b#0-3", "b#4-7", "c#0-5"]


def test_a_new_size_does_not_tokenize_again():
    class Counting(PieceTokenizer):
        calls = 0

        def offsets(self, text):
            self.calls += 1
            return super().offsets(text)

    document, tokenizer = Document("d", "word " * 100), Counting()
    for size in (5, 10, 20):
        FixedChunker(size, 1, tokenizer).chunk(document)
        RecursiveChunker(size, 1, tokenizer).chunk(Document("other name", document.text))
    assert tokenizer.calls == 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 12), st.data())
def test_every_token_is_cut_into_a_run(lengths, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    words = Borders(np.arange(len(lengths)), len(lengths))
    runs = cut([words, words], size, overlap, 0, len(lengths))
    assert {t for i, j in runs for t in range(i, j)} == set(range(len(lengths)))
    assert all(j - i == size for i, j in runs[:-1])
    assert all(a[1] - b[0] == overlap for a, b in itertools.pairwise(runs))


# Code and tables

CODE = "```python\nfirst = 1\n\n# Two. Three.\nsecond = 2\n```"
TABLE = "| Name | Use |\n| --- | --- |\n| a | It is one. It is it. |\n| b | Two. |"
WORDS = "Some words are here. More words follow. Then there are others.\n\n"


@pytest.mark.parametrize("whole", [CODE, TABLE], ids=["code", "table"])
@pytest.mark.parametrize("kind", [1, 2, 3, 4], ids=["sentence", "recursive", "heading", "semantic"])
def test_code_and_tables_that_fit_are_never_cut(whole, kind):
    tokenizer = minilm_tokenizer()
    size = tokenizer.count(whole)
    for lead in range(12):
        document = Document(
            "d", "word " * lead + WORDS + whole + "\n\n" + WORDS + "- item\n\n  " + whole.replace("\n", "\n  ")
        )
        for overlap in (0, size // 2):
            chunks = chunkers(size, overlap, tokenizer, [document])[kind].chunk(document)
            check_chunks(document, chunks, size, tokenizer)
            for block in (b for b in blocks(document.text) if b.kind in ("code", "table")):
                visible = block.end - len(document.text[block.start : block.end].lstrip())
                assert any(c.start <= visible and block.end <= c.end for c in chunks)
                assert not any(visible < border < block.end for c in chunks for border in (c.start, c.end))


@pytest.mark.parametrize("kind", [1, 2, 3, 4], ids=["sentence", "recursive", "heading", "semantic"])
def test_code_that_does_not_fit_is_cut_at_line_ends(kind):
    tokenizer = minilm_tokenizer()
    code = "\n".join(f"call_{i}(a, b)  # Does it. And more. Yes." for i in range(30))
    document = Document("d", f"{WORDS}```python\n{code}\n```\n\n{WORDS}")
    chunks = chunkers(60, 20, tokenizer, [document])[kind].chunk(document)
    start, end = document.text.index("```python"), document.text.rindex("```")
    borders = [b for c in chunks for b in (c.start, c.end) if start < b < end]
    assert len(borders) > 10
    assert all(document.text[b - 1] == "\n" or document.text[b] == "\n" for b in borders)


def test_the_plain_baseline_cuts_anywhere():
    document = Document("d", WORDS + CODE)
    assert FixedChunker(8, 0).chunk(document)[-1].text == "1\n\n# Two. Three.\nsecond = 2\n```"


def test_numpy_integers_are_sizes():
    document = Document("d", "one two three four five six")
    assert FixedChunker(np.int64(4), np.int32(1)).chunk(document) == FixedChunker(4, 1).chunk(document)


def test_an_edited_chunker_gives_its_new_chunks(small_corpus):
    """Nothing is remembered but where a text may be cut: neither chunks of an older class nor another's sections."""

    def chunker(parts):
        class Mine:
            def chunk(self, document):
                step = -(-len(document.text) // parts)
                places = [(a, min(a + step, len(document.text))) for a in range(0, len(document.text), step)]
                return [Chunk(document.id, a, b, document.text[a:b]) for a, b in places]

        return Mine()

    assert len(chunk_corpus(chunker(1), small_corpus)) == 3
    assert len(chunk_corpus(chunker(2), small_corpus)) == 6
    bare = Corpus("small", tuple(Document(d.id, d.text) for d in small_corpus.documents))
    assert {c.section for c in chunk_corpus(HeadingChunker(50, 0), bare)} == {()}
    assert {c.section for c in chunk_corpus(HeadingChunker(50, 0), small_corpus)} != {()}
