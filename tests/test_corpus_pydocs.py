"""The documentation corpora: manifests, pages, FAQ questions, the cache. Most run on a small archive made here."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ragkit.base import Corpus, CorpusError, FetchError, IntegrityError
from ragkit.corpus import load_pydocs, load_questions, pydocs
from ragkit.corpus.datasets import question_kinds, section_span
from ragkit.corpus.markup import fold
from ragkit.files import data_file

FILES: dict[str, str | bytes] = {
    "docs/index.rst": "Demo |version|\n==============\n\nSee :ref:`stopping`, :doc:`sub/page`.\n\n- How do I stop?\n",
    "docs/guide.rst": ".. _stopping:\n\nStop\n====\n\nPress *q*.\n\nHow do I stop?\n--------------\n\nLike that.\n",
    "docs/faq.md": "# FAQ\n\n## General\n\n### How do I stop?\n\nPress `q`.\n\n### Nothing?\n\n## A note\n\nWords.\n",
    "docs/sub/page.txt": "A page\n======\n\nWords.\n\n.. include:: part.txt\n",
    "docs/sub/part.txt": "The part.\n",
    "docs/sub/page.md": "# The other page\n\nMore words.\n",
    "docs/empty.rst": ".. toctree::\n\n   guide\n",
    "docs/api.rst": "demo\n====\n\n.. automodule:: demo\n",
    "docs/changelog.rst": "Changes\n=======\n\n- one\n",
    "docs/whatsnew-2.0.rst": "New\n===\n",
    "docs/requirements.txt": "demo\n",
    "docs/latin.rst": "Gr\xfc\xdfe\n".encode("latin-1"),
    "docs/code.py": "raise SystemExit('run')\n",
    "README.rst": "Not below docs.\n",
}


def archive(files: Mapping[str, str | bytes] = FILES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(f"demo-2.0/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


MANIFEST = """
[[project]]
name = "demo"
version = "2.0"
file = "demo-2.0.tar.gz"
sha256 = "{sha256}"
docs = "docs"
licence = "MIT"
"""


@pytest.fixture
def manifest(ragkit_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of one project whose archive is already there; the index it would ask does not exist."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    data = archive()
    (ragkit_home / "downloads").mkdir(parents=True)
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").write_bytes(data)
    path = tmp_path / "mine.toml"
    path.write_text(MANIFEST.format(sha256=hashlib.sha256(data).hexdigest()))
    return path


def test_a_manifest_of_your_own(manifest):
    corpus = load_pydocs(manifest=manifest)
    assert corpus.name == "mine"
    assert {d.id: d.text for d in corpus.documents} == {
        "demo/api": "# demo",
        "demo/faq": "# FAQ\n\n## General\n\nPress `q`.\n\n## A note\n\nWords.",
        "demo/guide": "# Stop\n\nPress q.\n\nLike that.",
        "demo/index": "# Demo 2.0\n\nSee Stop, A page.",
        "demo/sub/page": "# The other page\n\nMore words.",
        "demo/sub/page.txt": "# A page\n\nWords.\n\nThe part.",
    }
    assert corpus.document("demo/guide").metadata == {
        **{"project": "demo", "version": "2.0", "title": "Stop", "licence": "MIT"},
        "source": "demo-2.0/docs/guide.rst",
    }
    assert corpus.notes == {
        "release notes and lists left out": 3,
        "files that are not UTF-8 left out": 1,
        "files that are part of another page": 1,
        "pages without words": 1,
        "pages with nothing but a heading": 1,
        "FAQ questions without an answer left out": 1,
    }


def test_faq_headings_are_questions_with_gold_and_are_nowhere_in_the_corpus(manifest):
    corpus = load_pydocs(manifest=manifest)
    (question,) = corpus.questions
    assert (question.id, question.text) == ("demo/faq#1", "How do I stop?")
    assert (question.tags, question.answer) == (("faq", "demo"), "Press `q`.")
    (gold,) = question.gold
    faq = corpus.document("demo/faq")
    assert faq.text[gold.start : gold.end] == "Press `q`."
    assert faq.section_at(gold.start) == ("FAQ", "General")
    assert_no_trace(corpus)


def assert_no_trace(corpus: Corpus) -> None:
    asked = {fold(q.text) for q in corpus.questions if "faq" in q.tags}
    for document in corpus.documents:
        assert not asked & {fold(line) for line in document.text.split("\n")}, document.id
        assert not asked & {fold(name) for s in document.sections for name in s.path}, document.id
        assert fold(document.title) not in asked


def test_the_second_load_reads_the_cache_and_a_changed_cache_is_built_again(manifest, ragkit_home):
    first = load_pydocs(manifest=manifest)
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").unlink()
    again = load_pydocs(manifest=manifest)
    assert again == first
    assert [d.sections for d in again.documents] == [d.sections for d in first.documents]
    assert again.fingerprint == first.fingerprint
    (cached,) = (ragkit_home / "corpora").glob("demo-*/documents.jsonl")
    cached.write_text(cached.read_text().replace("Press q.", "Press x."))
    with pytest.raises(FetchError):  # the archive is gone, so it cannot be built again; it is never believed
        load_pydocs(manifest=manifest)


def test_another_parser_makes_another_cache(manifest, ragkit_home, monkeypatch):
    load_pydocs(manifest=manifest)
    monkeypatch.setattr(pydocs, "_PARSER_MODULES", ("markup",))
    load_pydocs(manifest=manifest)
    assert len(list((ragkit_home / "corpora").glob("demo-*"))) == 2


def test_a_wrong_archive_on_disk_is_not_used(manifest, ragkit_home):
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").write_bytes(archive({"docs/a.rst": "Another.\n"}))
    with pytest.raises((FetchError, IntegrityError)):
        load_pydocs(manifest=manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: "", "no \\[\\[project\\]\\] table"),
        (lambda s: "[[project", "cannot be read"),
        (lambda s: s.replace('"MIT"', "3"), "needs the texts licence"),
        (lambda s: s.replace('docs = "docs"', ""), "needs the texts docs"),
        (lambda s: s.replace('sha256 = "', 'sha256 = "z'), "64 lowercase hexadecimal"),
        (lambda s: s.replace('docs = "docs"', 'docs = "../docs"'), "not a plain name"),
        (lambda s: s.replace('name = "demo"', 'name = "../demo"'), "not a plain name"),
        (lambda s: '[groups]\ncore = ["other"]\n' + s, "which have no"),
    ],
)
def test_a_manifest_that_is_wrong_says_how(manifest, change, message):
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises(CorpusError, match=message):
        load_pydocs(manifest=manifest)


def test_unknown_corpora_and_manifests(manifest):
    with pytest.raises(CorpusError, match=r"no corpus 'huge'.*there are: tiny, core, extended"):
        load_pydocs("huge")
    manifest.write_text('[groups]\nsmall = ["demo"]\n' + manifest.read_text())
    assert len(load_pydocs("small", manifest=manifest).documents) == 6
    assert len(load_pydocs(manifest=manifest).documents) == 6  # no group named: all projects
    with pytest.raises(CorpusError, match="there are: small"):
        load_pydocs("large", manifest=manifest)
    with pytest.raises(CorpusError, match="cannot be read"):
        load_pydocs(manifest=manifest.parent / "nowhere.toml")


def test_the_manifest_of_ragkit_has_the_three_corpora():
    path = data_file("pydocs.toml")
    names = {group: [p.name for p in pydocs.read_projects(path, group)] for group in ("tiny", "core", "extended")}
    assert names["tiny"] == names["core"][:3] == ["black", "gunicorn", "aiohttp"]
    assert not set(names["core"]) & set(names["extended"])


# The real documents


def test_tiny_is_sound(tiny):
    assert len(tiny.documents) > 80
    for document in tiny.documents:
        assert document.sections[0].start == 0
        assert document.sections[-1].end == len(document.text)
        for section, following in zip(document.sections, document.sections[1:], strict=False):
            assert section.end == following.start
        for section in document.sections:
            if section.body > section.start:
                marks = "#" * min(6, len(section.path))
                assert document.text[section.start : section.body].strip() == f"{marks} {section.path[-1]}"
        assert {"project", "version", "title", "source", "licence"} == set(document.metadata)


def test_every_faq_answer_of_core_starts_and_ends_on_words(core):
    assert 110 <= len(core.questions) <= 130
    assert {q.tags[1] for q in core.questions} == {"black", "gunicorn", "aiohttp", "celery", "scrapy"}
    for question in core.questions:
        (gold,) = question.gold
        answer = core.document(gold.doc_id).text[gold.start : gold.end]
        assert answer == question.answer
        assert answer == answer.strip() != ""
        assert question.text.endswith("?")
    assert_no_trace(core)


@pytest.mark.parametrize(
    ("doc", "path", "words"),
    [
        ("celery/userguide/workers", ("Workers Guide", "Stopping the worker"), "should be accomplished using the TERM"),
        ("scrapy/topics/settings", ("Settings", "Built-in settings reference", "FTP_USER"), 'Default: `"anonymous"`'),
        ("gunicorn/reference/settings", ("Settings", "Worker Processes", "max_requests"), "--max-requests INT"),
        ("black/faq", ("Frequently Asked Questions",), "Yes, there is support for PyPy"),
        ("aiohttp/client_reference", ("Client Reference", "Client Session"), "ClientSession(base_url=None"),
    ],
)
def test_pages_say_what_a_reader_of_the_site_sees(core, doc, path, words):
    document = core.document(doc)
    at = document.text.index(words)
    assert document.section_at(at) == path


# The written questions


def test_written_questions_have_gold_in_core(core):
    for kind in question_kinds():
        for question in load_questions(kind, core):
            assert bool(question.gold) == (kind != "unanswerable")
            for span in question.gold:
                words = core.document(span.doc_id).text[span.start : span.end]
                assert words == words.strip() != ""


def test_questions_about_documents_that_are_not_there_are_left_out(tiny, core):
    assert 0 < len(load_questions("keyword", tiny)) < len(load_questions("keyword", core))


def test_an_unknown_kind_and_an_unknown_section(tiny):
    with pytest.raises(ValueError, match=r"there are: .*keyword"):
        load_questions("riddle", tiny)
    with pytest.raises(CorpusError, match="FAQ > Nowhere' is not there"):
        section_span(tiny.document("gunicorn/faq"), ("FAQ", "Nowhere"))
