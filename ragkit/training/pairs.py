"""Training pairs without labels: headings, cross-references and first sentences are the queries.

An author who writes the heading *Revoking tasks* above a text has labelled it. So has one who writes "see
Revoking tasks" on another page, and one whose first sentence says what the others explain. FAQ pages are left
out entirely: their questions are the labels that a trained model is tested on.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ragkit.base import Chunk, Corpus, CorpusError, InputError
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.tokens import minilm_tokenizer

Source = Literal["heading", "reference", "cloze", "feedback"]

_FAQ = re.compile(r"(?i)\bfaqs?\b|frequently[\s_-]+asked")
_SENTENCE = re.compile(r"[^\n]+?[.!?:](?=\s|$)|[^\n]+")
_FETCH = 20  # candidates among which hard negatives are looked for
_NEAR = 0.5  # passages that share half of their shingles say the same
_SHORTEST = 60  # characters: less says too little to be found by


@dataclass(frozen=True)
class Pair:
    """A query, the passage that answers it, and hard negatives."""

    query: str
    positive: Chunk
    source: Source
    negatives: tuple[Chunk, ...] = ()


def make_pairs(corpus: Corpus, *, tokens: int = 128, negatives: int = 1) -> tuple[Pair, ...]:
    """Every pair that the documents give, each query and each passage once, in random order.

    A passage is the beginning of a section's own text, ``tokens`` long at most, without its heading. Pairs for
    which BM25 finds no ``negatives`` have fewer.

    Raises:
        CorpusError: the corpus has no sections to make pairs from.
    """
    passages = section_passages(corpus, tokens)
    made = [*heading_pairs(passages), *reference_pairs(passages), *cloze_pairs(passages)]
    pairs = list({" ".join(pair.query.casefold().split()): pair for pair in reversed(made)}.values())
    if not pairs:
        raise CorpusError(f"corpus {corpus.name!r} gives no pairs: it has no sections with a heading and a text")
    random.Random(0).shuffle(pairs)
    return with_hard_negatives(pairs, passages, negatives) if negatives else tuple(pairs)


def section_passages(corpus: Corpus, tokens: int = 128) -> tuple[Chunk, ...]:
    """The first ``tokens`` of every section's own text, without pages of questions.

    The sections are ``Document.visible_sections``: where a question was taken out of the text, none begins. Of passages
    with the same runs of words (equal ``shingles``) the first is kept; near-duplicates stay.
    """
    faq_pages = {span.doc_id for question in corpus.questions for span in question.gold if "faq" in question.tags}
    distinct: dict[frozenset[str], Chunk] = {}
    for document in corpus.documents:
        if document.id in faq_pages or _FAQ.search(f"{document.id} {document.title}"):
            continue
        for section in document.visible_sections:
            body = document.text[section.body : section.end]
            start = section.body + len(body) - len(body.lstrip())
            offsets = minilm_tokenizer().offsets(body.strip())[:tokens]
            if section.path and len(offsets) and offsets[-1, 1] >= _SHORTEST:
                end = start + int(offsets[-1, 1])
                text = document.text[start:end]
                distinct.setdefault(
                    shingles(text), Chunk(document.id, start, end, text, section.path, document.metadata)
                )
    return tuple(distinct.values())


def heading_pairs(passages: Sequence[Chunk]) -> Iterator[Pair]:
    """A section's heading, behind the one above it, asks for the section's text.

    A heading such as *Example* says nothing by itself; *Revoking tasks: Example* does.
    """
    for passage in passages:
        yield Pair(": ".join(dict.fromkeys(passage.section[-2:])), passage, "heading")


def reference_pairs(passages: Sequence[Chunk]) -> Iterator[Pair]:
    """A sentence that names the heading of another section asks for that section's text.

    Sphinx shows a cross-reference by the title of its target, so the words of the link stand in the text.
    Headings of a single word and headings that occur twice in the project could mean anything; they are left out.
    """
    keys = [(p.metadata.get("project"), p.section[-1]) for p in passages]
    often = Counter(keys)
    named = {key: p for key, p in zip(keys, passages, strict=True) if often[key] == 1 and " " in key[1]}
    for passage in passages:
        for sentence in _SENTENCE.findall(passage.text):
            words = sentence.split()
            runs = {" ".join(words[i : i + n]).strip(".,:;()") for n in range(2, 9) for i in range(len(words) - n + 1)}
            for run in sorted(runs - {sentence.strip(" -.,:;()")}):
                target = named.get((passage.metadata.get("project"), run))
                if target is not None and target is not passage:
                    yield Pair(sentence.strip(), target, "reference")


def cloze_pairs(passages: Sequence[Chunk]) -> Iterator[Pair]:
    """A section's first sentence asks for the rest of it: the inverse cloze task (Lee et al., 2019).

    https://arxiv.org/abs/1906.00300
    """
    for passage in passages:
        first = _SENTENCE.match(passage.text)
        rest = passage.text[first.end() :].lstrip() if first else ""
        if first and len(rest) >= _SHORTEST and len(first[0].split()) >= 4:
            positive = replace(passage, start=passage.end - len(rest), text=rest)
            yield Pair(first[0].strip(), positive, "cloze")


def with_hard_negatives(pairs: Iterable[Pair], passages: Sequence[Chunk], n: int = 1) -> tuple[Pair, ...]:
    """The pairs with the ``n`` best passages each that BM25 finds for the query and that do not answer it.

    What overlaps the positive, says nearly the same, or holds the query word for word is no negative. Texts say the
    same by the share of shingles that they have in common (Broder, 1997).
    """
    listed, made = list(pairs), []
    lists = BM25Retriever(passages).search_many([pair.query for pair in listed], _FETCH)
    for pair, hits in zip(listed, lists, strict=True):
        own, wrong = shingles(pair.positive.text), []
        for chunk in (hit.chunk for hit in hits):
            other = shingles(chunk.text)
            near = len(own & other) >= _NEAR * len(own | other)
            if not (near or chunk.span.overlap(pair.positive.span) or pair.query in chunk.text):
                wrong.append(chunk)
        made.append(replace(pair, negatives=tuple(wrong[:n])))
    return tuple(made)


def shingles(text: str, n: int = 4) -> frozenset[str]:
    """The runs of ``n`` words in ``text`` (the whole text where it is shorter).

    >>> sorted(shingles("Press the red lever now"))
    ['press the red lever', 'the red lever now']
    """
    words = re.findall(r"\w+", text.casefold())
    return frozenset(" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1)))


def split_by_document(
    pairs: Sequence[Pair], share: float = 0.1, seed: int = 0
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """``(training, held out)``: about ``share`` of the documents are held out, with all their pairs.

    Raises:
        InputError: one side would be empty.
    """
    ids = sorted({pair.positive.doc_id for pair in pairs})
    random.Random(seed).shuffle(ids)
    withheld = set(ids[: max(1, round(share * len(ids)))])
    out = tuple(pair for pair in pairs if pair.positive.doc_id in withheld)
    rest = tuple(pair for pair in pairs if pair.positive.doc_id not in withheld)
    if not out or not rest:
        raise InputError(f"{len(ids)} document(s): expected at least 2, to hold one out")
    return rest, out
