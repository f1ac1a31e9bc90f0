"""From a folder to a pipeline that can be defended: read it, ask it, compare pipelines, see where answers are lost::

result = try_folder("~/handbook")
result.chosen.save("pipeline.toml")
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm.auto import tqdm

from ragkit.base import Answer, Corpus, InputError, Question
from ragkit.corpus.folder import LABELS, load_folder
from ragkit.embedding.e5 import E5_SMALL
from ragkit.evaluation.compare import Comparison, compare
from ragkit.evaluation.losses import questions_lost
from ragkit.evaluation.metrics import BUDGET
from ragkit.evaluation.tune import Grid, Tuned, default_config, tune
from ragkit.generation.factory import make_llm
from ragkit.languages import is_english
from ragkit.pipeline import RAGPipeline
from ragkit.pipeline.config import FETCH_K, PipelineConfig
from ragkit.token_store import TokenStore
from ragkit.workbench.draft import draft
from ragkit.workbench.labels import read_labels

GRID = Grid(size=(256, 512), overlap=(32,), fetch_k=(FETCH_K,), fusion=("rrf",))
"""What is tried unless another grid is given: 40 configurations."""

NAIVE = PipelineConfig.from_toml('retriever = "dense"\nmodules.dense = {kind = "DenseRetriever", scoring = "pooled"}')
"""One vector a chunk: what the others have to beat."""

EXAMPLES = 5
"""Questions that are answered where a model writes; quotes, which cost nothing, answer all of them."""
SEARCHED = 50  # results of a search, of which 2,000 tokens are read


@dataclass(frozen=True)
class Tryout:
    """What ``try_folder`` has found.

    ``drafted``: the questions were drafted by rules, not asked by anybody; then the preset is ``chosen``. ``tuned`` is
    ``None`` where the questions are about too few documents to choose by one half and report by the other; then, too.
    ``comparison`` has ``naive`` and ``chosen`` on all questions whose answer was read; ``lost`` the questions by the
    stage that lost their answer (``questions_lost``), with those whose answer was ``not_parsed``, which says why.
    ``answers`` are the chosen pipeline's, to all questions or to the first ``EXAMPLES``.
    """

    folder: Path
    corpus: Corpus
    questions: tuple[Question, ...]
    drafted: bool
    tuned: Tuned | None
    chosen: PipelineConfig
    comparison: Comparison
    not_parsed: dict[str, str]
    lost: dict[str, list[str]]
    answers: tuple[Answer, ...]
    seconds: float


def try_folder(
    folder: str | Path,
    questions: str | Path | None = None,
    *,
    llm: str | Path | None = "extractive",
    grid: Grid | Sequence[PipelineConfig] = GRID,
    step: Callable[[str], None] = lambda _: None,
) -> Tryout:
    """Read ``folder``, take or draft questions, tune on them, and answer some with the pipeline that is chosen.

    Args:
        questions: a file of labels; unless given, ``questions.jsonl`` in the folder; else questions are drafted.
        llm: who writes the answers, as for ``make_llm``.
        grid: the configurations to try.
        step: is told what is done next, a line each.

    Raises:
        CorpusError: the folder or the labels cannot be read.
        InputError: fewer than two questions with an answer, or none can be drafted.
    """
    began = time.perf_counter()
    step(f"reading {folder}")
    corpus = load_folder(folder)
    file = Path(questions or Path(folder) / LABELS).expanduser()
    drafted = questions is None and not file.exists()
    labelled, not_parsed = (draft(corpus), dict[str, str]()) if drafted else read_labels(file, corpus)
    answerable = tuple(question for question in labelled if question.gold)
    if len(answerable) < 2:
        raise InputError(
            f"{corpus.name}: {len(answerable)} questions with an answer, a comparison needs two; write some "
            f"into {Path(folder) / LABELS} (see ragkit.workbench.labels)"
            + "".join(f"; {reason}" for reason in not_parsed.values())
        )
    corpus = replace(corpus, questions=labelled)
    slower = "" if is_english(corpus.language) else f" by {E5_SMALL}, which takes longer than the model of English"
    step(f"encoding {len(corpus.documents)} documents{slower}")
    store = TokenStore.open(corpus)
    writer = make_llm(llm, store)  # which says now where an endpoint is, or what it lacks
    tuned = None
    if len({question.gold[0].doc_id for question in answerable}) >= 4:
        step(f"trying pipelines on {len(answerable)} questions")
        tuned = tune(corpus, answerable, grid, store=store)
    # Drafted questions share words with their answers: they choose nothing.
    chosen = tuned.chosen if tuned is not None and not drafted else default_config()
    chosen = chosen.with_provenance(corpus, store)
    rag = RAGPipeline.from_config(chosen, corpus, llm=writer, store=store)
    naive = RAGPipeline.from_config(NAIVE, corpus, llm=writer, store=store)
    step("comparing the chosen pipeline with plain vector search")
    systems = {"naive": naive.retriever, "chosen": rag.retriever}
    comparison = compare(systems, answerable, k=SEARCHED, same_budget=BUDGET)
    to_answer = labelled if llm == "extractive" else labelled[:EXAMPLES]
    step(f"answering {len(to_answer)} questions, and looking where answers are lost")
    answers = asyncio.run(_answers(rag, [question.text for question in to_answer]))
    lost = questions_lost(comparison, "chosen", answers, not_parsed)
    seconds = time.perf_counter() - began
    root = Path(folder).expanduser()
    return Tryout(root, corpus, labelled, drafted, tuned, chosen, comparison, not_parsed, lost, answers, seconds)


async def _answers(rag: RAGPipeline, questions: Sequence[str]) -> tuple[Answer, ...]:
    return tuple([await rag.query(question) for question in tqdm(questions, unit="answer", delay=1, leave=False)])
