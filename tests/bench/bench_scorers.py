"""How well the offline scorers of answers agree with labels that people gave, on documents they were not fitted on.

``python tests/run_bench.py scorers`` prints the figures; ``python tests/bench/bench_scorers.py --fit`` fits the weights
of ``ragkit.evaluation.faithfulness`` again, on the other half of the labelled sentences, and prints them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ragkit.base import Chunk, Corpus
from ragkit.corpus import load_pydocs
from ragkit.evaluation.answers import token_f1
from ragkit.evaluation.faithfulness import (
    NAMES,
    WEIGHTS,
    Faithfulness,
    LabelledSentence,
    agreement,
    load_labelled_answers,
    relevance,
)
from ragkit.evaluation.statistics import auroc, auroc_interval
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
MORE = 4


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    held_out = load_labelled_answers(corpus, "test")
    refit = max(abs(value - WEIGHTS[name]) for name, value in fitted(store).items())
    rows = [("faithfulness, largest change of a weight when fitted again", refit, "", "<= 0.1")]
    more = distractors(corpus, held_out)
    rows += faithfulness_rows(store, held_out, "its section alone", [()] * len(held_out))
    rows += faithfulness_rows(store, held_out, f"among {MORE} other sections", more)
    return [*rows, reference_row(held_out), *relevance_rows(store, held_out)]


def distractors(corpus: Corpus, sentences: Sequence[LabelledSentence]) -> list[tuple[Chunk, ...]]:
    """For each sentence ``MORE`` sections of its project that no labelled sentence is about: a context as retrieved."""
    used = {(s.source.doc_id, s.source.section) for s in sentences}
    pools: dict[str, list[Chunk]] = {}
    for document in corpus.documents:
        for section in document.sections:
            text = document.text[section.body : section.end]
            if 300 <= len(text) <= 2000 and (document.id, section.path) not in used:
                chunk = Chunk(document.id, section.body, section.end, text, section.path)
                pools.setdefault(document.id.split("/")[0], []).append(chunk)
    generator = np.random.default_rng(0)
    own = [pools[s.source.doc_id.split("/")[0]] for s in sentences]
    return [tuple(pool[i] for i in generator.choice(len(pool), MORE, replace=False)) for pool in own]


def faithfulness_rows(
    store: TokenStore, sentences: Sequence[LabelledSentence], what: str, more: Sequence[tuple[Chunk, ...]]
) -> Iterator[Row]:
    scorer = Faithfulness(store)
    found = [scorer.support(s.text, [s.source, *others]) for s, others in zip(sentences, more, strict=True)]
    table = agreement(sentences, [support.score for support in found])
    words = [support.features.get("agreement", 1.0) for support in found]
    labels = np.array([s.supported for s in sentences])
    alone = auroc(np.array(words)[labels], np.array(words)[~labels])
    yield f"faithfulness, AUROC, {what}: by agreement of words alone", alone, "", ""
    sys.stdout.write(f"\nfaithfulness, held-out half, {what}\n{table.round(3).to_string()}\n")
    for name, line in table.iterrows():
        promised = (name, what) == ("all", "its section alone")
        yield f"faithfulness, AUROC, {what}: {name}", float(line["auroc"]), "", ">= 0.9" if promised else ""


def reference_row(sentences: Sequence[LabelledSentence]) -> Row:
    """Likeness to the reference, taken for truth: the section is the reference, and quotes are left out."""
    kept = [s for s in sentences if s.kind != "quoted"]
    scores = np.array([token_f1(s.text, s.source.text) for s in kept])
    labels = np.array([s.supported for s in kept])
    low, high = auroc_interval(scores, labels, [s.source.doc_id for s in kept])
    value = auroc(scores[labels], scores[~labels])
    sys.stdout.write(f"token F1 as a sign of support, without quotes: {value:.3f} [{low:.3f}, {high:.3f}]\n")
    return "token F1, AUROC, all but quotes", value, "", ""


def relevance_rows(store: TokenStore, sentences: Sequence[LabelledSentence]) -> Iterator[Row]:
    """Answers (all reworded sentences to a question) with their own question and with others'."""
    answers: dict[str, list[LabelledSentence]] = {}
    for sentence in sentences:
        if sentence.kind == "reworded":
            answers.setdefault(sentence.question, []).append(sentence)
    where = {question: given[0].source.doc_id for question, given in answers.items()}
    pairs = [(q, a, relevance(q, " ".join(s.text for s in answers[a]), store)) for q in answers for a in answers]
    own = [score for q, a, score in pairs if q == a]
    for name, near in (("all", False), ("of the same document", True)):
        others = [(a, score) for q, a, score in pairs if q != a and (not near or where[q] == where[a])]
        scores = np.array(own + [score for _, score in others])
        labels = np.arange(len(scores)) < len(own)
        documents = [where[q] for q in answers] + [where[a] for a, _ in others]
        low, high = auroc_interval(scores, labels, documents)
        value = auroc(scores[labels], scores[~labels])
        sys.stdout.write(f"relevance, questions {name}: {value:.3f} [{low:.3f}, {high:.3f}], {len(others)} pairs\n")
        yield f"relevance, AUROC against other questions: {name}", value, "", ""


def fitted(store: TokenStore) -> dict[str, float]:
    """The weights that the fitting half gives."""
    scorer = Faithfulness(store)
    sentences = load_labelled_answers(load_pydocs("core"), "fit")
    pairs = [(scorer.support(s.text, [s.source]).features, s.supported) for s in sentences]
    kept = [(features, supported) for features, supported in pairs if features]  # quotes are not weighed
    return fit_weights([features for features, _ in kept], [supported for _, supported in kept])


def fit_weights(
    features: Sequence[Mapping[str, float]], supported: Sequence[bool], penalty: float = 1.0
) -> dict[str, float]:
    """A logistic regression in which every sign must point where its meaning says.

    ``agreement`` may only support and all others may only speak against a sentence. Without this rule the fit would
    use that a false sentence which was made from the source resembles it more than a true one in other words does.
    Both labels weigh the same; ``penalty`` times half of the squared weights (of standardised features) is added.
    """
    x = np.array([[row[name] for name in NAMES] for row in features], dtype=np.float64)
    y = np.asarray(supported, dtype=bool)
    sign = np.array([1.0 if name == "agreement" else -1.0 for name in NAMES])
    mean, spread = (x * sign).mean(axis=0), (x * sign).std(axis=0) + 1e-9
    z, target = (x * sign - mean) / spread, np.where(y, 1.0, -1.0)
    share = len(y) * np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = target * (z @ weights[1:] + weights[0])
        slope = -share * target / (1 + np.exp(margin))
        value = (share * np.logaddexp(0, -margin)).sum() + penalty / 2 * (weights[1:] ** 2).sum()
        return float(value), np.concatenate([[slope.sum()], z.T @ slope + penalty * weights[1:]])

    bounds = [(None, None)] + [(0, None)] * len(NAMES)
    best = minimize(loss, np.zeros(len(NAMES) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    intercept = float(best[0] - (best[1:] * mean / spread).sum())
    return {"intercept": intercept, **dict(zip(NAMES, (sign * best[1:] / spread).tolist(), strict=True))}


if __name__ == "__main__":
    if "--fit" in sys.argv:
        for name, value in fitted(TokenStore.open(load_pydocs("core"))).items():
            sys.stdout.write(f'        "{name}": {value:.2f},\n')
    else:
        main()
