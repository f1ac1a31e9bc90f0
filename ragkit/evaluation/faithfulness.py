"""Is a sentence supported by the sources? An offline scorer, without a model that was trained for it.

A reader who checks a sentence looks for the place that says it, and then for what does not agree. So does this:

1. **Align.** Every word of the sentence looks for its most similar word (cosine of the encoder's token vectors, 1 for
   the same stem), in every window of up to three lines of the sources. The window whose words agree best, weighted by
   idf, is the evidence.
2. **Compare.** Eight features count what the evidence does not bear out: unknown names and numbers, a negation on one
   side only, an absolute ("always"), an opposite ("before" for "after"), another word in the same place, another order.
3. **Weigh.** A logistic regression over these, ``WEIGHTS``, makes a probability. What stands word for word in a
   source is 1 without any of this.

How far it can be trusted is measured on ``data/answers.jsonl`` (``python tests/run_bench.py scorers``): sentences about
sections of ``core``, each with the question that it answers:

- supported: ``quoted`` (pointed at by offsets, so that nothing fetched is copied), ``edited`` (close to the wording of
  the section) and ``reworded`` (its meaning in other words);
- unsupported, by what was done to a true one: ``entity``, ``number``, ``negation``, ``clause`` (invented), ``relation``
  (swapped roles or order), ``identifier``, ``quantifier`` (too general), and ``other_section`` (true of another one).

The ``fit`` half and the ``test`` half share no document: the weights are fitted on the first and judged on the second.

**What it can't see**: who does what to whom, where the wording is not the source's; one word for a related one
(seconds, milliseconds); an invented claim in the source's own words. And it doubts true sentences that count
differently ("five minutes" for 300 seconds) or say "at most" for "must not exceed".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.base import Chunk, Corpus, InputError, Question, Vectors, require
from ragkit.corpus.datasets import load_questions, section_span
from ragkit.embedding import unit
from ragkit.embedding.vectors import Ids, split_evenly
from ragkit.evaluation.statistics import Floats, auroc, auroc_interval
from ragkit.files import data_file
from ragkit.markdown import unfenced
from ragkit.token_store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

# ---- words: what a careful reader checks besides the topic. Vectors can't see it: "is" and "is not", 30 and 60, "-P"
# and "-Q" lie next to each other.

_WORD = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*|\w+(?:[._/:'’-]\w+)*")
_IDENTIFIER = re.compile(r"_|^-|\w[./]\w|[a-z][A-Z]|^[A-Z]{2,}\d*$|^[A-Z]+\d+$")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?!\w*[A-Za-z_])")
_LINE_END = re.compile(r"\n+|(?<=[.!?:;])\s+(?=[A-Z(\"'`$])")
_CLAUSE_END = re.compile(r"[;:()]|\.\s")
_WHITE = re.compile(r"\s+")
_list = re.compile(r"\w+").findall
_SPELLED = _list("zero one two three four five six seven eight nine ten eleven twelve")
_NUMERALS = {word: str(n) for n, word in enumerate(_SPELLED)}
_NUMERALS |= {"once": "1", "single": "1", "twice": "2", "thirty": "30", "hundred": "100"}
_VAGUE = frozenset("012")  # in words: "one" is a pronoun, "between two calls" counts nothing
_CUES = frozenset(_list("not no never none nothing nobody neither nor cannot without unless except rarely hardly"))
_CUE_PHRASES = frozenset({("rather", "than"), ("instead", "of")})
_REACH = 5  # a negation governs the words that follow it, this many at most
_QUANTIFIERS = frozenset(
    _list("always never every all any only none nobody everybody everything each entire whatever however must")
)
_OPPOSITES = """
before after|enable disable|more less fewer|high low|higher lower|highest lowest|first last|allow forbid disallow
encourage discourage|include exclude|accept refuse reject|start stop end|begin end|increase decrease|raise lower
success fail succeed|single multiple several many|client server|upper lower|synchronous asynchronous|binary text
add remove delete|optional required|open close|keep drop discard lose forget|read write|send receive|input output
internal external|inside outside|public private|common rare|commonly rarely|often rarely|minimum maximum|long short
longest shortest|new old|early late|earlier later|local remote|parent child|slow fast|cheap expensive|dangerous safe
possible impossible|same different|trusted untrusted|recommended discouraged|automatic manual|temporary permanent
visible hidden|true false|on off|with without|above below|better worse|most least|upload download|sequential parallel
"""
_FUNCTION_WORDS = frozenset(
    _list("""
    a about an and any are as at be been but by can could did do does doing for from had has have having he her him his
    how i if in into is it its itself just me my of on or our out own she should so some such than that the their them
    then there these they this those to too up us was we were what when where which while who whom why will with would
    you your yours each may must also
    """)
)


@dataclass(frozen=True, slots=True)
class Word:
    """The characters ``[start, end)`` of a text; ``term`` is its stem, in lower case, numbers in digits."""

    text: str
    start: int
    end: int
    term: str

    @property
    def content(self) -> bool:
        """Whether it is no function word (the, of, is, ...)."""
        return self.text.lower() not in _FUNCTION_WORDS

    @property
    def absolute(self) -> bool:
        """Whether it leaves no exception (always, never, every, only, ...)."""
        return self.text.lower() in _QUANTIFIERS

    @property
    def identifier(self) -> bool:
        """Whether it is a name of code: a flag, a path, ``snake_case``, ``CamelCase``, ``UPPER`` case.

        >>> [w.text for w in words("Set worker_pool or -P, not the pool of RabbitMQ") if w.identifier]
        ['worker_pool', '-P', 'RabbitMQ']
        """
        return _IDENTIFIER.search(self.text) is not None


@cache
def _stemmer() -> Any:
    return require("Stemmer", "search").Stemmer("english")


@cache
def term(word: str) -> str:
    """The stem of a word, in lower case; a number in words becomes digits.

    >>> term("Thirty"), term("discards")
    ('30', 'discard')
    """
    return str(_stemmer().stemWord(_NUMERALS.get(word.lower(), word.lower())))


def words(text: str) -> list[Word]:
    """The words of ``text``; a flag, a path or a dotted name is one word.

    >>> [w.term for w in words("Pass --max-requests twice.")]
    ['pass', '--max-request', '2']
    """
    return [Word(m[0], m.start(), m.end(), term(m[0])) for m in _WORD.finditer(text)]


def lines(text: str) -> list[tuple[int, int]]:
    """The character ranges of the sentences of ``text``; a line break ends one, too (settings, tables, lists).

    >>> [text[a:b] for text in ["Default: 30\\nIt is long. It is wide."] for a, b in lines(text)]
    ['Default: 30', 'It is long.', 'It is wide.']
    """
    borders = [0, *(border for gap in _LINE_END.finditer(text) for border in gap.span()), len(text)]
    return [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=True) if text[a:b].strip()]


def numbers(text: str) -> set[str]:
    """The numbers in ``text``, in digits or in words.

    >>> sorted(numbers("Between 0.50 and three seconds, in HTTP2"))
    ['0.5', '3']
    """
    spelled = {_NUMERALS[w.text.lower()] for w in words(text) if w.text.lower() in _NUMERALS}
    return {n.rstrip("0").rstrip(".") if "." in n else n for n in _NUMBER.findall(text)} | spelled


def is_negation(word: str) -> bool:
    """Whether a word negates."""
    word = word.lower().replace("’", "'")
    return word in _CUES or word.endswith("n't")


def negated(text: str, text_words: Sequence[Word]) -> NDArray[np.bool_]:
    """Which words a negation governs: those after it up to the next full stop, five at most: ``(len(text_words),)``.

    Pang, Lee & Vaithyanathan, Thumbs up? (EMNLP 2002), who go up to the next punctuation mark.

    >>> text = "It is never stored (but sent)."
    >>> [w.text for w, no in zip(words(text), negated(text, words(text))) if no]
    ['stored']
    """
    inside = np.zeros(len(text_words), dtype=bool)
    for i, word in enumerate(text_words):
        for j in range(i - 1, max(-1, i - 1 - _REACH), -1):
            if _CLAUSE_END.search(text, text_words[j].end, word.start):
                break
            pair = (text_words[j - 1].text.lower(), text_words[j].text.lower()) if j else ("", "")
            inside[i] |= is_negation(text_words[j].text) or pair in _CUE_PHRASES
    return inside


@cache
def opposites() -> dict[str, frozenset[str]]:
    """Term -> the terms that mean its opposite. In a group, the first word is the opposite of the others.

    >>> sorted(opposites()["more"])
    ['fewer', 'less']
    """
    table: dict[str, frozenset[str]] = {}
    for group in _OPPOSITES.replace("\n", "|").strip("|").split("|"):
        first, *others = (term(word) for word in group.split())
        for one, other in [(first, other) for other in others] + [(other, first) for other in others]:
            table[one] = table.get(one, frozenset()) | {other}
    return table


def quantifiers(text_words: Sequence[Word]) -> set[str]:
    """The terms among ``text_words`` that leave no exception (always, never, every, only, ...)."""
    return {word.term for word in text_words if word.absolute}


# ---- align


@lru_cache(maxsize=128)  # the statements of an answer have the same sources
def token_vectors(text: str, encoder: Any) -> tuple[Ids, NDArray[np.int64], Vectors]:
    """Ids ``(n,)``, character offsets ``(n, 2)`` and unit vectors ``(n, d)`` of the tokens of any text.

    ``encoder``: a ``TokenEncoder``.
    """
    ids, offsets = encoder.tokenize(text)
    pieces = split_evenly(ids, encoder.max_tokens)
    vectors = dict(encoder.encode_windows(pieces, "query"))
    return ids, offsets, unit(np.concatenate([vectors[i].tokens for i in range(len(pieces))]))


def relevance(question: str, answer: str, store: TokenStore) -> float:
    """How well ``answer`` takes up ``question``: late interaction between the two, -1 to 1.

    Each token of the question looks for its most similar token in the answer; the mean of these cosines, weighted by
    idf (MaxSim, Khattab & Zaharia 2020, arXiv 2004.12832). It says what an answer is about, not whether it is right:
    "You can't stop a worker" takes up "How do I stop a worker?".

    Raises:
        InputError: one of the texts is blank.
    """
    if not question.strip() or not answer.strip():
        raise InputError("relevance needs a question and an answer: leave the answer unscored")
    encoder: Any = store.encoder
    ids, _, left = token_vectors(question, encoder)
    _, _, right = token_vectors(answer, encoder)
    weight = store.idf(ids)
    best = (left @ right.T).max(axis=1)
    return float(best @ weight / weight.sum()) if weight.sum() > 0 else float(best.mean())


_LINES = 3  # a claim can rest on this many neighbouring lines
_LONGER = 0.015  # what a line more must add to the agreement of a window


@dataclass(frozen=True)
class _Evidence:
    """Neighbouring lines ``text`` of a source, its words in them, and the likeness of the sentence's words to these
    ``(n, m)``: the cosine, or 1 for the same term."""

    chunk: Chunk
    text: str
    words: Sequence[Word]
    negated: NDArray[np.bool_]
    likeness: Vectors
    agreement: float


def _best_evidence(sentence: str, own: Sequence[Word], weight: Floats, chunk: Chunk, encoder: Any) -> _Evidence:
    """The window of ``chunk``, which has words, that agrees best; one that is longer only if that adds something."""
    other = words(chunk.text)
    _, query, left = token_vectors(sentence, encoder)
    _, tokens, right = token_vectors(chunk.text, encoder)
    likeness = _by_word(left @ right.T, _tokens_of(own, query), _tokens_of(other, tokens))
    likeness = np.maximum(likeness, [[a.term == b.term for b in other] for a in own])
    ranges, starts = lines(chunk.text), [word.start for word in other]
    edges = np.searchsorted(starts, [a for a, _ in ranges] + [len(chunk.text)])

    def agreement(window: tuple[int, int]) -> float:
        first, last = window
        inside = likeness[:, edges[first] : edges[last + 1]]
        return float(inside.max(axis=1) @ weight) - _LONGER * (last - first)

    windows = [(i, j) for i in range(len(ranges)) for j in range(i, min(i + _LINES, len(ranges)))]
    first, last = max((window for window in windows if edges[window[0]] < edges[window[1] + 1]), key=agreement)
    text, inside = chunk.text[ranges[first][0] : ranges[last][1]], slice(edges[first], edges[last + 1])
    negations = negated(chunk.text, other)[inside]
    return _Evidence(chunk, text, other[inside], negations, likeness[:, inside], agreement((first, last)))


def _tokens_of(text_words: Sequence[Word], offsets: NDArray[np.int64]) -> list[slice]:
    """The tokens of each word."""
    first = np.searchsorted(offsets[:, 1], [word.start for word in text_words], side="right")
    last = np.searchsorted(offsets[:, 0], [word.end for word in text_words], side="left")
    return [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]


def _by_word(cosines: Vectors, rows: Sequence[slice], columns: Sequence[slice]) -> Vectors:
    """Cosines of words ``(len(rows), len(columns))``: the mean over one's tokens of the best among the other's."""
    best = np.stack([cosines[:, own].max(axis=1, initial=-1) for own in columns], axis=1)
    return np.stack([best[own].mean(axis=0) if own.start < own.stop else 0 * best[0] for own in rows])


# ---- compare

_STEEP = 6  # the power of closeness: .9 gives .53, .7 gives .12, .5 gives .02
_NARROW = 3  # words that a gap may hold for its fillings to be compared


# Fitted on the fitting half of data/answers.jsonl: `python tests/bench/bench_scorers.py --fit` prints them.
WEIGHTS = {
    "intercept": -4.15,
    "agreement": 6.73,
    "unknown": -4.36,
    "numbers": -2.21,
    "polarity": -11.79,
    "quantifiers": -5.11,
    "opposites": -20.93,
    "replaced": -8.92,
    "moved": -9.20,
}
NAMES = tuple(name for name in WEIGHTS if name != "intercept")


def _compare(
    sentence: str, own: Sequence[Word], weight: Floats, evidence: _Evidence, known: str
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The features of a sentence beside its evidence, and in words what speaks against it.

    Only ``agreement`` supports the sentence; of the others, more is worse.

    - ``agreement``: the mean over its content words of the likeness to the best word of the evidence, weighted by idf,
      0 to 1.
    - ``unknown``: names of code, and other capitalised words, that the sources don't have.
    - ``numbers``: 1 if it has a number that the evidence does not have.
    - ``polarity``: the idf-weighted share of common words that only one side negates.
    - ``quantifiers``: absolutes (always, never, every, only, ...) that the evidence doesn't have.
    - ``opposites``: 1 if a word stands where the evidence has its opposite.
    - ``replaced``: how unlike the evidence's word a word in the same place is, 0 to 1.
    - ``moved``: the idf-weighted share of common words that stand in another order.

    From ``polarity`` on they are in the nature of rewording, too ("must not exceed" is "at most"). They mean something
    where the sentence is otherwise close to the wording of its evidence, and so they are multiplied by its closeness.

    Args:
        weight: the share of each word ``(n,)``.
        known: the text and the headings of all sources, where a name may stand even if the evidence does without it.
    """
    terms = {word.term for word in evidence.words}
    common = np.array([word.term in terms for word in own])
    plain = np.array([not word.absolute and not is_negation(word.text) for word in own])
    close = closeness(weight[plain], common[plain])

    low = known.lower()
    unknown = [w.text for w in own if w.text.lower() not in low and (w.identifier or _is_name(w, sentence))]
    vague = {word.term for word in own if word.term in _VAGUE and not word.text.isdigit()}
    missing = sorted(numbers(sentence) - numbers(evidence.text) - vague)
    absolute = sorted(quantifiers(own) - terms)

    order = SequenceMatcher(None, [w.term for w in own], [w.term for w in evidence.words], autojunk=False)
    partner = {a + i: b + i for a, b, size in order.get_matching_blocks() for i in range(size)}
    content = [i for i in partner if own[i].content]
    mine = negated(sentence, own)
    flipped = sum(weight[i] for i in content if mine[i] != evidence.negated[partner[i]])
    polarity = flipped / max(sum(weight[i] for i in content), 1e-9)

    turned, replaced, unlike = [], [], 0.0
    for here, there in gaps(order):
        against = {opposite for j in there for opposite in opposites().get(evidence.words[j].term, ())}
        turned += [own[i].text for i in here if own[i].term in against]
        new = [i for i in here if own[i].content and not common[i]]
        old = [j for j in there if evidence.words[j].content]
        if new and old and max(len(here), len(there)) <= _NARROW:
            unlike = max(unlike, 1 - float(evidence.likeness[np.ix_(new, old)].max()))
            replaced.append((own[new[0]].text, evidence.words[old[0]].text))
    features = {
        "agreement": float(evidence.likeness.max(axis=1) @ weight),
        "unknown": float(len(unknown)),
        "numbers": float(bool(missing)),
        "polarity": close * float(polarity),
        "quantifiers": close * len(absolute),
        "opposites": close * bool(turned),
        "replaced": close * unlike,
        "moved": close * float(weight[common].sum() - sum(weight[i] for i in partner)),
    }
    doubts = [f"{word!r} is in no source" for word in unknown] + [f"{n} is not in the evidence" for n in missing]
    doubts += [f"{word!r} is not said" for word in absolute] + [f"{w!r} stands against its opposite" for w in turned]
    doubts += ["one side negates, the other does not"] * bool(polarity)
    doubts += [f"{mine!r} stands for {theirs!r}" for mine, theirs in replaced]
    return features, tuple(doubts)


