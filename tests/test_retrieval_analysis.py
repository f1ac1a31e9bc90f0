"""Terms: the tokenizer of bm25s when everything is off, and identifiers whole and in parts when it is on."""

from __future__ import annotations

import random
import unicodedata

import bm25s
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Document, InputError
from ragkit.chunking import FixedChunker
from ragkit.retrieval.analysis import AnalyzedCorpus, Analyzer

PLAIN = Analyzer(whole=False, parts=False)


@given(
    st.text(alphabet=st.characters(max_codepoint=0x7F))
    | st.lists(st.sampled_from(["the", "Workers", "running", "a_b", "x", "naïve", "3.14", "..."])).map(" ".join)
)
def test_with_identifiers_off_it_is_the_tokenizer_of_bm25s(text):
    stemmer = Stemmer.Stemmer("english")
    expected = bm25s.tokenize([text], stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)[0]
    assert PLAIN.terms(text) == [term for term in expected if term]


@pytest.mark.parametrize(
    ("text", "whole", "parts"),
    [
        ("CELERY_TASK_ACKS_LATE", [], ["celery", "task", "acks", "late"]),
        ("--max-requests", ["max-requests"], []),
        ("aiohttp.ClientSession", ["aiohttp.clientsession"], ["client", "session"]),
        ("HTTPServer2", [], ["http", "server"]),
        ("python3.11", ["python3.11"], ["python"]),
        ("plain words", [], []),
        ("e.g.", ["e.g"], []),
        ("ÉcoleÉté", [], []),
        ("café_crème", [], ["café", "crème"]),
        ("C++, C# or R", ["c++", "c#"], []),
        ("shipped 🚀", ["🚀"], []),
    ],
)
def test_identifiers_are_kept_whole_and_in_parts(text, whole, parts):
    plain = Analyzer(stem=False, whole=False, parts=False).terms(text)
    assert sorted(Analyzer(stem=False, parts=False).terms(text)) == sorted(plain + whole)
    assert sorted(Analyzer(stem=False, whole=False).terms(text)) == sorted(plain + parts)
    assert sorted(Analyzer(stem=False).terms(text)) == sorted(plain + whole + parts)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("清空队列", ["清空", "空队", "队列"]),
        ("キューを空に", ["キュ", "ュー", "ーを", "を空", "空に"]),
        ("รหัสผ่าน", ["รห", "หั", "ัส", "สผ", "ผ่", "่า", "าน"]),
        ("비밀번호는", ["비밀", "밀번", "번호", "호는"]),
        ("停", ["停"]),
        ("用celery队列", ["用", "队列", "celeri"]),
        ("पासवर्ड में", ["पासवर्ड", "में"]),
        ("கடவுச்சொல்", ["கடவுச்சொல்"]),
        ("يُعاد تشغيل", ["يعاد", "تشغيل"]),
    ],
)
def test_scripts_without_spaces_and_letters_with_marks(text, terms):
    assert Analyzer().terms(text) == terms


@pytest.mark.parametrize("text", ["naïve café", "한국어 글자", "Ångström", "が", "Ｗｏｒｋｅｒ ﬁle"])
def test_the_unicode_form_of_a_word_does_not_matter(text):
    terms = Analyzer().terms(text)
    assert terms
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert Analyzer().terms(unicodedata.normalize(form, text)) == terms


ENDLESS = ["x" * 100_000, "a." * 50_000, "Ab_" * 30_000, "停" * 30_000, "-" * 100_000]


@pytest.mark.parametrize("text", ENDLESS, ids=lambda text: text[:3])
def test_words_without_end_become_short_terms(text):
    assert all(len(term) <= 100 for term in Analyzer().terms(text))


def test_an_analyzer_of_your_own():
    class Letters(Analyzer):
        def terms_of(self, surface):
            return list(surface)

    assert Letters().terms("ab c") == ["a", "b", "c"]


def test_each_step_can_be_switched_off():
    assert Analyzer(stem=False).terms("the workers") == ["workers"]
    assert Analyzer(stop_words=False).terms("the workers") == ["the", "worker"]
    assert Analyzer(language="german").terms("die Häuser und Straßen") == ["haus", "strass"]


def test_a_language_without_a_stemmer_or_stop_words_is_refused():
    with pytest.raises(InputError, match=r"no stemmer for 'klingon': expected one of .*english"):
        Analyzer(language="klingon", stop_words=False).terms("Qapla'")
    with pytest.raises(InputError, match="no stop words for 'klingon'"):
        Analyzer(language="klingon", stem=False).terms("Qapla'")


WORDS = [
    "worker",
    "Retry_Policy",
    "aiohttp.ClientSession",
    "--max-requests",
    "the",
    "e.g.",
    "中文",
    "x" * 30,
    "(",
    "naïve",
    "nai\u0308ve",
    "清空队列",
    "पासवर्ड",
    "C++",
]


@given(st.lists(st.sampled_from(WORDS), max_size=40), st.sampled_from(["", " ", "."]), st.integers(1, 12))
def test_terms_of_an_analyzed_corpus_are_those_of_the_chunk_alone(words, space, size):
    document = Document("d", space.join(words))
    lent, alone = AnalyzedCorpus([document]), AnalyzedCorpus()
    cuts = random.Random(size).sample(range(len(document.text) + 1), min(6, len(document.text)))
    anywhere = [Chunk("d", a, b, document.text[a:b]) for a in cuts for b in cuts if a < b]
    for chunk in [*FixedChunker(size, 0).chunk(document), *anywhere, Chunk("other", 0, 4, "Late acks")]:
        expected = Analyzer().terms(chunk.text)
        assert [lent.term(i) for i in lent.ids(chunk)] == expected
        assert [alone.term(i) for i in alone.ids(chunk)] == expected
