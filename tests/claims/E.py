"""What the prose of appendix E promises."""

import numpy as np

from ragkit.evaluation.metrics import first_ranks
from ragkit.training.quantization import knn_recall


def a_vector_takes_1536_bytes(vectors):
    """A vector of 384 numbers takes 1,536 bytes."""
    assert vectors.shape[1] == 384
    assert vectors.nbytes == 1536 * len(vectors)


def truncation_loses_an_answer(exact, short, question, chunks):
    """From the first place to where nobody looks."""
    ranks = {}
    for name, retriever in {"exact": exact, "short": short}.items():
        ranking = [hit.chunk for hit in retriever.search(question.text, len(chunks))]
        ranks[name] = first_ranks(ranking, question.gold)[0]
    assert ranks["exact"] <= 2
    assert ranks["short"] > 20


def by_hand_and_ragkit_agree(query, texts, step, int8_codes, signs):
    """Bytes give nearly the same cosines; signs give other scores, and exchange the first two sentences."""
    from ragkit.training.quantization import binary, int8

    exact = texts @ query
    by_hand, by_signs = int8_codes @ (query * step), signs @ query / np.sqrt(384)
    assert np.allclose(by_hand, int8(texts).scores(query[None])[0], atol=1e-4)
    assert np.allclose(by_signs, binary(texts).scores(query[None])[0], atol=1e-4)
    assert np.allclose(by_hand, exact, atol=5e-3)
    assert np.argsort(-exact).tolist() == np.argsort(-by_hand).tolist() == [1, 0, 2]
    assert np.argsort(-by_signs).tolist() == [0, 1, 2]


def the_bytes_of_each_way(memory):
    """Two of them take the same 384 bytes; bits take 48."""
    assert memory["PCA 96"] == memory["int8"] == memory["first 96"] == 384
    assert memory["PCA 192"] == 768
    assert memory["binary"] == memory["binary, rescored"] == 48


def fewer_bits_beat_fewer_numbers(result):
    """96 numbers are worse, with or without PCA. No other way is detectably worse."""
    worse = result.table.index[result.table["verdict"] == "worse"]
    assert set(worse) == {"first 96", "PCA 96"}
    assert result.table.loc["int8", ["diff_low", "diff_high"]].abs().max() < 0.01
    rescored = result.table.loc["binary, rescored"]
    assert rescored["diff_low"] > result.table.loc["binary", "diff_low"]


def the_worse_one_keeps_more_neighbours(queries, vectors, codes):
    """PCA 96 keeps more of the neighbours than binary does, and is the worse one."""
    kept = {name: knn_recall(queries, vectors, code) for name, code in codes.items()}
    assert kept["PCA 96"] > kept["binary"] + 0.1
    assert kept["int8"] > 0.98


def the_mean_hides_the_paraphrases(by_kind):
    """No detectable difference over all questions; worse on paraphrase."""
    assert by_kind.loc["all", "verdict"] == "no detectable difference"
    assert by_kind.loc["paraphrase", "verdict"] == "worse"
    assert by_kind.loc["paraphrase", "24 bytes"] < 0.6 * by_kind.loc["paraphrase", "float32"]
    assert (by_kind["verdict"] == "worse").sum() == 1


def bits_are_small(memory):
    """A million vectors: 1.54 GB of floats, .38 of bytes, .05 of bits."""
    assert [memory[name] for name in ("float32", "int8", "binary")] == [1536, 384, 48]