def gaps(order: SequenceMatcher[str]) -> Iterator[tuple[range, range]]:
    """Where two texts have different words between the same ones: the places in the one and in the other.

    Before the first common word and after the last one, only its neighbour in the other text stands in the same place.

    >>> list(gaps(SequenceMatcher(None, "use gevent now".split(), "please use prefork now or later".split())))
    [(range(1, 2), range(2, 3))]
    """
    codes = order.get_opcodes()
    for code in codes:
        tag, a, b, c, d = code
        if tag == "replace":
            yield range(a, b), range(d - 1 if code is codes[0] else c, c + 1 if code is codes[-1] else d)


def closeness(weight: Floats, common: NDArray[np.bool_]) -> float:
    """How nearly word for word a sentence follows its evidence, 0 to 1: the share of common words, to the sixth.

    The share is the mean of that of all words and that of content words by idf. Negations and absolutes are left out:
    whether they agree is another question.

    >>> round(closeness(np.array([0.0, 1.0]), np.array([False, True])), 3)
    0.178
    """
    if weight.sum() <= 0:
        return 0.0
    return float((weight[common].sum() / weight.sum() + common.mean()) / 2) ** _STEEP


def _is_name(word: Word, sentence: str) -> bool:
    """Whether a word is capitalised within a sentence."""
    return word.text[0].isupper() and word.start > 0 and sentence[: word.start].rstrip()[-1:] not in (".", ":", "")


