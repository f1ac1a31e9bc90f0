"""What the prose of notebook 10 promises."""

from ragkit.evaluation.metrics import first_ranks


def both_are_never_among_the_first_ten(ranks):
    """Look at the zeros: `naive` finds one half of the answer and `advanced` finds neither."""
    assert [rank > 0 for rank in ranks["naive"]] == [True, False]
    assert ranks["advanced"] == [0, 0]


def nearly_all_of_the_probability(by_hand):
    """Two words against one, and nearly all of the probability goes to one side."""
    assert by_hand["scrapy"] > 0.9


def the_classifier_is_naive_bayes(in_ragkit, by_hand):
    """The same in ragkit is `NaiveBayesClassifier`."""
    assert in_ragkit.keys() == by_hand.keys()
    assert all(abs(in_ragkit[label] - share) < 1e-9 for label, share in by_hand.items())


def the_presets_rank_alike(alike, some):
    """On these questions your three retrievers rank exactly as the presets `naive`, `advanced` and `modular`."""
    assert alike == {"naive": len(some), "advanced": len(some), "modular": len(some)}


def nearly_always_the_right_project(right, sent):
    """Off the diagonal there is next to nothing, and the last column holds the questions of which nobody was sure."""
    assert right > 0.95
    assert 0.6 < sent.mean() < 0.9


def a_wrong_route_raises_no_error(ranks, tries):
    """Ten hits, as always, and none of them can be right. Only the score is lower."""
    assert ranks["black"] == 0
    assert len(tries["black"]) == 10
    assert tries["black"][0].score < tries["celery"][0].score


def three_searches(queries, asked, router):
    """The whole question goes to everything; each other one names one project only, and is routed there."""
    assert queries[0] == asked.text
    assert [router.decide(text).route for text in queries] == [None, "aiohttp", "gunicorn"]


def one_of_two(followed, steps, asked, everything):
    """The whole question alone had left the answer below rank ten; the half about Gunicorn brought it up.

    The other gold section, aiohttp's, is still missing.
    """
    chunks = [hit.chunk for hit in followed]
    ranks = dict(zip([gold.doc_id for gold in asked.gold], first_ranks(chunks, asked.gold).tolist(), strict=True))
    rank = ranks["gunicorn/reference/settings"]
    assert ranks == {"gunicorn/reference/settings": rank, "aiohttp/web_advanced": 0}
    assert rank > 0
    assert "part:2" in steps[rank - 1]
    assert chunks[rank - 1] not in [hit.chunk for hit in everything.search(asked.text, 10)]


def modular_does_not_beat_advanced(result):
    """For none of the kinds can these questions show a difference. Who writes "modular wins" has not read the table."""
    assert result.table.loc["naive", "verdict"] == "worse"
    assert result.table.loc["modular", "verdict"] == "no detectable difference"


def no_kind_shows_a_difference(gains):
    """Modular is equal or a little better for every kind of question, and for none can these show a difference."""
    assert (gains["modular - advanced"] >= 0).all()
    assert (gains["p"] >= 0.05).all()


def no_router_can_beat_that_by_much(perfect, reached):
    """With these parts no router can beat *perfect* by much. Most of what is lost is lost within the right project."""
    assert reached["advanced"] < perfect < reached["advanced"] + 0.12
    assert 1 - perfect > perfect - reached["advanced"]


def the_fallback_has_the_better_grade(made):
    """Look at both grades, and at what came first: Black's collection had nothing, and the fallback has the page."""
    (_, first, _), (what, elsewhere, hits) = made
    assert what == "fallback"
    assert first < 0.35
    assert elsewhere > 0.5
    assert hits[0].chunk.doc_id.startswith("celery/")


def a_slip_is_given_up_and_so_is_bread(returned):
    """The misspelt question got no hits, although the page is there; with the repair in front of the loop it gets its
    hits. Bread got none, with or without it."""
    (slip, repaired), (bread, no_bread) = returned.values()
    assert (slip, repaired) == (0, 3)
    assert (bread, no_bread) == (0, 0)


def the_file_holds_your_pipeline(loaded, config, yours, from_file):
    """Save it, load it, and search: the same ranking as your own parts."""
    assert loaded.fingerprint == config.fingerprint
    assert len(yours) == 10
    assert from_file == yours


def every_combination_is_tried(tuned):
    """`tune` tries every combination of a `Grid` on one half of the questions, and reports on the other half."""
    assert len(tuned.table) == 12
    documents = [{span.doc_id for q in half for span in q.gold} for half in (tuned.tuning, tuned.holdout)]
    assert not documents[0] & documents[1]
