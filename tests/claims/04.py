"""What the prose of notebook 04 promises."""

import numpy as np


def vectors_miss_the_name(hits, question):
    """No star: the vector search offers pages about aiohttp, and none that explains the name."""
    assert len(hits) == 10
    assert not any(hit.chunk.span.answers(gold) for hit in hits for gold in question.gold)


def tea_finds_boil_water(cosines):
    """Tea found boil water."""
    assert cosines.argmax() == 0


def wrong_answer_wins_in_every_trap(table):
    """The wrong answer wins in all four traps, with both models."""
    assert len(table) == 8
    assert (table["wrong"] > table["right"]).all()


def humps_hardly_touch(by_chance, names):
    """Two humps that hardly touch."""
    minilm, e5 = names
    assert by_chance[minilm].quantile(0.99) < by_chance[e5].quantile(0.01)


def prefix_by_hand_gives_the_same_vector(by_hand, by_name):
    """A prefix by hand and load_embedder give the same vector."""
    assert np.allclose(by_hand, by_name, atol=1e-5)


def no_difference_without_prefixes(prefixes):
    """If results suffer without the prefixes, then by less than these questions could detect."""
    assert prefixes.table.loc["without", "verdict"] == "no detectable difference"


def nobody_could_tell_the_models_apart(result, names):
    """No detectable difference between the two models on these English questions."""
    assert result.table.loc[names[1], "verdict"] == "no detectable difference"


def models_have_two_profiles(by_kind, other_words, names):
    """For faq, E5's bar is the higher one; for paraphrase the verdict on E5 is *worse*."""
    minilm, e5 = names
    assert by_kind.loc["faq", e5] > by_kind.loc["faq", minilm]
    assert other_words.table.loc[e5, "verdict"] == "worse"


def trying_it_costs_a_few_cents(wanted):
    """A few cents at most."""
    assert wanted.usd < 0.05


def half_of_the_dimensions_can_go(curves, names):
    """Half can go for at most five answers in a hundred; with 24, MiniLM loses four in ten, E5 seven in ten."""
    assert (curves.loc[384] - curves.loc[192]).max() < 0.05
    for name, least, limit in ((names[0], 0.3, 0.5), (names[1], 0.6, 0.8)):
        for line in (f"{name}, turned", f"{name}, just cut"):
            lost = 1 - curves.loc[24, line] / curves.loc[384, line]
            assert least < lost < limit


def fewer_bits_beat_fewer_numbers(saved):
    """96 dimensions are worse; nobody notices one byte a number; one bit does better than the 96 dimensions."""
    assert ["worse" in verdict for verdict in saved.table["verdict"]] == [False, True, False, False]
    _, dimensions, _, bits = saved.table["mrr@10"]
    assert bits > dimensions


def nearest_passage_says_nothing(nearest, names, question):
    """MiniLM answers in first place; E5's nearest passage is the end of a sentence."""
    minilm, e5 = names
    assert any(nearest[minilm][0].chunk.span.answers(gold) for gold in question.gold)
    assert len(nearest[e5][0].chunk.text) < 5


def crumbs_are_hubs_of_one_model(hubs, minilm_visits):
    """A crumb is among the ten best of dozens of the questions; MiniLM has no passage like that."""
    questions, characters, _ = hubs.iloc[0]
    assert questions > 30
    assert characters < 5
    assert max(minilm_visits.values()) < 15


def sweeping_crumbs_is_better(cleaner):
    """Better, though by little: the answers that stood just below move up (look at hit@10)."""
    assert cleaner.table.loc["without", "verdict"] == "better"
    assert cleaner.table.loc["without", "hit@10"] > cleaner.table.loc["with crumbs", "hit@10"] + 0.01
