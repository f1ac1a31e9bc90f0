"""The documentation corpora: fetching, archives that mean harm, manifests, pages, FAQ questions, the cache.

The index is a server of this test, and most pages are those of a small archive made here.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import ArchiveError, Corpus, CorpusError, FetchError, IntegrityError
from ragkit.corpus import load_pydocs, load_questions, pydocs, with_faq_headings
from ragkit.corpus.datasets import question_kinds, section_span
from ragkit.corpus.pydocs import read_archive
from ragkit.corpus.rst import fold

FILES: dict[str, str | bytes] = {
    "docs/index.rst": "Demo |version|\n==============\n\nSee :ref:`stopping`, :doc:`sub/page`.\n\n- How do I stop?\n",
    "docs/guide.rst": ".. _stopping:\n\nStop\n====\n\nPress *q*.\n\nHow do I stop?\n--------------\n\nLike that.\n",
    "docs/faq.md": "# FAQ\n\n## General\n\n### How do I stop?\n\nPress `q`.\n\n### Nothing?\n\n## A note\n\nWords.\n",
    "docs/sub/page.txt": "A page\n======\n\nWords.\n\n.. include:: ../includes/part.txt\n",
    "docs/includes/part.txt": "The part.\n",
    "docs/sub/other.md": "# The other page\n\nMore words.\n",
    "docs/empty.rst": ".. toctree::\n\n   guide\n",
    "docs/api.rst": "demo\n====\n\n.. automodule:: demo\n",
    "docs/changelog.rst": "Changes\n=======\n\n- one\n",
    "docs/whatsnew-2.0.rst": "New\n===\n",
    "docs/requirements.txt": "demo\n",
    "docs/latin.rst": "Gr\xfc\xdfe\n".encode("latin-1"),
    "docs/code.py": "raise SystemExit('run')\n",
    "README.rst": "Not below docs.\n",
}


def archive(files: Mapping[str, str | bytes] = FILES, *members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(f"demo-2.0/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in members:
            tar.addfile(member)
    return buffer.getvalue()


NAME = "demo-1.0.tar.gz"
NOWHERE = "http://127.0.0.1:9/simple/"


# Archives


def everything(name: str) -> bool:
    return True


def saved(folder: Path, data: bytes) -> Path:
    path = folder / NAME
    path.write_bytes(data)
    return path


def test_only_wanted_files_are_read(tmp_path):
    path = saved(tmp_path, archive({"a.rst": b"a", "b.py": b"b", "c.md": b""}))
    files = read_archive(path, lambda name: name.endswith((".rst", ".md")))
    assert files == {"demo-2.0/a.rst": b"a", "demo-2.0/c.md": b""}


def test_a_name_that_leaves_the_folder_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="leave its folder"):
        read_archive(saved(tmp_path, archive({"a.rst": b"a", "../../evil.rst": b"x"})), everything)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_never_followed(tmp_path, kind):
    link = tarfile.TarInfo("demo-2.0/link.rst")
    link.type, link.linkname = kind, "/etc/passwd"
    assert read_archive(saved(tmp_path, archive({"a.rst": b"a"}, link)), everything) == {"demo-2.0/a.rst": b"a"}


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(pydocs, "MAX_UNPACKED", 1 << 20)
    with pytest.raises(ArchiveError, match="unpacks to more than 1 MB"):
        read_archive(saved(tmp_path, archive({"bomb.rst": b"\0" * (8 << 20)})), everything)


def test_a_header_that_claims_terabytes_is_refused_before_it_is_read(tmp_path):
    huge = tarfile.TarInfo("demo-2.0/huge.bin")
    huge.size = 1 << 42
    path = saved(tmp_path, gzip.compress(huge.tobuf()))
    with pytest.raises(ArchiveError, match="has more than 16 MB"):
        read_archive(path, everything)
    with contextlib.suppress(ArchiveError):
        assert read_archive(path, lambda name: False) == {}


@given(cut=st.floats(0, 0.99))
def test_a_truncated_archive_is_an_archive_error(tmp_path_factory, cut):
    data = archive({"a.rst": bytes(range(256)) * 8, "b.rst": b"b" * 999})
    with pytest.raises(ArchiveError):
        read_archive(saved(tmp_path_factory.mktemp("cut"), data[: int(cut * len(data))]), everything)


@given(data=st.binary(max_size=400), base=st.booleans(), at=st.integers(0, 200), flip=st.integers(1, 255))
def test_no_bytes_make_anything_but_files_or_an_archive_error(tmp_path_factory, data, base, at, flip):
    if base:
        good = bytearray(archive({"a.rst": data}))
        good[at % len(good)] ^= flip
        data = bytes(good)
    path = saved(tmp_path_factory.mktemp("any"), data)
    with contextlib.suppress(ArchiveError):
        assert all(isinstance(content, bytes) for content in read_archive(path, everything).values())


@given(data=st.binary(max_size=1500))
def test_no_content_of_a_sound_gzip_makes_anything_but_files_or_an_archive_error(tmp_path_factory, data):
    path = saved(tmp_path_factory.mktemp("any"), gzip.compress(data))
    with contextlib.suppress(ArchiveError):
        read_archive(path, everything)


# Corpora


MANIFEST = """
[groups]
demo = ["demo"]

