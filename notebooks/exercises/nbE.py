"""The exercise of ``E_smaller_vectors``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.evaluation.compare import Comparison
from ragkit.training.quantization import QuantizedRetriever

FEW = 20  # questions, below which a verdict is not worth asking for
WANTED = 192  # bytes a vector


@exercise(
    "E.1",
    expects=Comparison,
    hint="codes = int8(vectors @ axes); then Quantized(codes.codes, lambda queries: codes.scores(queries @ axes)).",
    praise="An eighth of the memory. Read its interval before you ship it, and its verdicts by kind.",
)
def combined(answer: Comparison) -> str | None:
    systems = [retriever for name, retriever in answer.systems.items() if name != answer.baseline]
    codes = [retriever.quantized for retriever in systems if isinstance(retriever, QuantizedRetriever)]
    if not codes:
        return "no system but the baseline is a QuantizedRetriever."
    if all(code.bytes_per_vector != WANTED for code in codes):
        return _other_size(codes[0].bytes_per_vector)
    if all(code.codes.dtype.itemsize > 1 for code in codes if code.bytes_per_vector == WANTED):
        return "192 bytes, but as 48 numbers of 4 bytes. Take 192 directions, and one byte for each."
    if answer.budget is None:
        return "you compared ten results of each. Give both systems the same tokens: same_budget=2000."
    if len(answer.questions) < FEW:
        return f"{len(answer.questions)} questions show very little. Take all of `questions`."
    return None


def _other_size(size: int) -> str:
    reasons = {
        4 * WANTED: "768 bytes are 192 numbers of 4 bytes. Give them one byte each: int8(...).",
        384: "384 bytes are all 384 numbers. Multiply by the 192 axes first: vectors @ axes.",
        WANTED // 8: "24 bytes are bits, as in the lesson. Take int8 in place of binary.",
        48: "48 bytes are bits of all 384 numbers. Take int8 of vectors @ axes.",
    }
    return reasons.get(size, f"your vectors take {size} bytes, expected {WANTED}: 192 numbers of one byte.")
