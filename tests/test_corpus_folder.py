"""A folder of one's own: every kind of file, every encoding, and what cannot be read."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from fpdf import FPDF

from ragkit.base import CorpusError, Section
from ragkit.corpus import folder, load_folder

kreuzberg = pytest.importorskip("kreuzberg", reason="the extra 'formats' is not installed")


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_a_folder_of_many_kinds_is_markdown(tmp_path):
    files = {
        "a.md": "# Guide\r\n\r\nUse `x`.\r\n",
        "b/c.rst": "Title\n=====\n\n.. literalinclude:: ../code.py\n",
        "b/plain.txt": "# Two\nlines.\n",
        "page.html": "<title>Page</title><h1>One</h1><p>Words</p><pre>x = 1\ny</pre>",
        "code.py": "x = 1\n",
        ".git/secret.md": "no",
    }
    corpus = load_folder(write(tmp_path / "my docs", files))
    assert corpus.name == "my docs"
    assert {d.id: (d.title, d.text) for d in corpus.documents} == {
        "a": ("Guide", "# Guide\n\nUse `x`."),
        "b/c": ("Title", "# Title\n\n```python\nx = 1\n```"),
        "b/plain": ("plain", "# Two\nlines."),
        "page": ("Page", "# One\n\nWords\n\n```\nx = 1\ny\n```"),
    }
    assert corpus.document("a").sections == (Section(("Guide",), 0, 9, 17),)
    assert corpus.document("b/plain").sections == (Section((), 0, 0, 12),)
    assert corpus.document("a").metadata == {"project": "my docs", "title": "Guide", "source": "a.md"}
    assert corpus.notes == {"files of another kind left out": 1}


def test_files_of_one_name_keep_their_own_ids(tmp_path):
    corpus = load_folder(write(tmp_path, {"a.md": "one", "a.rst": "two", "a.txt": "three", "b/a.md": "four"}))
    assert [d.id for d in corpus.documents] == ["a", "a.rst", "a.txt", "b/a"]


def test_what_cannot_be_read_is_named_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MAX_BYTES", 1000)
    files = {
        "good.txt": "words",
        "binary.md": b"\x89PNG\0\0",
        "blank.rst": " \n",
        "huge.txt": "x" * 1001,
        "broken.pdf": b"%PDF-1.4 and no more",
        "broken.docx": b"PK\x03\x04 and no more",
    }
    with pytest.warns(UserWarning, match=r"binary files left out: binary.md \(1\)"):
        corpus = load_folder(write(tmp_path, files))
    assert [d.id for d in corpus.documents] == ["good"]
    assert corpus.notes == {
        "binary files left out": 1,
        "files without words left out": 1,
        "docx files that cannot be read and are left out": 1,
        "pdf files that cannot be read and are left out": 1,
        "files above 0 MB left out": 1,
    }


def test_a_folder_that_is_not_there_or_has_no_documents(tmp_path):
    with pytest.raises(CorpusError, match="no such folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"it is empty.*expected .md"):
        load_folder(tmp_path)
    with pytest.raises(CorpusError, match="binary files left out: 1"):
        load_folder(write(tmp_path, {"a.txt": b"\xff\0\0\0\0\xff"}))


def test_a_name_that_is_not_utf_8_is_shown_as_far_as_it_goes(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("# Menu\n\nSoup.")
    corpus = load_folder(tmp_path)
    assert [document.id for document in corpus.documents] == ["caf\ufffd"]
    assert "caf\ufffd.md" in corpus.report().to_string()


def test_nothing_outside_the_folder_is_read(tmp_path):
    outside = write(tmp_path, {"secret.txt": "secret"}) / "secret.txt"
    root = write(
        tmp_path / "docs", {"a.rst": "x\n\n.. literalinclude:: ../secret.txt\n\n.. include:: /../secret.txt\n"}
    )
    (root / "link.txt").symlink_to(outside)
    (root / "inside.rst").write_text(f".. include:: {outside}\n\nwords\n")
    corpus = load_folder(root)
    assert {d.id: d.text for d in corpus.documents} == {"a": "x", "inside": "words"}


@pytest.mark.parametrize(
    ("page", "text", "title", "date"),
    [
        ("---\ntitle: Soil\ndate: 2024-01-01\n---\n\nTest it.\n", "Test it.", "Soil", "2024-01-01"),
        ("---\ntitle: Soil\nauthor: nobody\n...\n# Sand\n", "# Sand", "Soil", ""),
        ('+++\ntitle = "Compost"\n+++\nTurn it.\n', "Turn it.", "Compost", ""),
        ("---\n---\nWater.\n\n---\n\nMore.\n", "Water.\n\n---\n\nMore.", "page", ""),
        ("---\n\n# Prune\n\n---\n\nMore.\n", "---\n\n# Prune\n\n---\n\nMore.", "Prune", ""),
        ("---\nSow: [peas\n---\n", "---\nSow: [peas\n---", "page", ""),
    ],
    ids=["yaml", "dots", "toml", "empty", "a rule", "no yaml"],
)
def test_front_matter_is_no_text(page: str, text: str, title: str, date: str, tmp_path):
    (document,) = load_folder(write(tmp_path, {"page.md": page})).documents
    assert (document.text, document.title, document.metadata.get("date", "")) == (text, title, date)


def test_the_report_has_a_row_for_every_file(tmp_path):
    files = {
        "a.md": "# Guide\n\nEvery employee has thirty days of holiday in a year.",
        "b.png": b"\x89PNG",
        "c.md": " ",
    }
    with pytest.warns(UserWarning, match="files without words"):
        report = load_folder(write(tmp_path, files)).report()
    assert report["file"].tolist() == ["a.md", "b.png", "c.md"]
    assert report.loc[0, ["kind", "headings", "language", "left out"]].tolist() == ["md", 1, "eng", ""]
    assert report["left out"].tolist()[1:] == ["files of another kind left out", "files without words left out"]


def test_a_pdf_of_scans_is_named_as_one(tmp_path):
    scan = FPDF()
    scan.add_page()
    scan.rect(20, 20, 50, 50)
    scan.output(str(tmp_path / "scan.pdf"))
    (tmp_path / "a.md").write_text("# Guide\n\nOil the shears.")
    with pytest.warns(UserWarning, match=r"pdf files without text \(scans\?\) left out: scan\.pdf \(1\)"):
        load_folder(tmp_path)


GERMAN = "Grüße aus Köln: die Straße führt über die Brücke, und für Fußgänger ist sie schöner als früher. "


@pytest.mark.parametrize(
    "data",
    [
        GERMAN.encode("cp1252") * 5,
        GERMAN.encode("utf-8-sig"),
        GERMAN.encode("utf-16"),
        b"\xfe\xff" + GERMAN.encode("utf-16-be"),
    ],
    ids=["cp1252", "utf-8 with a mark", "utf-16", "utf-16 big endian"],
)
def test_texts_in_other_encodings_are_read(data: bytes, tmp_path):
    (page,) = load_folder(write(tmp_path, {"a.md": data})).documents
    assert page.text.startswith(GERMAN.strip())


def test_markdown_about_a_charset_is_still_utf_8(tmp_path):
    text = 'Grüße\n\n```html\n<meta charset="windows-1252">\n```'
    (page,) = load_folder(write(tmp_path, {"a.md": text})).documents
    assert page.text == text


@pytest.mark.parametrize(
    ("encoding", "words"), [("windows-1252", "Grüße für Köln"), ("shift_jis", "新しい文書を読む")], ids=str
)
def test_a_web_page_is_read_in_the_charset_that_it_declares(encoding: str, words: str, tmp_path):
    html = f"<html><head><meta charset='{encoding}'><title>T</title></head><body><h1>{words}</h1><p>x</body></html>"
    (page,) = load_folder(write(tmp_path, {"a.html": html.encode(encoding)})).documents
    assert (page.title, page.text) == ("T", f"# {words}\n\nx")


def test_web_pages_lose_no_text(tmp_path):
    files = {
        "no-body.html": "<html><head><title>T</title><h1>Guide</h1><p>All the text",
        "line-break.html": "<h2>Install<br>on Linux</h2><p>x</p>",
        "empty-cell.html": "<table><tr><th>a</th><th>b</th></tr><tr><td></td><td>2</td></tr></table>",
        "marked-section.html": "<h1>Privacy</h1><p>Before</p><![if !mso]><p>After</p>",
    }
    texts = {d.id: d.text for d in load_folder(write(tmp_path, files)).documents}
    assert texts["no-body"] == "# Guide\n\nAll the text"
    assert texts["line-break"].startswith("## Install on Linux\n")
    assert re.search(r"\| +\| 2 +\|", texts["empty-cell"])
    assert "Before" in texts["marked-section"]
    assert "After" in texts["marked-section"]
