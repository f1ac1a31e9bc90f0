"""What stands around the course agrees with it: the workflow, the dev container, Binder, the glossary, the references.

The three services do not run here: their files are parsed, and what they name is looked up.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ragkit import cli
from ragkit.evaluation.tune import default_config

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.name.split("_")[0]: path.name for path in (ROOT / "notebooks").glob("*.ipynb")}

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
BINDER = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
POST_BUILD = (ROOT / "binder" / "postBuild").read_text()
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
JOB = WORKFLOW["jobs"]["test"]
STEPS = JOB["steps"]


def without_comments(text: str) -> str:
    """JSON with comments, each on a line of its own, as JSON."""
    return re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


CONTAINER = json.loads(without_comments((ROOT / ".devcontainer" / "devcontainer.json").read_text()))


def inputs(action: str) -> dict[str, Any]:
    """What the workflow gives to ``action``."""
    (step,) = [step for step in STEPS if step.get("uses", "").startswith(f"actions/{action}@")]
    return step["with"]


def test_every_place_means_the_same_python():
    (binder,) = [d for d in BINDER["dependencies"] if d.startswith("python")]
    (conda,) = [d for d in ENVIRONMENT["dependencies"] if isinstance(d, str) and d.startswith("python")]
    assert {
        PYPROJECT["project"]["requires-python"].removeprefix(">="),
        PYPROJECT["tool"]["mypy"]["python_version"],
        PYPROJECT["tool"]["ruff"]["target-version"].replace("py3", "3."),
        conda.removeprefix("python>="),
        binder.removeprefix("python="),
        inputs("setup-python")["python-version"],
        re.fullmatch(r"python:([\d.]+)-\w+", CONTAINER["image"]).group(1),
    } == {"3.11"}


def test_every_place_runs_a_script_or_a_target_that_exists():
    commands = [step["run"] for step in STEPS if "run" in step]
    assert ".ci/run" in commands
    assert CONTAINER["postCreateCommand"] == "make setup"
    assert re.search(r'^make setup VENV="\$NB_PYTHON_PREFIX"$', POST_BUILD, re.MULTILINE)
    for script in (".ci/run", "binder/postBuild", "tests/make_env.sh"):
        assert os.access(ROOT / script, os.X_OK), script
        assert subprocess.run(["bash", "-n", ROOT / script], check=False).returncode == 0, script
    assert re.search(r"^setup:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_place_asks_for_the_cpu_build_of_torch():
    assert JOB["env"]["UV_TORCH_BACKEND"] == CONTAINER["containerEnv"]["UV_TORCH_BACKEND"] == "cpu"
    assert "export UV_TORCH_BACKEND=cpu " in POST_BUILD


def test_the_workflow_may_only_read_and_ends():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert inputs("checkout") == {"persist-credentials": False}
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is True
    assert JOB["timeout-minutes"] <= 120
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in STEPS if "uses" in step)


def test_the_workflow_caches_by_files_that_exist():
    cache = inputs("cache")
    assert JOB["env"]["RAGKIT_HOME"] == "${{ github.workspace }}/" + cache["path"]
    (hashed,) = re.findall(r"hashFiles\((.*?)\)", cache["key"])
    for pattern in [inputs("setup-python")["cache-dependency-path"], *re.findall(r"'(.*?)'", hashed)]:
        assert list(ROOT.glob(pattern)), pattern


def test_the_dev_container_forwards_the_port_of_make_lab():
    (port,) = re.findall(r"^PORT \?= (\d+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert CONTAINER["forwardPorts"] == [int(port)]
    assert list(CONTAINER["portsAttributes"]) == [port]


def test_comments_are_taken_out_of_json():
    assert json.loads(without_comments('// a\n{\n  // b\n  "c": "http://d"\n}')) == {"c": "http://d"}


def glossary() -> list[tuple[str, str, str]]:
    """Term, meaning, lessons."""
    text = (ROOT / "notebooks" / "glossary.md").read_text()
    return re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| (.+?) \|$", text, re.MULTILINE)


def test_the_glossary_is_in_order_and_explains_each_term_once():
    terms = [term.lower() for term, _, _ in glossary()]
    assert terms == sorted(terms)
    assert len(terms) == len(set(terms))
    assert len(terms) + 2 == sum(
        line.startswith("|") for line in (ROOT / "notebooks" / "glossary.md").read_text().splitlines()
    )


@pytest.mark.parametrize("name", ["glossary.md", "references.md"])
def test_a_lesson_is_named_by_the_link_that_leads_to_it(name):
    text = (ROOT / "notebooks" / name).read_text()
    for label, target in re.findall(r"\[([^]]+)\]\((\w+\.ipynb)\)", text):
        assert NOTEBOOKS.get(label.split()[0]) == target, label


def test_the_glossary_links_every_lesson_that_exists():
    coming = {lesson for _, _, lessons in glossary() for lesson in re.findall(r"(\w+) \(coming\)", lessons)}
    assert sorted(coming & NOTEBOOKS.keys()) == [], "no longer coming: make them links"
    assert all("](" in lessons or "(coming)" in lessons for _, _, lessons in glossary())


def test_an_identifier_is_the_one_of_its_link_and_stands_once():
    text = (ROOT / "notebooks" / "references.md").read_text()
    links = re.findall(r"\[(?:arXiv|doi|ACL Anthology) (.+?)\]\((.+?)\)", text)
    assert links
    for identifier, address in links:
        assert address.rstrip("/").endswith(f"/{identifier}"), address
    assert len({identifier for identifier, _ in links}) == len(links)


def test_the_workflow_that_the_readme_offers_runs_where_the_documents_are(tmp_path, monkeypatch, ragkit_home):
    """Its command, in a repository as the README describes it: `baseline.json` is written once with `--save`."""
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    job = yaml.safe_load(text)["jobs"]["answers"]
    steps, known = job["steps"], {step["uses"] for step in STEPS if "uses" in step}
    assert {step["uses"] for step in steps if "uses" in step} <= known
    assert steps[1]["with"]["python-version"] == inputs("setup-python")["python-version"]
    *_, install, command = [step["run"] for step in steps if "run" in step]
    (extras,) = re.findall(r"ragkit-workbench\[(.*?)\]", install)
    assert set(extras.split(",")) <= PYPROJECT["project"]["optional-dependencies"].keys()
    assert job["env"]["UV_TORCH_BACKEND"] == "cpu"

    (tmp_path / "docs").mkdir()
    for name, fact in {"tea": "Steep green tea for two minutes.", "coffee": "Grind coffee beans coarsely."}.items():
        (tmp_path / "docs" / f"{name}.md").write_text(f"# {name}\n\n{fact}\n")
    quotes = {"How long does tea steep?": ("tea", "two minutes"), "How are beans ground?": ("coffee", "coarsely")}
    lines = [{"question": q, "document": f"{name}.md", "quote": quote} for q, (name, quote) in quotes.items()]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    default_config().save(tmp_path / "pipeline.toml")
    monkeypatch.chdir(tmp_path)
    program, *arguments = command.split()
    assert program == "ragkit"
    assert cli.main([*arguments, "--save"]) == 0
    assert cli.main(arguments) == 0
    questions = json.loads((tmp_path / "baseline.json").read_text())["scores"]
    assert questions.keys() == quotes.keys()
