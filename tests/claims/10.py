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


def sections_help_multihop_questions(shaped, kinds):
    """Sections are better on multi-hop questions and on *en*, where the small chunks alone are worse.

    Over all questions no difference is detectable.
    """
    multihop, en = (shaped.only(kinds[kind]).table for kind in ("multihop", "en"))
    assert multihop.loc["sections", "verdict"] == "better"
    assert en.loc["sections", "diff"] > 0.03
    assert en.loc["128 tokens", "diff"] < -0.03
    assert set(shaped.table["verdict"]) == {"baseline", "no detectable difference"}


def nearly_always_the_right_project(single, routed, right):
    """The router is nearly always right, or searches everything."""
    assert 0.6 < len(routed) / len(single) < 0.9
    assert len(right) / len(routed) > 0.93


def both_halves_move_up(best, sub_questions, proxy):
    """Both halves of the question move up."""
    before, after = _ranks(best, proxy), _ranks(sub_questions, proxy)
    assert (after > 0).all()
    assert after.sum() < before.sum() or not before.all()


def knowing_beats_guessing(result, kinds):
    """Knowing the project helps; a router that never abstains is worse, most of all on paraphrases.

    The loop wins back part of what the bad router loses; abstaining wins back more. With the preset, which abstains, no
    difference is detectable: over all questions, and for any kind.
    """
    table = result.table
    assert table.loc["known project", "verdict"] == "better"
    assert table.loc["always routed", "verdict"] == "worse"
    assert table.loc["modular", "verdict"] == "no detectable difference"
    assert table.loc["always routed", "diff"] < table.loc["+ loop", "diff"] < table.loc["modular", "diff"]
    by_kind = {kind: result.only(group).table for kind, group in kinds.items()}
    assert min(by_kind, key=lambda kind: by_kind[kind].loc["always routed", "diff"]) == "paraphrase"
    assert {kind_table.loc["modular", "verdict"] for kind_table in by_kind.values()} == {"no detectable difference"}


def the_rule_finds_it(best, talk, by_hand, in_ragkit):
    """The question that leans on the one before is found once the topic is appended."""
    assert by_hand == in_ragkit
    gold = talk.question.gold
    ranks = {}
    for text in (talk.question.text, in_ragkit):
        ranks[text] = first_ranks([hit.chunk for hit in best.search(text, 10)], gold)[0]
    assert ranks[talk.question.text] == 0
    assert ranks[in_ragkit] > 0


def always_both_is_worse(follow_ups):
    """The rule helps the follow-ups, and where the topic is new its cost is not detectable. Both ruin those."""
    alone = "standing alone, core, after another project, coverage@2000: "
    rule, both = (f"{way} against as it is" for way in ("rule", "both questions"))
    assert follow_ups.loc[f"leaning, coverage@2000: {rule}", "unit"].endswith("better")
    assert follow_ups.loc[f"{alone}{rule}", "unit"].endswith("no detectable difference")
    assert follow_ups.loc[f"{alone}{both}", "unit"].endswith("worse")
