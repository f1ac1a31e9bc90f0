"""What the prose of notebook 10 promises."""

from ragkit.evaluation.metrics import first_ranks


def _ranks(retriever, question):
    return first_ranks([hit.chunk for hit in retriever.search(question.text, 10)], question.gold)


def no_half_comes_first(best, proxy):
    """Neither half comes first."""
    assert len(proxy.gold) == 2
    assert 1 not in _ranks(best, proxy)


def several_projects_answer(best):
    """The question does not name a project, so no ranking can know."""
    hits = best.search("How do I set a timeout?", 4)
    assert len({hit.chunk.metadata["project"] for hit in hits}) > 1


def mmr_brings_more_documents(shapes):
    """MMR brings more documents."""
    documents = {}
    for name in ("advanced", "MMR"):
        hits = shapes[name].search("How do I let media pipelines follow redirects?", 10)
        documents[name] = len({hit.chunk.doc_id for hit in hits})
    assert documents["MMR"] > documents["advanced"]


def sections_help_multihop_questions(shaped, kinds):
    """Sections are better on multi-hop questions and on *en*, where the small chunks alone are worse.

    Over all questions no difference is detectable.
    """
    multihop, en = (shaped.only(kinds[kind]).table for kind in ("multihop", "en"))
    assert multihop.loc["sections", "verdict"] == "better"
    assert en.loc["sections", "diff"] > 0.03
    assert en.loc["128 tokens", "diff"] < -0.03
    assert set(shaped.table["verdict"]) == {"baseline", "no detectable difference"}


def nearly_always_the_right_project(truth, route):
    """The router is nearly always right, or searches everything."""
    routed = route != "everything"
    assert 0.6 < routed.mean() < 0.9
    assert (route == truth)[routed].mean() > 0.93


def one_is_repaired_and_one_is_not(best, pipeline, proxy, sooner):
    """Both halves of the first question move up. Of the second, neither half is found."""
    before, after = _ranks(best, proxy), _ranks(pipeline, proxy)
    assert (after > 0).all()
    assert after.sum() < before.sum() or not before.all()
    assert not _ranks(pipeline, sooner).any()


def the_fallback_has_the_better_grade(careful):
    """Ten hits, as if nothing had happened; only the grade notices."""
    (_, first, wrong_hits), (search, elsewhere, hits) = careful.tries(
        "How do I revoke a task that is already running?", 10
    )
    assert search == "fallback"
    assert len(wrong_hits) == 10
    assert first < 0.4 < elsewhere
    assert hits[0].chunk.doc_id.startswith("celery/")


def knowing_beats_guessing(result):
    """Knowing the project helps; a router that never abstains is worse; one that abstains is as good as none.

    The loop wins back part of what the bad router loses; abstaining wins back more.
    """
    table = result.table
    assert table.loc["known project", "verdict"] == "better"
    assert table.loc["always routed", "verdict"] == "worse"
    assert table.loc["modular", "verdict"] == "no detectable difference"
    assert table.loc["modular", ["diff_low", "diff_high"]].abs().max() < 0.03
    assert table.loc["always routed", "diff"] < table.loc["+ loop", "diff"] < table.loc["modular", "diff"]


def no_kind_is_better_with_modular(result, kinds):
    """On all 46 multi-hop questions no difference is detectable; nor is one on any other kind."""
    assert len(kinds["multihop"]) == 46
    for group in kinds.values():
        assert result.only(group).table.loc["modular", "verdict"] == "no detectable difference"


def the_rule_finds_it(best, talk, by_hand, in_ragkit):
    """The question that leans on the one before is found once the topic is appended."""
    assert by_hand == in_ragkit
    gold = talk.question.gold
    ranks = {}
    for text in (talk.question.text, in_ragkit):
        ranks[text] = first_ranks([hit.chunk for hit in best.search(text, 10)], gold)[0]
    assert ranks[talk.question.text] == 0
    assert ranks[in_ragkit] > 0


def always_both_is_worse(recorded):
    """The rule helps the follow-ups, and where the topic is new its cost is not detectable. Both ruin those."""
    alone = "standing alone, core, after another project, coverage@2000: "
    rule, both = (f"{way} against as it is" for way in ("rule", "both questions"))
    assert recorded.loc[f"leaning, coverage@2000: {rule}", "unit"].endswith("better")
    assert recorded.loc[f"{alone}{rule}", "unit"].endswith("no detectable difference")
    assert recorded.loc[f"{alone}{both}", "unit"].endswith("worse")


def the_other_half_decides(tuned):
    """The preset stays: on the other half the best configuration is not better."""
    assert len(tuned.table) == 12
    documents = [{span.doc_id for q in half for span in q.gold} for half in (tuned.tuning, tuned.holdout)]
    assert not documents[0] & documents[1]
    assert tuned.report.table.loc["best", "verdict"] != "better"
