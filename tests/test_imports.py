"""The shape of the package: its public names, the one direction of its imports, what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ragkit

PACKAGE = Path(ragkit.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# A module imports only what stands before it. The last four may import everything; nothing imports them.
ORDER = (
    *(
        "base",
        "figures",
        "files",
        "fetch",
        "concurrency",
        "tokens",
        "llm",
        "markdown",
        "corpus",
        "chunking",
        "embedding",
        "languages",
    ),
    *("token_store", "retrieval", "training", "generation"),
    *("pipeline", "evaluation", "workbench", "production"),
)
TOP = ("testing", "notebook", "doctor", "cli")

HEAVY = ("torch", "faiss", "transformers", "sentence_transformers", "pandas", "plotly", "docutils", "bm25s", "openai")


def test_public_names_are_pinned():
    names = (
        "Document Span Question Chunk Hit Answer Corpus load_pydocs load_folder load_beir load_squad "
        "FixedChunker SentenceChunker RecursiveChunker HeadingChunker SemanticChunker chunk_corpus load_embedder "
        "TokenStore "
        "BM25Retriever DenseRetriever Hybrid Reranked LateInteraction CrossEncoder "
        "RAGPipeline naive advanced modular compare RagkitError InputError MissingExtraError CorpusError FetchError "
        "ArchiveError IntegrityError StoreMismatchError ModelNotFoundError EndpointError ContractError"
    )
    assert " ".join(ragkit.__all__) == names


@pytest.mark.parametrize("name", ragkit.__all__)
def test_public_name_can_be_imported_and_says_what_it_is(name):
    assert getattr(ragkit, name).__doc__
    assert name in dir(ragkit)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ragkit.nonsense


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in SOURCES if path.stat().st_size}


def imports(tree: ast.Module) -> Iterator[str]:
    """Every ragkit module that ``tree`` imports, in functions and for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ragkit")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if (node.module or "").split(".")[0] == "ragkit":
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in MODULES else str(node.module) for name in inner)


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"ragkit"}))
def test_imports_go_one_way(name):
    here = name.split(".")[1]
    assert here in ORDER + TOP, f"{name}: give it a place in ORDER"
    if here in TOP:
        return
    for target in imports(MODULES[name]):
        assert target != "ragkit", f"{name} imports from ragkit itself: name the module"
        there = target.split(".")[1]
        assert there in ORDER, f"{name} imports {target}, which nothing may import"
        assert ORDER.index(there) <= ORDER.index(here), f"{name} imports {target}, which stands below it"


def test_there_is_no_cycle():
    graph = {name: set(imports(tree)) - {name} for name, tree in MODULES.items() if name != "ragkit"}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_print_and_no_keyword_pass_through(name):
    for node in ast.walk(MODULES[name]):
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"line {node.lineno}: print"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            assert node.args.kwarg is None, f"line {node.lineno}: **{node.args.kwarg.arg}: name the parameters"


def run(code: str) -> list[str]:
    """The words that ``code`` prints in a new Python."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_ragkit_takes_under_300_ms():
    code = "import time; t = time.perf_counter(); import ragkit; print(time.perf_counter() - t)"
    assert min(float(run(code)[0]) for _ in range(3)) < 0.3


def test_no_module_loads_a_heavy_library_on_import():
    # Widgets are subclasses of ipywidgets' and figures are plotly's, so ragkit.notebook is measured on the rest.
    # Directives are subclasses of docutils': that module is imported when the first page is parsed.
    late = ("ragkit.notebook", "ragkit.corpus.rst")
    plain = [name for name in sorted(MODULES) if not name.startswith(late)]
    loaded = run(f"import {', '.join(plain)}, sys; print(*sys.modules)")
    assert [name for name in HEAVY if name in loaded] == []
    rest = [name for name in sorted(MODULES) if name.startswith("ragkit.notebook")]
    loaded = run(f"import {', '.join(['sys', *rest])}; print(*sys.modules)")
    assert [name for name in ("torch", "faiss", "transformers", "openai", "docutils") if name in loaded] == []
