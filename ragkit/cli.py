"""The command line: ``ragkit fetch | ask | eval | tune | cache | doctor``.

Results go to stdout, progress and errors to stderr. Exit codes: 0 well, 1 ``doctor`` found a problem, 2 an error,
in one line, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.base import Answer, Citation, Corpus, CorpusError, InputError, Question, RagkitError, check_query
from ragkit.files import home

if TYPE_CHECKING:
    from ragkit.pipeline import RAGPipeline

CORPORA = ("tiny", "core", "extended")
PRESETS = ("naive", "advanced", "modular")
ANSWERED = ("faq", "keyword", "paraphrase", "multihop", "en")


def emit(text: str) -> None:
    """One line (or more) of result on stdout."""
    sys.stdout.write(text + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except (RagkitError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader went away (``| head``). Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        sys.stderr.write(f"ragkit: {' '.join(str(error).splitlines())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("ragkit: interrupted\n")
        return 130


def fetch(options: argparse.Namespace) -> int:
    """Fetch and parse a corpus; with ``--vectors`` encode it too."""
    if options.corpus == "catalogues":
        return fetch_catalogues(options.vectors)
    corpus = open_corpus(options.corpus)
    notes = "".join(f", {count} {note}" for note, count in corpus.notes.items())
    emit(f"{corpus.name}: {len(corpus.documents)} documents, {len(corpus.questions)} questions{notes}")
    if options.vectors:
        from ragkit.token_store import TokenStore

        emit(f"vectors: {TokenStore.open(corpus).identity}")
    return 0


def fetch_catalogues(vectors: bool) -> int:
    """Fetch the message catalogues of the lesson on many languages; with ``vectors`` encode them by both its models."""
    from ragkit.corpus import load_catalogues

    corpora = load_catalogues()
    originals = next(iter(corpora.values())).documents
    emit(f"catalogues: {len(originals)} English messages in {len(corpora)} languages: {', '.join(corpora)}")
    if vectors:
        from ragkit.embedding import load_embedder
        from ragkit.embedding.e5 import E5_SMALL
        from ragkit.tokens import MINILM

        for name in (MINILM, E5_SMALL):
            embedder = load_embedder(name, cache=True)
            embedder.encode([document.text for document in originals])
            embedder.encode([question.text for corpus in corpora.values() for question in corpus.questions], "query")
            emit(f"vectors: {embedder.identity}")
    return 0


def ask(options: argparse.Namespace) -> int:
    """Answer one question from a corpus."""
    check_query(options.question, options.k)
    corpus = open_corpus(options.corpus)
    rag = open_pipeline(options.config or options.preset, corpus)
    answer = asyncio.run(rag.query(options.question, options.k))
    if options.json:
        emit(json.dumps(as_record(answer, corpus, options.config or options.preset), ensure_ascii=False, indent=1))
    else:
        emit(as_text(answer, corpus))
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Compare presets and configurations on a corpus' questions."""
    from ragkit.evaluation.compare import compare

    corpus = open_corpus(options.corpus)
    questions = open_questions([options.questions], corpus)
    names = list(dict.fromkeys([*(options.preset or ([] if options.config else PRESETS)), *options.config]))
    systems = {name: open_pipeline(name, corpus).retriever for name in names}
    emit(str(compare(systems, questions, baseline=names[0] if len(names) > 1 else None, k=options.k)))
    return 0


def tune(options: argparse.Namespace) -> int:
    """Try many configurations on half of a corpus' questions, and report on the other half (minutes)."""
    from ragkit.evaluation.tune import Grid
    from ragkit.evaluation.tune import tune as tuned_on

    corpus = open_corpus(options.corpus)
    questions = open_questions(options.questions or ANSWERED, corpus)
    tuned = tuned_on(corpus, questions, Grid.load(options.grid) if options.grid else None, k=options.k)
    emit(f"{tuned}\n\nThe best by {tuned.report.metric} on the {len(tuned.tuning)} questions that choose:")
    emit(tuned.table.head(10).to_string(index=False, float_format="{:.3f}".format))
    emit(f"\nOn the other {len(tuned.holdout)} questions:\n{tuned.report}")
    if options.out:
        chosen = tuned.fastest if options.fastest else tuned.best
        chosen.save(options.out)
        emit(f"\nwritten: {options.out}; run it with: ragkit ask --config {options.out} --corpus {options.corpus} ...")
    return 0


