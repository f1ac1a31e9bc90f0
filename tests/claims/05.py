"""What the prose of notebook 05 promises."""

import numpy as np

from ragkit.evaluation.metrics import first_ranks


def vectors_miss_the_names(dense, question):
    """Three titles of pages."""
    for hit in dense.search(question.text, 3):
        assert hit.chunk.doc_id.startswith("celery/")
        assert len(hit.chunk.text) < 50
        assert not any(hit.chunk.span.answers(gold) for gold in question.gold)


def token_vectors_find_the_names(pooled, by_token, question, store, chunks):
    """The token vectors bring the answer almost to the top. Their price: some 120 times as many vectors."""
    assert first_ranks(pooled, question.gold)[0] > 50
    assert 1 <= first_ranks(by_token, question.gold)[0] <= 5
    assert 115 < store.n_tokens / len(chunks) < 125


def the_wrong_answer_wins(cosines):
    """The wrong answer wins every time, with both models; all cosines of E5 are above .8."""
    assert len(cosines) == 8
    for (_, model), (right, wrong) in cosines.items():
        assert wrong > right
        assert model != "multilingual-e5-small" or right > 0.8


def the_prefix_by_hand_gives_the_same_vector(by_hand, in_ragkit):
    """The same vector."""
    assert np.allclose(by_hand, in_ragkit, atol=1e-5)


def a_million_chunks_cost_a_few_dollars(dollars, minilm, e5, hosted):
    """A few dollars; the models read 254, 507 and more than eight thousand tokens."""
    assert 1 < dollars < 5
    assert minilm.inner.max_tokens < e5.inner.max_tokens < hosted.max_tokens


def the_pairs_leave_the_faq_out(pairs, corpus, kinds):
    """No pair is from a page of the FAQs; 200 questions, 40 in five translations."""
    faq = {gold.doc_id for question in corpus.questions for gold in question.gold}
    assert not faq & {pair.positive.doc_id for pair in pairs}
    assert len(kinds["other languages"]) == 200


def each_role_has_its_questions(result, questions, kinds):
    """Fine-tuned: better over all English questions. Multilingual: better in other languages, much worse on paraphrase.

    E5 has no detectable difference over all English questions, and the adapter none in other languages.
    """
    english, others = result.only(questions).table, result.only(kinds["other languages"]).table
    assert english.loc["MiniLM + adapter", "verdict"] == "better"
    assert english.loc["E5", "verdict"] == "no detectable difference"
    assert others.loc["E5", "verdict"] == "better"
    paraphrase = result.only(kinds["paraphrase"]).table
    assert paraphrase.loc["E5", "verdict"] == "worse"
    assert paraphrase.loc["E5", "coverage@2000"] < paraphrase.loc["MiniLM", "coverage@2000"] / 3
    for kind in ("en", "multihop"):
        assert result.only(kinds[kind]).table.loc["MiniLM + adapter", "diff"] > 0.04


def e5_has_hubs(result, hard):
    """E5 brings the same few chunks for a large part of the questions; MiniLM has none like that."""
    most = {}
    for name in ("MiniLM", "E5"):
        found = [hit.chunk for hits in result.only(hard).rankings[name] for hit in hits]
        most[name] = max(map(found.count, set(found)))
    assert most["E5"] > len(hard) / 2
    assert most["MiniLM"] < len(hard) / 5
