"""How good is a scorer of answers itself? Sentences with labels, and how well a score tells them apart.

``data/answers.jsonl`` holds sentences about sections of ``core``, each with the question that it answers:

- supported: ``quoted`` (pointed at by offsets, so that nothing fetched is copied), ``edited`` (close to the wording of
  the section) and ``reworded`` (its meaning in other words);
- unsupported, by what was done to a true one: ``entity``, ``number``, ``negation``, ``clause`` (invented), ``relation``
  (swapped roles or order), ``identifier``, ``quantifier`` (too general), and ``other_section`` (said elsewhere).

The ``fit`` half and the ``test`` half share no document. Scorers are fitted on the first and judged on the second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.base import Chunk, Corpus, CorpusError, InputError, require
from ragkit.corpus.questions import section_span
from ragkit.evaluation.features import NAMES, Features
from ragkit.evaluation.statistics import RESAMPLES
from ragkit.files import data_file

if TYPE_CHECKING:
    import pandas as pd

Half = Literal["fit", "test"]
SUPPORTED = ("quoted", "edited", "reworded")
PERTURBED = (
    *("entity", "number", "negation", "clause"),
    *("relation", "identifier", "quantifier", "other_section"),
)


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence, the section that is its context, whether that supports it, and how it was made (``kind``)."""

    id: str
    question: str
    text: str
    supported: bool
    kind: str
    source: Chunk
    half: Half


def load_labelled_answers(corpus: Corpus, half: Half | None = None) -> tuple[LabelledSentence, ...]:
    """The labelled sentences whose documents are in ``corpus``, of one half or of both.

    Raises:
        InputError: another ``half``.
        CorpusError: a line can't be read, or names a section that its document does not have.
    """
    if half is not None and half not in get_args(Half):
        raise InputError(f"half {half!r}: expected 'fit' or 'test'")
    ids = {document.id for document in corpus.documents}
    found = []
    lines = data_file("answers.jsonl").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if entry["evidence"]["doc"] not in ids or half not in (None, entry["split"]):
                continue
            source = _section(corpus, entry["evidence"])
            text = source.text[slice(*entry["quote"])] if "quote" in entry else entry["sentence"]
            given = (entry["id"], entry["question"], text, entry["label"] == "supported", entry["kind"])
            found.append(LabelledSentence(*given, source, entry["split"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"answers.jsonl, line {number}: not a labelled sentence ({error!r})") from error
    return tuple(found)


def _section(corpus: Corpus, evidence: Mapping[str, Any]) -> Chunk:
    document, path = corpus.document(evidence["doc"]), tuple(evidence["section"])
    span = section_span(document, path)
    return Chunk(document.id, span.start, span.end, document.text[span.start : span.end], path, document.metadata)


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """How often a positive example scores higher than a negative one; ties count half.

    The area under the ROC curve (Hanley & McNeil, Radiology 1982): .5 is chance, 1 tells all apart.

    >>> auroc([3, 2], [1, 2])
    0.875

    Raises:
        InputError: there are no positive or no negative examples.
    """
    high, low = np.asarray(positive, dtype=np.float64), np.sort(np.asarray(negative, dtype=np.float64))
    if not high.size or not low.size:
        raise InputError(f"AUROC of {high.size} positive and {low.size} negative examples: expected some of both")
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.mean() / 2 / low.size)


def auroc_interval(
    scores: ArrayLike, supported: ArrayLike, documents: Sequence[str], resamples: int = RESAMPLES // 5, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the AUROC when documents are drawn again with replacement (cluster bootstrap, Efron 1979).

    Sentences about one document share its words; a plain bootstrap over sentences would look more certain than it is.

    Raises:
        InputError: as ``auroc``.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(supported, dtype=bool)
    auroc(values[labels], values[~labels])
    _, owner = np.unique(np.asarray(documents), return_inverse=True)
    places = [np.flatnonzero(owner == i) for i in range(owner.max() + 1)]
    generator, drawn = np.random.default_rng(seed), list[float]()
    for _ in range(resamples):
        take = np.concatenate([places[i] for i in generator.integers(0, len(places), len(places))])
        if 0 < labels[take].sum() < len(take):
            drawn.append(auroc(values[take][labels[take]], values[take][~labels[take]]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def agreement(
    sentences: Sequence[LabelledSentence], scores: ArrayLike, resamples: int = RESAMPLES // 5, seed: int = 0
) -> pd.DataFrame:
    """How well ``scores`` tell supported sentences from the others: AUROC with interval, overall and by kind.

    Rows of perturbed kinds compare them with all supported sentences; rows of supported kinds with all others.
    ``accepted`` is the share of a row's own sentences that score .5 or more.
    """
    values = np.asarray(scores, dtype=np.float64)
    labels = np.array([s.supported for s in sentences])
    kinds, documents = np.array([s.kind for s in sentences]), np.array([s.source.doc_id for s in sentences])
    rows = {"all": np.ones(len(labels), dtype=bool), "all but quotes": kinds != "quoted"}
    rows |= {kind: labels | (kinds == kind) for kind in PERTURBED if kind in kinds}
    rows |= {kind: ~labels | (kinds == kind) for kind in SUPPORTED if kind in kinds}
    table = {}
    for name, take in rows.items():
        value = auroc(values[take & labels], values[take & ~labels])
        low, high = auroc_interval(values[take], labels[take], documents[take].tolist(), resamples, seed)
        own = kinds == name if name in kinds else take
        accepted = float((values[own] >= 0.5).mean())
        table[name] = {"sentences": own.sum(), "auroc": value, "low": low, "high": high, "accepted": accepted}
    frame = require("pandas", "notebook").DataFrame(table).T
    return frame.astype({"sentences": int})  # type: ignore[no-any-return]


def fit_weights(features: Sequence[Features], supported: ArrayLike, penalty: float = 1.0) -> dict[str, float]:
    """Weights for ``Faithfulness``: a logistic regression in which every sign must point where its meaning says.

    ``agreement`` may only support and all others may only speak against a sentence. Without this rule the fit would
    use that a false sentence which was made from the source resembles it more than a true one in other words does.
    Both labels weigh the same; ``penalty`` times half of the squared weights (of standardised features) is added.

    Raises:
        InputError: there are not both labels.
    """
    minimize = require("scipy.optimize", "notebook").minimize
    x = np.array([[getattr(row, name) for name in NAMES] for row in features], dtype=np.float64)
    y = np.asarray(supported, dtype=bool)
    if y.all() or not y.any():
        raise InputError(f"{int(y.sum())} of {len(y)} examples are supported: expected some of both")
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
    found = minimize(loss, np.zeros(len(NAMES) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    intercept = float(found[0] - (found[1:] * mean / spread).sum())
    return {"intercept": intercept, **dict(zip(NAMES, (sign * found[1:] / spread).tolist(), strict=True))}