def cache(options: argparse.Namespace) -> int:
    """Show how many vectors are on disk; with ``--keep`` remove what was not used for longest."""
    from ragkit.embedding.cache import VectorTable

    table = VectorTable(home() / "vectors")
    if options.keep is not None:
        if options.keep < 0:
            raise InputError(f"--keep {options.keep:g}: expected 0 or more megabytes")
        table.evict(int(options.keep * 1e6))
        table.shrink()
    emit(f"{len(table)} vectors, {table.bytes / 1e6:.1f} MB, in {table.path}")
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Look at everything that ragkit needs, one line each."""
    from ragkit.doctor import examine

    failed = False
    for name, finding in examine():
        emit(f"{finding.state:<4}  {name:<8}  {finding.text}{f'  -> {finding.do}' * bool(finding.do)}")
        failed |= finding.state == "fail"
    return int(failed)


def open_corpus(name: str) -> Corpus:
    """``tiny``, ``core``, ``extended``, or a folder of documents.

    Raises:
        CorpusError: ``name`` is none of them, or cannot be read.
    """
    from ragkit.corpus import load_folder, load_pydocs

    if name in CORPORA:
        return load_pydocs(name)
    if Path(name).expanduser().is_dir():
        return load_folder(name)
    raise CorpusError(f"no corpus {name!r}: expected {', '.join(CORPORA)}, or a folder of documents")


def open_pipeline(name: str, corpus: Corpus) -> RAGPipeline:
    """The preset called ``name``, or the pipeline of a configuration in a file."""
    from ragkit import pipeline

    presets = {"naive": pipeline.naive, "advanced": pipeline.advanced, "modular": pipeline.modular}
    return presets[name](corpus) if name in presets else pipeline.RAGPipeline.from_config(name, corpus)


def open_questions(kinds: Sequence[str], corpus: Corpus) -> list[Question]:
    """The questions of these kinds: "faq" is what came with the corpus, others were written for the documents."""
    from ragkit.corpus import load_questions

    return [q for kind in kinds for q in (corpus.questions if kind == "faq" else load_questions(kind, corpus))]


def where(citation: Citation, corpus: Corpus) -> dict[str, Any]:
    """Document, section and characters of what a citation quotes (of its whole source, without a quote)."""
    document = corpus.document(citation.chunk.doc_id)
    start = citation.chunk.start + max(0, citation.chunk.text.find(citation.quote))
    length = len(citation.quote) or len(citation.chunk.text)
    return {
        "number": citation.number,
        "document": document.id,
        "title": document.title,
        "section": list(document.section_at(start)),
        "start": start,
        "end": start + length,
        "quote": citation.quote,
    }


def as_record(answer: Answer, corpus: Corpus, preset: str) -> dict[str, Any]:
    """An answer as JSON."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "abstained": answer.abstained,
        "reason": answer.reason,
        "citations": [where(c, corpus) for c in answer.citations],
        "hits": [
            {"document": h.chunk.doc_id, "start": h.chunk.start, "end": h.chunk.end, "score": float(h.score)}
            for h in answer.hits
        ],
        "timings_ms": {stage: round(ms, 3) for stage, ms in answer.timings.items()},
        "usage": {
            "model": answer.usage.model,
            "input_tokens": answer.usage.input_tokens,
            "output_tokens": answer.usage.output_tokens,
        },
        "trace_id": answer.trace_id,
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
        "preset": preset,
    }


def as_text(answer: Answer, corpus: Corpus) -> str:
    """An answer as a person reads it."""
    lines = [answer.text, ""]
    if answer.reason:
        lines += [f"({answer.reason})", ""]
    sources = {
        (w["number"], w["document"], " > ".join(w["section"])) for w in (where(c, corpus) for c in answer.citations)
    }
    lines += [f"[{number}] {document}{f': {section}' * bool(section)}" for number, document, section in sorted(sources)]
    lines.append(", ".join(f"{stage} {ms:.0f} ms" for stage, ms in answer.timings.items()))
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ragkit", description="Questions answered from documents, with citations.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    def corpus_option(added: argparse.ArgumentParser) -> None:
        text = "tiny, core, extended, or a folder of documents (default: core)"
        added.add_argument("--corpus", default="core", metavar="NAME|FOLDER", help=text)

    added = command("fetch", fetch)
    added.add_argument(
        "corpus",
        nargs="?",
        default="core",
        help="tiny, core, extended, or catalogues (translated messages) (default: core)",
    )
    added.add_argument("--vectors", action="store_true", help="also encode the documents (minutes, once)")

    added = command("ask", ask)
    added.add_argument("question")
    corpus_option(added)
    added.add_argument("--k", type=int, default=10, help="hits to read (default: 10)")
    added.add_argument("--preset", choices=PRESETS, default="advanced", help="the pipeline (default: advanced)")
    added.add_argument("--config", metavar="FILE", help="a configuration (TOML) in place of a preset")
    added.add_argument("--json", action="store_true", help="machine-readable")

    added = command("eval", evaluate)
    corpus_option(added)
    added.add_argument("--config", metavar="FILE", action="append", default=[], help="also this configuration")
    added.add_argument("--preset", choices=PRESETS, action="append", help="repeat for several (default: all)")
    added.add_argument("--questions", default="faq", metavar="KIND", help="faq, keyword, ... (default: faq)")
    added.add_argument("--k", type=int, default=10, help="the cut-off of the metrics (default: 10)")

    added = command("tune", tune)
    corpus_option(added)
    kinds = f"repeat for several (default: {', '.join(ANSWERED)})"
    added.add_argument("--questions", action="append", metavar="KIND", help=kinds)
    added.add_argument("--grid", metavar="FILE", help="what to try (TOML; default: 252 configurations)")
    added.add_argument("--out", metavar="FILE", help="write the best configuration here")
    added.add_argument("--fastest", action="store_true", help="write the fastest within one standard error of the best")
    added.add_argument("--k", type=int, default=10, help="results of the search that is timed (default: 10)")

    added = command("cache", cache)
    added.add_argument("--keep", type=float, metavar="MB", help="remove the oldest until this many megabytes are left")

    command("doctor", doctor)
    return parser


if __name__ == "__main__":
    sys.exit(main())
