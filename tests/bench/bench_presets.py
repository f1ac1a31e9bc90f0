"""The three presets on all questions of core, at two chunk sizes: MRR@10, and coverage of the gold in 2,000 tokens."""

from __future__ import annotations

from ragkit import TokenStore, advanced, compare, load_pydocs, modular, naive
from ragkit.corpus import load_questions

Row = tuple[str, float, str, str]
KINDS = ("keyword", "paraphrase", "multihop", "en", "de", "es", "fr", "ru", "zh")


def main() -> list[Row]:
    corpus = load_pydocs("core")
    written = [question for kind in KINDS for question in load_questions(kind, corpus)]
    questions = [*corpus.questions, *written]
    store = TokenStore.open(corpus)
    rows: list[Row] = []
    for size, overlap in ((256, 32), (512, 64)):
        presets = {"naive": naive, "advanced": advanced, "modular": modular}
        systems = {
            name: preset(corpus, store=store, size=size, overlap=overlap).retriever for name, preset in presets.items()
        }
        ranks = compare(systems, questions, progress=False).table["mrr@10"]
        coverage = compare(systems, questions, same_budget=2000, progress=False).table["coverage@2000"]
        for name in systems:
            rows.append((f"{name}, {size}/{overlap}: MRR@10", float(ranks[name]), "", ""))
            rows.append((f"{name}, {size}/{overlap}: coverage@2000", float(coverage[name]), "", ""))
    return rows
