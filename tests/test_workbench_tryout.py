"""From a folder to a report: what was read, asked, chosen and lost, in one file that escapes every text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ragkit import cli
from ragkit.base import InputError
from ragkit.evaluation.tune import Grid, default_config
from ragkit.notebook.report import ADVICE, report_html
from ragkit.workbench.tryout import try_folder

EVIL = "<script>alert(1)</script>"
THINGS = ("kettle", "lamp", "radio", "toaster", "heater")
GRID = Grid(chunker=("fixed",), size=(256,), overlap=(0,), contextual=(False,), retriever=("bm25",), rerank=(False,))


@pytest.fixture
def manual(tmp_path, ragkit_home):
    """A folder of five pages; two sentences of each give a question."""
    folder = tmp_path / "manual"
    folder.mkdir()
    for thing in THINGS:
        page = (
            f"# {thing}\n\nTo clean the {thing} after a long winter, use vinegar and warm water, and dry it. {EVIL}\n\n"
        )
        page += f"The {thing} switch is the red lever on its left side, and it must not be touched with wet hands.\n"
        (folder / f"{thing}.md").write_text(page)
    (folder / "photo.png").write_bytes(b"\x89PNG")
    return folder


def labelled(folder, count: int = 5) -> None:
    lines = [{"question": f"How do I clean the {t}? {EVIL}", "document": f"{t}.md", "quote": "vinegar"} for t in THINGS]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:count]))


def test_a_folder_with_labels_is_tuned_on_them(manual):
    labelled(manual)
    steps = []
    result = try_folder(manual, grid=GRID, step=steps.append)
    assert not result.drafted
    assert len(result.questions) == 5
    assert result.tuned is not None
    assert result.chosen.fingerprint == result.tuned.chosen.fingerprint
    assert [len(step) > 0 for step in steps] == [True] * 5
    assert sum(map(len, result.lost.values())) == 5
    assert set(result.lost) <= set(ADVICE)
    assert "vinegar" in result.answers[0].text


def test_without_labels_questions_are_drafted_and_the_report_says_so(manual):
    result = try_folder(manual, grid=GRID)
    assert result.drafted
    assert len(result.questions) == 10
    assert result.tuned is not None
    assert result.chosen.fingerprint == default_config().fingerprint
    page = report_html(result)
    assert "drafted by rules" in page
    assert "5 files were read, 1 were left out" in page
    assert "photo.png" in page
    assert EVIL not in page
    assert page.count("<h2>") == 7
    assert "could be drafted" not in page
    assert "Only 9 questions could be drafted" in report_html(replace(result, questions=result.questions[:9]))


def test_the_report_shows_cited_pages_and_questions_whose_answer_was_not_read(manual, monkeypatch):
    fpdf = pytest.importorskip("fpdf", reason="the extra 'test' is not installed")
    paper = fpdf.FPDF()
    paper.set_font("Helvetica", size=11)
    paper.add_page()
    paper.multi_cell(0, 6, "The guarantee covers all kitchen appliances for three years after they were bought.")
    paper.add_page()  # as a scan
    paper.output(str(manual / "guarantee.pdf"))
    lines = [{"question": "How long is the guarantee?", "document": "guarantee.pdf", "quote": "for three years"}]
    lines += [{"question": "Who signs it?", "document": "guarantee.pdf", "quote": "signed by the dealer"}]
    lines += [{"question": "What is on the photo?", "document": "photo.png", "quote": "a kettle"}]
    lines += [{"question": f"Which is the switch of the {t}?", "document": f"{t}.md", "quote": "red"} for t in THINGS]
    (manual / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = try_folder(manual, grid=GRID)
    assert result.lost["not parsed"] == ["Who signs it?", "What is on the photo?"]
    assert sum(map(len, result.lost.values())) == len(lines)
    assert len(result.answers) == len(result.questions) == len(lines) - 2
    page = report_html(result)
    assert "<summary>guarantee.pdf, page 1, with the quotes marked</summary><img alt=" in page
    assert "these pages of it have no text: 2" in page
    assert "nothing of photo.png was read" in page
    assert f"of {len(lines)} questions" in page
    assert 100_000 > len(page) > len(page.replace("data:image/png;base64,", ""))
    monkeypatch.setattr("ragkit.notebook.report.PICTURES", 100)
    assert "data:image" not in (small := report_html(result))
    assert "to keep this file small" in small


def test_too_few_documents_to_tune_leave_the_preset(manual):
    labelled(manual, 3)
    result = try_folder(manual, grid=GRID)
    assert result.tuned is None
    assert result.chosen.fingerprint == default_config().fingerprint
    assert "too few to choose" in report_html(result)
    labelled(manual, 1)
    with pytest.raises(InputError, match="1 questions with an answer"):
        try_folder(manual)


def test_try_writes_a_folder_that_ask_runs_and_replaces_only_its_own(manual, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ragkit.workbench.tryout.GRID", GRID)
    labelled(manual)
    out = tmp_path / "out"
    assert cli.main(["try", str(manual), "--out", str(out)]) == 0
    assert {file.name for file in out.iterdir()} == {"report.html", "pipeline.toml", "manifest.json"}
    kilobytes = (out / "report.html").stat().st_size / 1000
    assert f"report.html ({kilobytes:,.0f} kB) and" in capsys.readouterr().out
    arguments = ["--config", str(out / "pipeline.toml"), "--corpus", str(manual)]
    assert cli.main(["ask", "How do I clean the lamp?", *arguments]) == 0
    assert "vinegar" in capsys.readouterr().out
    assert cli.main(["try", str(manual), "--out", str(manual / "report")]) == 2
    assert "inside the folder that is read" in capsys.readouterr().err
    settings = (out / "pipeline.toml").read_text()
    (out / "pipeline.toml").write_text(settings + "# mine")
    assert cli.main(["try", str(manual), "--out", str(out)]) == 2
    assert "was edited since it was written" in capsys.readouterr().err
    assert (out / "pipeline.toml").read_text().endswith("# mine")
    (out / "pipeline.toml").write_text(settings)
    (out / "notes.txt").write_text("mine")
    assert cli.main(["try", str(manual), "--out", str(out)]) == 2
    assert "holds 1 files that are not known to be ragkit's, such as notes.txt" in capsys.readouterr().err
