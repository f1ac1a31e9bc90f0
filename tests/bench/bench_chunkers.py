"""Five chunkers, overlap, and chunks that know where they stand: coverage in 2,000 tokens, by what searches them.

All in chunks of 256 tokens (overlap 32 where it is not named), on the five English kinds of questions of core. A label
of these is a section, and so are many chunks of ``HeadingChunker``. So it also meets the questions of
``data/answers.jsonl`` that have a sentence as their label, and these with the sentence's section as the label.
``path``: project, title and headings stand in front of the chunk when it is indexed. ``in its place``: late chunking,
the mean of vectors that the tokens have in the whole document. Differences to the first of a group come with their 95 %
interval, corrected for the comparisons of the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ragkit import BM25Retriever, DenseRetriever, Hybrid, TokenStore, chunk_corpus, compare, load_embedder
from ragkit.base import Chunk, Chunker, Corpus, Question, Retriever, Span
from ragkit.chunking import FixedChunker, HeadingChunker, RecursiveChunker, SemanticChunker, SentenceChunker
from ragkit.evaluation.faithfulness import load_labelled_answers
from ragkit.pipeline.config import FETCH_K
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.workbench import course_corpus

Row = tuple[str, float, str, str]
SIZE, OVERLAP = 256, 32
OVERLAPS = (0, 32, 64, 128)
SEARCHES = ("pooled", "maxp", "bm25", "advanced")
TWO = ("fixed", "heading")


def main() -> list[Row]:
    corpus, questions = course_corpus()
    store = TokenStore.open(corpus).with_queries([question.text for question in questions], tokens=True)
    return [
        *by_chunker(corpus, store, questions),
        *by_overlap(corpus, store, questions),
        *by_label(corpus, store),
        *by_place(corpus, store, questions),
    ]


def chunkers(store: TokenStore) -> dict[str, Chunker]:
    return {
        "fixed": FixedChunker(SIZE, OVERLAP),
        "sentence": SentenceChunker(SIZE, OVERLAP),
        "recursive": RecursiveChunker(SIZE, OVERLAP),
        "heading": HeadingChunker(SIZE, OVERLAP),
        "semantic": SemanticChunker(store, SIZE, OVERLAP),
    }


def retrievers(chunks: Sequence[Chunk], store: TokenStore) -> dict[str, Retriever]:
    """From one vector a chunk to the retriever of the advanced preset."""
    bm25, maxp = BM25Retriever(chunks), DenseRetriever(chunks, store=store, scoring="maxp")
    late = LateInteraction(store, mean="geometric", pooled_below=0.5)
    return {
        "pooled": DenseRetriever(chunks, store=store),
        "maxp": maxp,
        "bm25": bm25,
        "advanced": Reranked(Hybrid([bm25, maxp], fusion="rrf"), late, FETCH_K),
    }


def by_chunker(corpus: Corpus, store: TokenStore, questions: Sequence[Question]) -> Iterator[Row]:
    of_chunker = {name: retrievers(chunk_corpus(c, corpus), store) for name, c in chunkers(store).items()}
    for search in SEARCHES:
        yield from rows(f"chunker, {search}", {name: r[search] for name, r in of_chunker.items()}, questions)


def by_overlap(corpus: Corpus, store: TokenStore, questions: Sequence[Question]) -> Iterator[Row]:
    of_overlap = {n: retrievers(chunk_corpus(FixedChunker(SIZE, n), corpus), store) for n in OVERLAPS}
    for search in SEARCHES:
        yield from rows(f"overlap, {search}", {str(n): r[search] for n, r in of_overlap.items()}, questions)


def by_label(corpus: Corpus, store: TokenStore) -> Iterator[Row]:
    """Fixed and heading chunks, with a sentence and with its section as the label of the same questions."""
    of_sentence, of_section = [], []
    for labelled in load_labelled_answers(corpus):
        if labelled.kind == "quoted":
            section = labelled.source.span
            start = section.start + labelled.source.text.index(labelled.text)
            sentence = Span(section.doc_id, start, start + len(labelled.text))
            of_sentence.append(Question(labelled.id, labelled.question, (sentence,)))
            of_section.append(Question(labelled.id, labelled.question, (section,)))
    known = store.with_queries([question.text for question in of_sentence], tokens=True)
    for search in ("pooled", "advanced"):
        systems = {name: retrievers(chunk_corpus(chunkers(known)[name], corpus), known)[search] for name in TWO}
        yield from rows(f"label is a sentence, {search}", systems, of_sentence)
        yield from rows(f"label is its section, {search}", systems, of_section)


def by_place(corpus: Corpus, store: TokenStore, questions: Sequence[Question]) -> Iterator[Row]:
    """Vectors of chunks that were encoded alone, with their path, and within their document; BM25; both."""
    chunks, embedder = chunk_corpus(FixedChunker(SIZE, OVERLAP), corpus), load_embedder(cache=True)
    dense, dense_path = (DenseRetriever(chunks, embedder=embedder, contextual=path) for path in (False, True))
    bm25, bm25_path = (BM25Retriever(chunks, contextual=path) for path in (False, True))
    pooled = DenseRetriever(chunks, store=store)
    yield from rows("place, dense", {"alone": dense, "path": dense_path, "in its place": pooled}, questions)
    yield from rows("place, bm25", {"alone": bm25, "path": bm25_path}, questions)
    both = {"alone": Hybrid([bm25, dense], fusion="rrf"), "path": Hybrid([bm25_path, dense_path], fusion="rrf")}
    yield from rows("place, both by RRF", both, questions)


def rows(group: str, systems: Mapping[str, Retriever], questions: Sequence[Question]) -> Iterator[Row]:
    compared = compare(systems, questions, same_budget=2000, progress=False)
    for name, row in compared.full.iterrows():
        difference = "" if name == compared.baseline else f", {row['difference [95 %]']} {row['verdict']}"
        value = float(compared.table.loc[name, "coverage@2000"])
        yield f"{group} ({len(questions)} questions): {name}{difference}", value, "", ""
