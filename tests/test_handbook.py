"""The sample folder of lesson 02: its script makes what is committed, and each label stands where it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.base import Corpus
from ragkit.corpus import load_folder
from ragkit.workbench import load_labels

for needed in ("pdfplumber", "kreuzberg"):
    pytest.importorskip(needed, reason="the extra 'formats' is not installed")
pytest.importorskip("fpdf", reason="the extra 'test' is not installed")

HANDBOOK = Path(__file__).resolve().parent.parent / "data" / "handbook"


def read(folder: Path) -> Corpus:
    with pytest.warns(UserWarning, match=r"pages without text .*handbook.pdf 6 .*need a password .*salaries.pdf"):
        return load_folder(folder)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read(HANDBOOK)


def test_the_script_writes_what_is_committed(corpus, tmp_path):
    from make_handbook import write_handbook

    write_handbook(tmp_path)
    made = read(tmp_path)
    assert [document.id for document in made.documents] == ["handbook", "travel"]
    for document in made.documents:
        assert document.text == corpus.document(document.id).text
        assert document.pages == corpus.document(document.id).pages


def test_every_kind_of_fault_is_there_once(corpus):
    reports = {report.file: report for report in corpus.files}
    assert sorted(report.kind for report in corpus.files) == ["docx", "eml", "html", "md", "md", "pdf", "pdf", "txt"]
    assert reports["handbook.pdf"].without_text == (6,)
    assert reports["handbook.pdf"].dropped == ("Page # of 9", "Penrow Scales - Employee handbook 2026")
    assert [file for file, report in reports.items() if report.left_out] == ["salaries.pdf"]
    assert "| Own car | 0.30 euros a kilometre | shortest route |" in corpus.document("handbook").text


def test_every_label_is_found(corpus):
    labels = load_labels(HANDBOOK / "questions.jsonl", corpus)
    answered = [label for label in labels if label.gold]
    assert (len(labels), len(answered)) == (26, 23)
    assert {label.gold[0].doc_id for label in answered} == {document.id for document in corpus.documents}


def test_the_folder_is_small():
    assert sum(file.stat().st_size for file in HANDBOOK.rglob("*")) < 150_000