[[project]]
name = "demo"
version = "2.0"
file = "demo-2.0.tar.gz"
sha256 = "{sha256}"
docs = "docs"
licence = "MIT"
"""


@pytest.fixture
def demo(ragkit_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus of one project, whose archive is already there; the index it would ask does not exist."""
    monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
    data = archive()
    (ragkit_home / "downloads").mkdir(parents=True)
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").write_bytes(data)
    path = tmp_path / "demo.toml"
    path.write_text(MANIFEST.format(sha256=hashlib.sha256(data).hexdigest()))
    monkeypatch.setattr(pydocs, "data_file", lambda name: path)


def test_pages_become_documents(demo):
    corpus = load_pydocs("demo")
    assert corpus.name == "demo"
    assert {d.id: d.text for d in corpus.documents} == {
        "demo/api": "# demo",
        "demo/faq": "# FAQ\n\n## General\n\nPress `q`.\n\n## A note\n\nWords.",
        "demo/guide": "# Stop\n\nPress q.\n\nLike that.",
        "demo/latin": "Gr\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}e",
        "demo/index": "# Demo 2.0\n\nSee Stop, A page.",
        "demo/sub/other": "# The other page\n\nMore words.",
        "demo/sub/page": "# A page\n\nWords.\n\nThe part.",
    }
    assert corpus.document("demo/guide").metadata == {
        **{"project": "demo", "version": "2.0", "title": "Stop", "licence": "MIT"},
        "source": "demo-2.0/docs/guide.rst",
    }
    assert corpus.notes == {
        "release notes and lists left out": 4,
        "pages without words": 1,
        "pages with nothing but a heading": 1,
    }


def test_faq_headings_are_questions_with_gold_and_are_nowhere_in_the_corpus(demo):
    corpus = load_pydocs("demo")
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


def test_the_second_load_reads_the_cache_and_a_changed_cache_is_built_again(demo, ragkit_home):
    first = load_pydocs("demo")
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").unlink()
    again = load_pydocs("demo")
    assert again == first
    assert [d.sections for d in again.documents] == [d.sections for d in first.documents]
    assert again.fingerprint == first.fingerprint
    (cached,) = (ragkit_home / "corpora").glob("demo-*/corpus.json")
    cached.write_text(cached.read_text().replace("Press q.", "Press x."))
    with pytest.raises(FetchError):  # the archive is gone, so it cannot be built again; it is never believed
        load_pydocs("demo")


def test_another_parser_makes_another_cache(demo, ragkit_home, monkeypatch):
    load_pydocs("demo")
    monkeypatch.setattr(pydocs, "_PARSER_MODULES", ("rst",))
    load_pydocs("demo")
    assert len(list((ragkit_home / "corpora").glob("demo-*"))) == 2


def test_a_wrong_archive_on_disk_is_not_used(demo, ragkit_home):
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").write_bytes(archive({"docs/a.rst": "Another.\n"}))
    with pytest.raises((FetchError, IntegrityError)):
        load_pydocs("demo")


def test_an_unknown_corpus_names_those_that_there_are():
    with pytest.raises(CorpusError, match=r"no corpus 'huge'; there are: tiny, core, extended"):
        load_pydocs("huge")


def test_the_manifest_has_the_three_corpora():
    names = {
        group: [p.name for p in pydocs.read_projects("pydocs.toml", group)] for group in ("tiny", "core", "extended")
    }
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


def test_faq_headings_are_put_back_above_their_answers(core):
    kept = with_faq_headings(core)
    for before, after in zip(core.questions, kept.questions, strict=True):
        [gold] = after.gold
        text = kept.document(gold.doc_id).text
        assert text[: gold.start].endswith(f"### {before.text}\n\n")
        assert text[gold.start : gold.end] == before.answer
    added = sum(len(f"### {question.text}\n\n") for question in core.questions)
    assert sum(len(d.text) for d in kept.documents) == sum(len(d.text) for d in core.documents) + added
    for document, as_before in zip(kept.documents, core.documents, strict=True):
        assert [s.path for s in document.sections] == [s.path for s in as_before.sections]
        for section, old in zip(document.sections, as_before.sections, strict=True):
            assert document.text[section.start : section.body] == as_before.text[old.start : old.body]
        assert [s.end for s in document.sections[:-1]] == [s.start for s in document.sections[1:]]