# ---- weigh


@dataclass(frozen=True)
class Support:
    """How well a sentence is supported, 0 to 1, by which words of which source, and what speaks against it."""

    sentence: str
    score: float
    evidence: str = ""
    chunk: Chunk | None = None
    quoted: bool = False
    features: Mapping[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


class Faithfulness:
    """Scores sentences against sources. ``store`` gives the encoder and the idf of its tokens.

    Args:
        store: the token store of the corpus that the sources are from, or of any other in the same language.
    """

    def __init__(self, store: TokenStore) -> None:
        self.store = store

    def support(self, sentence: str, sources: Sequence[Chunk]) -> Support:
        """The support that ``sources`` give to ``sentence``: 1 where one of them holds it word for word.

        Raises:
            InputError: ``sentence`` has no words, or there are no sources.
        """
        own = words(sentence)
        if not own:
            raise InputError(f"sentence {sentence!r} has no words: there is nothing to check")
        if chunk := quoted_in(sentence, sources):
            return Support(sentence, 1.0, sentence, chunk, quoted=True)
        weight = self._weight(sentence, own)
        holding = [chunk for chunk in sources if words(chunk.text)]
        if not holding:
            raise InputError("no sources with words: a sentence can't be supported by nothing, leave it unscored")
        windows = [_best_evidence(sentence, own, weight, chunk, self.store.encoder) for chunk in holding]
        evidence = max(windows, key=lambda window: window.agreement)
        known = "\n".join(part for chunk in sources for part in (*chunk.section, chunk.text))
        features, doubts = _compare(sentence, own, weight, evidence, known)
        total = WEIGHTS["intercept"] + sum(WEIGHTS[name] * value for name, value in features.items())
        score = 1 / (1 + math.exp(min(-total, 500.0)))
        return Support(sentence, score, evidence.text, evidence.chunk, False, features, doubts)

    def _weight(self, sentence: str, own: Sequence[Word]) -> Floats:
        """The share of each word: the idf of its rarest token, 0 for function words; sum 1."""
        ids, offsets = self.store.encoder.tokenize(sentence)
        idf = self.store.idf(ids)
        rarest = [max(idf[tokens], default=0.0) for tokens in _tokens_of(own, offsets)]
        weight = np.array(rarest) * np.array([word.content for word in own])
        return np.asarray(weight / weight.sum() if weight.sum() > 0 else np.full(len(own), 1 / len(own)))


def quoted_in(sentence: str, sources: Sequence[Chunk]) -> Chunk | None:
    """The first source that holds ``sentence`` word for word; white space and the fences around it may differ.

    >>> quoted_in("Use purge.", [Chunk("d", 0, 16, "Now: Use\\npurge. ")]).doc_id
    'd'
    """
    wanted = _WHITE.sub(" ", unfenced(sentence)).strip()
    return next((chunk for chunk in sources if wanted and wanted in _WHITE.sub(" ", chunk.text)), None)


# ---- how good is a scorer itself?

Half = Literal["fit", "test"]
SUPPORTED = ("quoted", "edited", "reworded")
PERTURBED = ("entity", "number", "negation", "clause", "relation", "identifier", "quantifier", "other_section")


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence, the section that is its context, whether that supports it, and how it was made (``kind``)."""

    id: str
    question: str
    text: str
    supported: bool
    kind: str
    source: Chunk
    half: Half


def load_labelled_answers(corpus: Corpus, half: Half | None = None) -> tuple[LabelledSentence, ...]:
    """The labelled sentences whose documents are in ``corpus``, of one half or of both.

    Raises:
        InputError: another ``half``.
    """
    if half not in (None, "fit", "test"):
        raise InputError(f"half {half!r}: expected 'fit' or 'test'")
    documents = {document.id: document for document in corpus.documents}
    entries = [json.loads(line) for line in data_file("answers.jsonl").read_text(encoding="utf-8").splitlines()]
    sentences = []
    for entry in entries:
        document = documents.get(entry["evidence"]["doc"])
        if document and half in (None, entry["split"]):
            path = tuple(entry["evidence"]["section"])
            span = section_span(document, path)
            passage = document.text[span.start : span.end]
            source = Chunk(document.id, span.start, span.end, passage, path, document.metadata)
            text = passage[slice(*entry["quote"])] if "quote" in entry else entry["sentence"]
            label = (entry["label"] == "supported", entry["kind"])
            sentences.append(LabelledSentence(entry["id"], entry["question"], text, *label, source, entry["split"]))
    return tuple(sentences)


def chunk_at(corpus: Corpus, doc_id: str, start: int, end: int) -> Chunk:
    """The characters ``[start, end)`` of a document as a chunk."""
    document = corpus.document(doc_id)
    return Chunk(doc_id, start, end, document.text[start:end], document.section_at(start), document.metadata)


@dataclass(frozen=True, slots=True)
class WrittenSentence:
    """A sentence that a model wrote in answer to a question, the sources that it had read, and whether they support it.

    ``prompt`` is what the model was asked with, ``labels`` are those of two readers, ``supported`` is what they came
    to.
    """

    id: str
    prompt: str
    question: Question
    text: str
    supported: bool
    labels: tuple[bool, bool]
    sources: tuple[Chunk, ...]


def load_written_sentences(corpus: Corpus) -> tuple[WrittenSentence, ...]:
    """Sentences of the packaged model, with labels, about the documents of ``corpus`` (``data/written.jsonl``).

    They measure scorers and judges; nothing was fitted on them. The sentences of one answer stand together, in order.
    """
    questions = {question.id: question for question in corpus.questions}
    for kind in ("keyword", "paraphrase", "multihop", "en"):
        questions |= {question.id: question for question in load_questions(kind, corpus)}
    documents = {document.id for document in corpus.documents}
    sentences = []
    for line in data_file("written.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        question = questions.get(entry["question"])
        if question and all(doc_id in documents for doc_id, _, _ in entry["sources"]):
            first, second = (label == "supported" for label in entry["labels"])
            sentences.append(
                WrittenSentence(
                    entry["id"],
                    entry["prompt"],
                    question,
                    entry["sentence"],
                    entry["label"] == "supported",
                    (first, second),
                    tuple(chunk_at(corpus, *span) for span in entry["sources"]),
                )
            )
    return tuple(sentences)


def agreement(sentences: Sequence[LabelledSentence], scores: ArrayLike, seed: int = 0) -> pd.DataFrame:
    """How well ``scores`` tell supported sentences from the others: AUROC with interval, overall and by kind.

    Rows of perturbed kinds compare them with all supported sentences; rows of supported kinds with all others.
    ``accepted`` is the share of a row's own sentences that score .5 or more. The interval draws documents again.
    """
    values = np.asarray(scores, dtype=np.float64)
    labels = np.array([s.supported for s in sentences])
    kinds, documents = np.array([s.kind for s in sentences]), np.array([s.source.doc_id for s in sentences])
    rows = {"all": np.ones(len(labels), dtype=bool), "all but quotes": kinds != "quoted"}
    rows |= {kind: labels | (kinds == kind) for kind in PERTURBED if kind in kinds}
    rows |= {kind: ~labels | (kinds == kind) for kind in SUPPORTED if kind in kinds}
    table = {}
    for name, take in rows.items():
        value = auroc(values[take & labels], values[take & ~labels])
        low, high = auroc_interval(values[take], labels[take], documents[take].tolist(), seed=seed)
        own = kinds == name if name in kinds else take
        accepted = float((values[own] >= 0.5).mean())
        table[name] = {"sentences": own.sum(), "auroc": value, "low": low, "high": high, "accepted": accepted}
    frame = require("pandas", "notebook").DataFrame(table).T
    return frame.astype({"sentences": int})  # type: ignore[no-any-return]
