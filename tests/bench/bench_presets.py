"""What the generator reads: how much of the gold is in a context of 2,000 tokens, by chunk size and candidates.

The grid chooses ``SIZE``, ``OVERLAP`` and ``FETCH_K`` of the presets by the five English kinds of questions of core,
all of them together. Then the three presets are compared with the same presets at 512/64, kind by kind, on core and on
``extended``, on which nothing was chosen. ``joined``: neighbouring chunks become one source, as ``build_context`` does;
without it, the results are read one after the other. Differences come with their 95 % interval, corrected for the
comparisons of their table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sample import SearchedOnce

from ragkit import TokenStore, advanced, compare, load_pydocs, modular, naive
from ragkit.base import Corpus, Question, Retriever
from ragkit.corpus import load_questions
from ragkit.pipeline.config import FETCH_K, OVERLAP, SIZE

Row = tuple[str, float, str, str]
CUTS = ((128, 16), (256, 0), (256, 32), (256, 64), (384, 48), (512, 64), (1024, 128))
FETCH = (20, 50, 100)
ENGLISH = ("faq", "keyword", "paraphrase", "multihop", "en")
TRANSLATED = ("de", "es", "fr", "ru", "zh")
PRESETS = {"naive": naive, "advanced": advanced, "modular": modular}
BEFORE = "512/64"
JOINED, READ = "context_coverage@2000", "coverage@2000"


def main() -> list[Row]:
    core, extended = load_pydocs("core"), load_pydocs("extended")
    of_kind = {
        kind: core.questions if kind == "faq" else load_questions(kind, core) for kind in (*ENGLISH, *TRANSLATED)
    }
    store = TokenStore.open(core)
    return [
        *grid(core, store, [question for kind in ENGLISH for question in of_kind[kind]]),
        *verdicts("core", core, store, of_kind),
        *verdicts("extended", extended, TokenStore.open(extended), {"faq": extended.questions}),
    ]


def grid(corpus: Corpus, store: TokenStore, questions: Sequence[Question]) -> Iterator[Row]:
    """The advanced preset at every setting: coverage with neighbours joined, and without."""
    for size, overlap in CUTS:
        systems = {
            fetch_k: advanced(corpus, store=store, size=size, overlap=overlap, fetch_k=fetch_k).retriever
            for fetch_k in FETCH
        }
        table = compare({str(n): SearchedOnce(r) for n, r in systems.items()}, questions, same_budget=2000).table
        for fetch_k in FETCH:
            name = f"grid: {size}/{overlap}, {fetch_k} candidates"
            yield f"{name}: joined coverage", float(table.loc[str(fetch_k), JOINED]), "", ""
            if (size, overlap, fetch_k) == (SIZE, OVERLAP, FETCH_K):
                yield f"{name}: not joined", float(table.loc[str(fetch_k), READ]), "", ""


def verdicts(name: str, corpus: Corpus, store: TokenStore, of_kind: Mapping[str, Sequence[Question]]) -> Iterator[Row]:
    """Each preset as it is against itself at 512/64."""
    english = [question for kind in ENGLISH for question in of_kind.get(kind, ())]
    groups = {"all in English": english, **of_kind} if len(of_kind) > 1 else of_kind
    for preset, make in PRESETS.items():
        before = make(corpus, store=store, size=512, overlap=64).retriever
        systems: dict[str, Retriever] = {
            BEFORE: SearchedOnce(before),
            "as it is": SearchedOnce(make(corpus, store=store).retriever),
        }
        for kind, questions in groups.items():
            compared = compare(systems, questions, same_budget=2000, metric=JOINED, progress=False)
            was, now = compared.table.loc[BEFORE], compared.table.loc["as it is"]
            interval = f"{now['diff']:+.3f} [{now['diff_low']:+.3f}, {now['diff_high']:+.3f}]"
            title = f"{name} {kind} ({len(questions)}), {preset}: joined coverage"
            yield f"{title}, at {BEFORE} {was[JOINED]:.3f}, {interval} {now['verdict']}", float(now[JOINED]), "", ""
