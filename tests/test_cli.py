"""The command line: results on stdout, everything else on stderr, and an exit code that a script can trust."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from endpoint import Endpoint

from ragkit import cli, doctor
from ragkit.base import Answer, Chunk, Citation, Corpus, Document, Question, Span
from ragkit.doctor import Finding
from ragkit.embedding import CachedEmbedder
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

ASKED = "Which bulbs fit?"


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small(small_corpus, ragkit_home, monkeypatch) -> Corpus:
    """``--corpus core`` is three short documents, and the model is a stand-in."""
    opened = TokenStore.open
    monkeypatch.setattr(TokenStore, "open", lambda corpus: opened(corpus, FakeEmbedder(), progress=False))
    monkeypatch.setattr("ragkit.corpus.load_pydocs", lambda name: small_corpus)
    return small_corpus


def run(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real ``ragkit`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ragkit.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr
    return done


# Ask


@pytest.mark.parametrize("preset", cli.PRESETS)
def test_ask_prints_answer_citation_and_times(preset, small, capsys):
    assert cli.main(["ask", ASKED, "--preset", preset]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "Only E27 bulbs with at most 40 watts fit. [1]" in lines
    assert "[1] lamp/guide: Lamp > Dimming" in lines  # its headings have no marks: the quote begins with the first
    assert lines[-2] == "writer: quotes"
    assert re.match(r"rewrite \d+ ms, retrieve \d+ ms, ", lines[-1])
    assert err == ""


def test_ask_as_json(small, capsys):
    assert cli.main(["ask", ASKED, "--json", "--k", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["question"] == ASKED
    assert (found["abstained"], found["writer"]) == (False, "quotes")
    assert len(found["hits"]) == 2
    assert list(found["timings"]) == ["rewrite", "retrieve", "rerank", "build", "generate", "total"]
    citation = found["citations"][0]
    chunk = citation["chunk"]
    assert small.document(chunk["doc_id"]).text[chunk["start"] : chunk["end"]] == chunk["text"]
    assert citation["quote"] in chunk["text"]


def test_ask_says_when_nothing_is_found(small, capsys):
    assert cli.main(["ask", "Who invented the telephone?"]) == 0
    assert capsys.readouterr().out.startswith("Not found in these documents.\n\n(")


def test_the_section_is_that_of_the_quote_not_of_the_chunk(small):
    document = small.document("kettle/guide")
    whole = Chunk(document.id, 0, len(document.text), document.text, document.section_at(0), {}, document.sections)
    answer = Answer("How?", "Use vinegar. [1]", citations=(Citation(1, whole, "Use vinegar."), Citation(1, whole)))
    for section in ("Cleaning", "Boiling"):
        assert f"[1] kettle/guide: Kettle > {section}" in cli.footnotes(answer)


def test_ask_a_folder(small, tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tea.md").write_text("# Tea\n\nGreen tea is brewed for two minutes.\n")
    assert cli.main(["ask", "How long is green tea brewed?", "--corpus", str(tmp_path / "docs")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Green tea is brewed for two minutes. [1]")
    assert "[1] tea: Tea" in out


def test_a_dead_endpoint_is_named_and_the_answer_comes_from_the_sources(small, monkeypatch, capsys):
    with Endpoint(faults=["401"]) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        assert cli.main(["ask", ASKED]) == 0
    out = capsys.readouterr().out
    assert "Only E27 bulbs" in out
    assert f"(answered by Extractive, because {endpoint.url}" in out
    assert "\nwriter: quotes\n" in out


def test_ask_names_the_endpoint_on_stderr_and_the_model_that_wrote(ragkit_home, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tea.md").write_text("# Tea\n\nGreen tea is brewed for two minutes.\n")
    arguments = ["ask", "How long is green tea brewed?", "--corpus", str(tmp_path / "docs")]
    with Endpoint("Two minutes. [1]") as endpoint:
        environment = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_MODEL": "m"}
        done = run(*arguments, **environment)
        assert "questions and sources are sent to " + endpoint.url + " (model m)\n" in done.stderr
        assert done.stdout.startswith("Two minutes. [1]\n\n[1] tea: Tea\nwriter: m\n")
        assert len(endpoint.requests) == 1
        done = run(*arguments, "--llm", "extractive", **environment)
        assert ("sent to" in done.stderr, len(endpoint.requests)) == (False, 1)


def test_ask_refuses_what_costs_too_much_before_anything_is_sent(small, monkeypatch, capsys):
    with Endpoint() as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        for model, message in (("gpt-4o-mini", "above max_cost, $1e-06"), ("m", "the price of 'm' is not known")):
            monkeypatch.setenv("OPENAI_MODEL", model)
            assert cli.main(["ask", ASKED, "--max-cost", "1e-6"]) == 2
            assert message in capsys.readouterr().err
        assert endpoint.requests == []
        assert cli.main(["ask", ASKED, "--max-cost", "0", "--llm", "extractive"]) == 0


@pytest.mark.parametrize(
    ("faults", "text"), [([], "E27 only. [1]\n\n[1] "), (["half"], "E27 only.\n\nThe answer, in place")]
)
def test_a_terminal_shows_the_answer_as_it_is_written(faults, text, small, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with Endpoint("E27 only. [1]", faults=faults) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        assert cli.main(["ask", ASKED]) == 0
    assert endpoint.requests[0]["stream"]
    out = capsys.readouterr().out
    assert out.startswith(text)
    assert f"\nwriter: {'quotes' if faults else 'gpt-4o-mini'}\n" in out


# Fetch and eval


def test_fetch_counts(small, capsys):
    assert cli.main(["fetch", "tiny", "--vectors"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("small: 3 documents, 3 questions\nvectors: ")


def test_fetch_tells_of_the_catalogues(capsys):
    assert cli.main(["fetch", "catalogues"]) == 0
    assert re.fullmatch(r"catalogues: \d+ English messages in 12 languages: es, .*\n", capsys.readouterr().out)


def test_eval_prints_the_table(small, capsys):
    assert cli.main(["eval", "--k", "3"]) == 0
    out, err = capsys.readouterr()
    assert "naive" in out
    assert "advanced" in out
    assert "baseline" in out
    assert "mrr@3" in out
    assert "Traceback" not in err


LABELS = [
    ("How long is green tea brewed?", "tea.md", "brewed for two minutes"),
    ("What is black tea made of?", "tea.md", "fermented leaves"),
    ("Where does coffee grow?", "coffee.md", "grows in the shade"),
]


@pytest.fixture
def drinks(small, tmp_path):
    """A folder with two documents and its labels."""
    folder = tmp_path / "drinks"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nGreen tea is brewed for two minutes.\n\nBlack tea is fermented leaves.\n")
    (folder / "coffee.md").write_text("# Coffee\n\nIt grows in the shade.\n")
    lines = [json.dumps({"question": q, "document": d, "quote": quote}) for q, d, quote in LABELS]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("given", [False, True])
def test_eval_takes_the_labels_of_a_folder(given, drinks, capsys):
    arguments = ["--questions", str(drinks / "questions.jsonl")] * given
    assert cli.main(["eval", "--corpus", str(drinks), "--preset", "naive", "--preset", "advanced", *arguments]) == 0
    assert "3 questions in 2 documents" in capsys.readouterr().out


def test_a_folder_without_labels_says_what_a_label_is(drinks, capsys):
    (drinks / "questions.jsonl").unlink()
    assert cli.main(["eval", "--corpus", str(drinks)]) == 2
    error = capsys.readouterr().err
    assert 'expected a text in UTF-8 with lines such as {"question": ' in error
    assert "`ragkit draft FOLDER --out FILE` drafts some" in error


def test_check_saves_scores_and_closes_where_they_are_lost(drinks, tmp_path, capsys):
    arguments = ["check", "--corpus", str(drinks), "--preset", "naive", "--baseline", str(tmp_path / "scores.json")]
    assert cli.main(arguments) == 2
    assert "ragkit check --save" in capsys.readouterr().err
    assert cli.main([*arguments, "--save"]) == 0
    today = tmp_path / "today.json"
    assert cli.main([*arguments, "--out", str(today)]) == 0
    assert "coverage@2000 on 3 questions" in capsys.readouterr().out
    assert today.read_text() == (tmp_path / "scores.json").read_text()
    saved = json.loads((tmp_path / "scores.json").read_text())
    better = saved | {"scores": {text: score + 1 for text, score in saved["scores"].items()}}
    (tmp_path / "scores.json").write_text(json.dumps(better))
    assert cli.main(arguments) == 1
    assert "worse: the interval leaves out 0" in capsys.readouterr().out


def test_drafted_questions_are_labels_that_eval_reads(drinks, capsys):
    page = "# Pots\n\nTo clean a brown tea pot, pour vinegar into it and wait for an hour.\n\n"
    page += "A samovar is a large urn that keeps water hot for a whole afternoon of drinking tea.\n"
    (drinks / "pots.md").write_text(page)
    assert cli.main(["draft", str(drinks)]) == 0
    assert "How do I clean a brown tea pot?  [pots]" in capsys.readouterr().out
    out = str(drinks / "draft.jsonl")
    assert cli.main(["draft", str(drinks), "--out", out]) == 0
    assert cli.main(["eval", "--corpus", str(drinks), "--preset", "naive", "--questions", out]) == 0
    assert "2 questions in 1 document" in capsys.readouterr().out
    assert cli.main(["draft", str(drinks), "--out", out]) == 2
    assert "is there already" in capsys.readouterr().err


def test_fetch_reports_every_file_of_a_folder(drinks, capsys):
    (drinks / "picture.png").write_bytes(b"\x89PNG")
    assert cli.main(["fetch", str(drinks)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"tea\.md +md", out)
    assert re.search(r"picture\.png +png .* files of another kind left out", out)


def test_a_warning_is_one_line(drinks):
    (drinks / "broken.pdf").write_bytes(b"%PDF-1.4")
    done = run("fetch", str(drinks))
    assert done.stderr == "ragkit: drinks: pdf files that cannot be read and are left out: broken.pdf (1)\n"


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "  "], "query is '  '"),
        (["ask", ASKED, "--k", "0"], "k is 0"),
        (["ask", ASKED, "--corpus", "nowhere"], "no corpus 'nowhere': expected tiny, core, extended, or a folder"),
        (["eval", "--corpus", "nowhere"], "no corpus 'nowhere'"),
        (["fetch", "nowhere"], "no corpus 'nowhere'"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ragkit: ")
    assert message in err
    assert err.count("\n") == 1


def test_an_unknown_llm_is_an_error(small, capsys):
    assert cli.main(["ask", ASKED, "--llm", "best"]) == 2
    assert "llm is 'best': expected an LLM, 'extractive', 'local', 'openai', or the path" in capsys.readouterr().err


def test_an_empty_folder_is_an_error(tmp_path, capsys):
    assert cli.main(["ask", ASKED, "--corpus", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_full_disk_is_an_error_in_one_line(small, monkeypatch, capsys):
    def full(corpus: Corpus) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TokenStore, "open", full)
    assert cli.main(["ask", ASKED]) == 2
    assert capsys.readouterr().err == "ragkit: [Errno 28] No space left on device\n"


def test_a_home_that_cannot_be_written_is_named(small, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "file" / "home"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tea.md").write_text("# Tea\n\nGreen tea brews at 70 degrees.")
    assert cli.main(["ask", ASKED, "--corpus", str(tmp_path / "docs")]) == 2
    assert "make it writable, or set $RAGKIT_HOME to another folder\n" in capsys.readouterr().err


def test_a_file_of_labels_that_cannot_be_used_has_a_line_for_each_of_its_lines(drinks, capsys):
    (drinks / "questions.jsonl").write_text('{"question": " "}\n{}\n')
    assert cli.main(["eval", "--corpus", str(drinks)]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith("questions.jsonl: 2 of 2 cannot be used")
    assert [line[:9] for line in others] == ["  line 1:", "  line 2:"]


def test_tune_asks_for_the_name_of_a_file_before_it_begins(drinks, capsys):
    assert cli.main(["tune", "--corpus", str(drinks), "--out", str(drinks)]) == 2
    assert "is a folder, expected the name of a file" in capsys.readouterr().err


def test_interrupted(small, monkeypatch, capsys):
    def interrupt(corpus: Corpus) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TokenStore, "open", interrupt)
    assert cli.main(["ask", ASKED]) == 130
    assert capsys.readouterr().err == "ragkit: interrupted\n"


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["ask"], ["ask", ASKED, "--preset", "best"], ["ask", "?", "--k=x"]]
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "usage: ragkit" in capsys.readouterr().err


# Doctor


def test_tune_writes_a_configuration_that_ask_and_eval_run(small, tmp_path, monkeypatch, capsys):
    spans = [Span(d.id, section.body, section.end) for d in small.documents for section in d.sections]
    asked = tuple(Question(f"q{n}", small.document(s.doc_id).text[s.start : s.end], (s,)) for n, s in enumerate(spans))
    more = (Document("fan/guide", "Speed\nPull the cord.\n"), *small.documents)
    gold = (Span("fan/guide", 6, 20),)
    corpus = Corpus("more", more, (*asked, Question("fan", "Pull what?", gold)))
    monkeypatch.setattr("ragkit.corpus.load_pydocs", lambda name: corpus)
    (tmp_path / "grid.toml").write_text("size = [32, 64]\noverlap = 0\nchunker = 'fixed'\nfetch_k = 3\n")
    arguments = ["--questions", "faq", "--grid", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "best.toml")]
    assert cli.main(["tune", *arguments]) == 0
    out = capsys.readouterr().out
    assert "28 configurations on" in out
    assert "On the other" in out
    assert "chosen: the start" in out
    config = ["--config", str(tmp_path / "best.toml")]
    assert cli.main(["ask", ASKED, *config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == ASKED
    assert cli.main(["eval", *config, "--preset", "naive"]) == 0
    assert "best.toml" in capsys.readouterr().out


def test_cache_shows_and_prunes(ragkit_home, capsys):
    cached = CachedEmbedder(FakeEmbedder(dimension=1000))
    cached.encode(["red", "blue"])
    cached.encode(["red"], "query")
    assert cli.main(["cache"]) == 0
    assert re.fullmatch(r"3 vectors, 0\.\d MB, in .*vectors\.db\n", capsys.readouterr().out)
    assert cli.main(["cache", "--keep", "0"]) == 0
    assert capsys.readouterr().out.startswith("0 vectors, 0.0 MB")
    for typo in ("-1", "nan"):
        assert cli.main(["cache", "--keep", typo]) == 2
        assert capsys.readouterr().err.endswith("expected 0 or more megabytes\n")


def test_a_locked_file_is_an_error_in_one_line(ragkit_home, monkeypatch, capsys):
    def locked(*_: object) -> None:
        raise sqlite3.OperationalError("vectors.db: database is locked")

    monkeypatch.setattr("ragkit.embedding.cache.VectorTable.evict", locked)
    assert cli.main(["cache", "--keep", "1"]) == 2
    assert capsys.readouterr().err == "ragkit: vectors.db: database is locked\n"


def test_doctor_finds_a_new_machine_in_order(ragkit_home, capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == list(doctor.CHECKS)
    states = {line.split()[1]: line.split()[0] for line in lines}
    assert states == {name: "todo" if name in ("tiny", "core", "llm") else "ok" for name in doctor.CHECKS}
    assert any(line.endswith("-> ragkit fetch core") for line in lines)
    assert not ragkit_home.exists()


def test_doctor_fails_for_what_does_not_work(ragkit_home, monkeypatch, capsys):
    with Endpoint() as endpoint:
        url = endpoint.url
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert cli.main(["doctor"]) == 0
        assert f"{url} accepts connections, key not set" in capsys.readouterr().out
        monkeypatch.delenv("OPENAI_BASE_URL")
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        assert cli.main(["doctor"]) == 0
        assert "written on this machine; $OPENAI_API_KEY alone sends nothing" in capsys.readouterr().out
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    assert cli.main(["doctor"]) == 1
    assert f"fail  endpoint  {url} does not answer" in capsys.readouterr().out


def test_doctor_sees_damage(ragkit_home, small_corpus, monkeypatch, capsys):
    monkeypatch.setitem(doctor.CHECKS, "model", lambda: Finding("fail", "missing", "install it"))
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    assert "verified" in doctor._store(small_corpus)
    assert store.n_tokens > 0
    file = max(ragkit_home.glob("token_store/*/*.tokens"), key=lambda f: f.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr(doctor, "corpus", lambda name: doctor._store(small_corpus))
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fail  model     missing  -> install it" in out
    assert "fail  core" in out
    assert file.name in out


def test_doctor_names_stores_that_nothing_reads_and_leaves_them(ragkit_home, small_corpus, monkeypatch):
    assert doctor.stores().state == "ok"
    TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    assert doctor.stores().state == "ok"
    old, unfinished = (ragkit_home / "token_store" / "0123" / name for name in ("docs-4567", "other.partial"))
    for folder in (old, unfinished):
        folder.mkdir(parents=True)
    (old / "manifest.json").write_text('{"settings": {"format": 2}, "files": {}}')
    found = doctor.stores()
    assert found.state == "todo"
    assert f"{old} (format 2, this version reads 3; 0 MB)" in found.text
    assert f"{unfinished} (an unfinished build of an older version; 0 MB)" in found.text
    assert found.do.startswith("delete to free 0 MB")
    assert doctor._store(small_corpus).startswith("vectors verified")
    assert old.is_dir()
    assert unfinished.is_dir()


# Real processes


def test_a_warm_answer_needs_little_time(tiny):
    run("ask", "warm", "--corpus", "tiny")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("ask", "Why is my file not formatted?", "--corpus", "tiny", "--json", OMP_NUM_THREADS="1")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time: the clock also measures what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
    assert json.loads(done.stdout)["citations"][0]["chunk"]["doc_id"].startswith("black/")
    assert done.stderr == ""


def test_ask_loads_no_torch(tiny):
    code = (
        "import sys; from ragkit.cli import main; main(['ask', 'How do I format a file?', '--corpus', 'tiny']);"
        "sys.exit(bool({'torch', 'transformers', 'pandas', 'openai', 'docutils'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_closed_pipe_is_no_error(tmp_path: Path):
    process = subprocess.Popen(
        f"{shlex.quote(sys.executable)} -m ragkit.cli doctor | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAGKIT_HOME": str(tmp_path)},
    )
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_help_names_every_command():
    out = run("--help").stdout
    for command in ("fetch", "ask", "serve", "eval", "cache", "doctor"):
        assert command in out
    assert "--json" in run("ask", "--help").stdout
