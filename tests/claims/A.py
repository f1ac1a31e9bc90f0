"""What the prose of appendix A promises."""

import numpy as np


def no_word_in_common(hits, question, shared):
    """No star, and no wonder: the question shares no word with its answer."""
    assert not shared
    assert not any(hit.chunk.span.answers(question.gold[0]) for hit in hits)


def common_words_decide(wording):
    """BM25 climbs from 0 to more than 0.8; dense search begins higher, where nothing is in common, and ends lower."""
    bm25, dense = wording["bm25"], wording["dense"]
    assert bm25.is_monotonic_increasing
    assert bm25["none"] < 0.01 < 0.1 < dense["none"]
    assert dense.iloc[-1] < 0.8 < bm25.iloc[-1]


def one_sentence_has_the_word(first):
    """One sentence has the word."""
    assert len(first) == 1


def second_sentence_scores(by_hand):
    """The second sentence is no longer at 0, and the lamp still is."""
    assert by_hand[1] > 0 == by_hand[2]


def same_as_by_hand(feedback, hits, mixed, by_hand):
    """The same weights, and the same scores."""
    assert feedback.expanded("kill") == mixed.to_dict()
    assert np.allclose([hit.score for hit in hits], sorted(by_hand)[:0:-1])


def usual_weight_is_worse(result):
    """The smallest weight brings no detectable difference, the usual one is worse."""
    assert result.table.loc["weight 0.1", "verdict"] == "no detectable difference"
    assert result.table.loc["weight 0.5", "verdict"] == "worse"


def no_weight_gains(honest, result):
    """With a weight chosen on the other half, feedback brings nothing."""
    assert honest < result.scores()["bm25"].mean() + 0.005


def failed_searches_stay_failed(by_kind):
    """Feedback cannot help a failed search, and with the usual weight, questions that were fine get lost."""
    assert by_kind.loc["paraphrase"].max() < 0.01
    fine = by_kind.loc[["en", "multihop"]]
    assert (fine["weight 0.5"] < fine["bm25"] - 0.03).all()


def drifts_to_black(expanded, drifting, terms):
    """The heaviest word of the new query is *black*, which the question never mentioned."""
    assert max(expanded, key=expanded.get) == "black"
    assert "black" not in terms(drifting.text)


def repairs_words_only(spelling, typo):
    """It repairs words, and leaves alone everything that looks like a name in code."""
    assert spelling.repairs(typo) == {"restrat": "restart", "severl": "several", "taks": "task"}


def repair_is_better(result):
    """Repairing the questions helps keyword search."""
    assert result.table.loc["bm25, repaired", "verdict"] == "better"


def repair_brings_most_back(rows):
    """The slips cost either search about a tenth of its score, and the repair brings most of it back."""
    for right, slipped, repaired in rows.values():
        assert slipped < right - 0.03
        assert slipped + 0.02 < repaired < right + 0.01
        assert repaired - slipped > (right - slipped) / 2


def hardly_any_damage(altered, kinds, questions):
    """Next to none of the questions without a slip are altered."""
    assert sum(altered[kind] for kind in kinds) < 0.02 * len(questions)


def only_spelling_is_better(everything):
    """One rewriter is better. For RM3 and the parts no difference can be detected, and both lean to the wrong side."""
    verdicts, differences = everything.table["verdict"], everything.table["diff"]
    assert verdicts["spelling"] == "better"
    assert list(verdicts[["RM3", "parts"]]) == ["no detectable difference"] * 2
    assert (differences[["RM3", "parts"]] < 0).all()


def parts_spoil_two_subjects(differences):
    """Spelling gains where words are misspelt; the deepest orange is that of the parts where there are two subjects."""
    assert differences.loc["spelling", "misspelt"] > 0.03
    assert differences.loc["parts", "multihop"] < -0.04
    assert differences.stack().idxmin() == ("parts", "multihop")


def parts_find_no_more(two):
    """Parts of a question bring no gain in how many of the two answers are among the ten, and no loss to be shown."""
    assert two.table.loc["parts", "verdict"] == "no detectable difference"


def feedback_from_vectors_gains_little(by_kind):
    """Dense hits bring keyword search from nothing to a little, dense search itself finds more."""
    paraphrase = by_kind.loc["paraphrase"]
    assert paraphrase["bm25"] < 0.01 < paraphrase["taught"] < paraphrase["dense"]


def bad_answers_are_harmless(late, question):
    """Where nothing can be read, the question itself is searched, and the reason is there."""
    assert late.queries == (question.text,)
    assert late.reason


def no_model_rewriter_is_better(verdicts):
    """In front of keyword search all four are worse; behind ``advanced`` there is no detectable difference."""
    units = verdicts.set_index("name")["unit"]
    prompts = ("hyde", "multi-query", "step-back", "decompose")
    assert all(units[f"BM25, {prompt}"].endswith("worse") for prompt in prompts)
    assert all(units[f"advanced, {prompt}"].endswith("no detectable difference") for prompt in prompts)


def repair_still_matters(result):
    """In front of `advanced`, the repair still matters."""
    assert result.table.loc["repaired", "verdict"] == "better"
