"""The committed question sets: their form, and that every gold section is there and is the right kind of gold."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from ragkit.base import Corpus
from ragkit.files import data_file

LANGUAGES = ("es", "de", "fr", "zh", "ru")
KINDS = ("keyword", "paraphrase", "multihop", "unanswerable", "en", *LANGUAGES)
GOLDS = {"multihop": 2, "unanswerable": 0}  # every other kind has one

Row = Mapping[str, Any]

# Words that only hold a sentence together. Sharing one of them does not help a word index to find anything.
_FUNCTION_WORDS = """
    a about above after again against all also am an and another any anyone anything are around as at be because been
    before being below between both but by can cannot could did do does doing done down during each either else etc
    ever every everyone everything for from further had has have having he her here hers him his how however i if in
    instead into is it its itself just less many may me might mine more most much must my myself neither no nor not
    nothing of off on once one ones only onto or other others our ours out over own per rather same shall she should
    since so some somebody someone something such than that the their theirs them themselves then there these they
    thing things this those though through to too toward towards under unless until up upon us very via was we were
    what whatever when whenever where whereas whether which whichever while who whom whose why will with within
    without would yes yet you your yours yourself
    couldn didn doesn don isn aren wasn weren won wouldn shouldn ll re ve
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_WORD = re.compile(r"[A-Za-z0-9]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def content_stems(text: str) -> set[str]:
    """The English stems of the words of ``text``, without function words and single characters.

    An identifier counts as a whole and in its parts: ``worker_tmp_dir`` gives worker, tmp and dir;
    ``CookieJar`` gives cookiejar, cooki and jar. So a hidden overlap counts as an overlap.
    """
    stemmer = pytest.importorskip("Stemmer").Stemmer("english")
    words = {part.lower() for word in _WORD.findall(text) for part in (word, *_CAMEL.findall(word))}
    return set(stemmer.stemWords(sorted(w for w in words - FUNCTION_WORDS if len(w) > 1)))


def rows(kind: str) -> list[Row]:
    lines = data_file(f"questions/{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def section_texts(corpus: Corpus, gold: Row) -> list[str]:
    """The own text of every section of the document that has the gold's path (there should be one)."""
    document = corpus.document(gold["doc"])
    return [document.text[s.body : s.end].strip() for s in document.sections if list(s.path) == gold["section"]]


def test_content_stems() -> None:
    assert content_stems("How do I rotate the logs?") == {"rotat", "log"}
    assert content_stems("worker_tmp_dir") == {"worker", "tmp", "dir"}
    assert content_stems("CookieJar") == {"cookiejar", "cooki", "jar"}
    assert content_stems("restarting a worker") & content_stems("workers restart") == {"restart", "worker"}


@pytest.mark.parametrize("kind", KINDS)
def test_form(kind: str) -> None:
    found = rows(kind)
    assert len(found) >= 40
    assert [r["id"] for r in found] == [f"{kind}-{i:03d}" for i in range(1, len(found) + 1)]
    assert len({r["text"] for r in found}) == len(found)
    for row in found:
        assert set(row) == {"id", "text", "gold", "tags"} | ({"why"} if kind == "unanswerable" else set())
        assert row["text"] == row["text"].strip() != ""
        assert kind in row["tags"]
        assert len(row["gold"]) == GOLDS.get(kind, 1)
        assert all(set(g) == {"doc", "section"} for g in row["gold"])


def test_no_question_is_asked_twice() -> None:
    texts = Counter(row["text"].lower() for kind in KINDS for row in rows(kind))
    assert [t for t, n in texts.items() if n > 1] == []


def test_spread() -> None:
    for kind in ("keyword", "paraphrase", "multihop", "en"):
        documents = Counter(g["doc"] for row in rows(kind) for g in row["gold"])
        assert {d.split("/")[0] for d in documents} == {"black", "gunicorn", "aiohttp", "celery", "scrapy"}
        assert len(documents) >= 25
        assert max(documents.values()) <= 0.2 * documents.total()


def test_multihop_needs_two_documents() -> None:
    for row in rows("multihop"):
        first, second = row["gold"]
        assert first["doc"] != second["doc"], row["id"]


def test_unanswerable_says_why() -> None:
    assert all(row["why"] for row in rows("unanswerable"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_carry_the_same_golds(language: str) -> None:
    for english, other in zip(rows("en"), rows(language), strict=True):
        assert other["gold"] == english["gold"], other["id"]
        assert other["text"] != english["text"]


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in LANGUAGES])
def test_every_gold_section_is_there_once(kind: str, core: Corpus) -> None:
    wrong = {
        row["id"]: (gold, texts)
        for row in rows(kind)
        for gold in row["gold"]
        if len(texts := section_texts(core, gold)) != 1 or not texts[0]
    }
    assert wrong == {}


@pytest.mark.parametrize("kind", ["keyword", "paraphrase", "multihop", "en"])
def test_gold_is_not_the_gold_of_an_faq_question(kind: str, core: Corpus) -> None:
    faq = {span.doc_id for question in core.questions for span in question.gold}
    assert {g["doc"] for row in rows(kind) for g in row["gold"]} & faq == set()


def test_paraphrases_share_no_content_word_with_their_gold(core: Corpus) -> None:
    shared = {}
    for row in rows("paraphrase"):
        (gold,) = row["gold"]
        words = content_stems("\n".join([*gold["section"], *section_texts(core, gold)]))
        if overlap := content_stems(row["text"]) & words:
            shared[row["id"]] = overlap
    assert shared == {}
