"""What the prose of appendix A promises."""

import pytest

from ragkit.retrieval.rewrite import MULTI_QUERY, Rewritten


def no_word_in_common(docker, shared_words, bm25):
    """The question shares no word with its answer, and the first three hits do not answer."""
    assert not shared_words(docker)
    assert not any(hit.chunk.span.answers(docker.gold[0]) for hit in bm25.search(docker.text, 3))


def common_words_decide(by_wording):
    """BM25 climbs from 0 to about 0.9; dense search begins higher, where nothing is in common, and ends lower."""
    bm25, dense = by_wording["bm25"], by_wording["dense"]
    assert bm25.is_monotonic_increasing
    assert bm25["none"] < 0.01 < 0.1 < dense["none"]
    assert bm25.iloc[-1] == pytest.approx(0.9, abs=0.05)
    assert dense.iloc[-1] < bm25.iloc[-1] - 0.05


def the_made_up_answer_finds_it(small, docker, made_up):
    """The question alone does not find the sentence about Docker, the made-up answer finds it alone."""
    assert "s1" not in [hit.chunk.doc_id for hit in small.search(docker.text, 3)]
    assert [hit.chunk.doc_id for hit in small.search(made_up, 3)] == ["s1"]


def same_as_by_hand(small, docker, made_up):
    """By hand and in ragkit the sentence has the score 1 / 61, and it shares the first place."""

    class MadeUp:
        def rewrite(self, question):
            return [question, made_up]

    hits = Rewritten(small, MadeUp()).search(docker.text)
    (score,) = (hit.score for hit in hits if hit.chunk.doc_id == "s1")
    assert score == pytest.approx(1 / 61) == hits[0].score


def none_says_docker(recorded, prompts, docker):
    """None of what the model wrote says *Docker* or *health*."""
    written = " ".join(recorded[prompt.name, docker.id] for prompt in prompts.values()).casefold()
    assert "docker" not in written
    assert "health" not in written


def no_model_rewriter_is_better(written):
    """None is better, and multi-query and step-back are worse."""
    verdicts = written.table["verdict"]
    assert "better" not in set(verdicts)
    assert set(verdicts[["multi-query", "step-back"]]) == {"worse"}


def paraphrases_stay_lost(written, kinds):
    """Hardly any paraphrase is found with any of them."""
    assert written.only(kinds["paraphrase"]).table["coverage@2000"].max() < 0.1


def nowhere_better(before):
    """In front of dense search and of ``advanced``, none is better."""
    assert len(before) > 7
    assert not before["unit"].str.endswith("better").any()


def the_example_is_copied(recorded, hook):
    """The first query is a copy of the prompt's example."""
    first, *others = MULTI_QUERY.parse(recorded[MULTI_QUERY.name, hook.id])
    assert first in MULTI_QUERY.examples[1][1]
    assert all("cache" in query for query in others)


def hardly_any_damage(spelling, questions, typed):
    """The slips of the example are repaired, and only a few of the questions without a slip are altered."""
    assert spelling.rewrite(typed[40].text) == [questions[40].text]
    assert sum(bool(spelling.repairs(q.text)) for q in questions) < 0.02 * len(questions)


def repair_is_better(repaired):
    """In front of ``advanced`` the repair is better."""
    assert repaired.table.loc["repaired", "verdict"] == "better"
