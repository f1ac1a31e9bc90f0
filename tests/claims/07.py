"""What the prose of notebook 07 promises."""


def answer_is_ranked_too_low(rank):
    """The answer was found, and it stands too low for anybody to read."""
    assert 10 < rank <= 50


def heat_finds_boil(cosines, asking, answering):
    """*water* finds itself, and *heat* finds *boil*."""
    assert answering[cosines[asking.index("water")].argmax()] == "water"
    assert answering[cosines[asking.index("heat")].argmax()] == "boil"


def answer_moves_to_the_top(new_rank):
    """The answer comes to the top."""
    assert new_rank <= 3


def loss_moves_to_the_reranker(lost):
    """*not retrieved* falls as more candidates are fetched, and *cut by rerank* rises."""
    missed = (lost == "not retrieved").sum()
    assert missed["10 candidates"] > missed["50 candidates"] > missed["100 candidates"]
    cut = (lost == "cut by rerank").sum()
    assert cut["10 candidates"] == 0 < cut["50 candidates"] < cut["100 candidates"]


def same_as_by_hand(first, by_hand, sentences):
    """By hand and by ragkit the same score, for the right sentence."""
    assert first.chunk.text == sentences[1]
    assert abs(first.score - by_hand) < 1e-4


def wake_and_issue_are_found(question, text, asking_at, answering_at, table):
    """*thunder* found *wake*, *suffer* a piece of *mitigate*, *problem* found *issue*."""
    found = {}
    for (start, end), best in zip(asking_at, table.argmax(axis=1), strict=True):
        found[question.text[start:end]] = text[slice(*answering_at[best])]
    assert (found["thunder"], found["suffer"], found["problem"]) == ("wake", "igate", "issue")
    assert "thundering" not in text[answering_at[0][0] : answering_at[-1][1]]


def reranking_is_better_and_rises_then_flat(deeper):
    """Reranking 50 candidates is *better* than none; 10 and 20 are *worse*, with 100 no difference is detectable."""
    verdicts = deeper.table["verdict"]
    assert verdicts["hybrid"] == verdicts["10 candidates"] == verdicts["20 candidates"] == "worse"
    assert deeper.table.loc["100 candidates", "ms_p50"] > deeper.table.loc["50 candidates", "ms_p50"]
    assert verdicts["100 candidates"] == "no detectable difference"
    assert deeper.table.loc["50 candidates", "hit@10"] > deeper.table.loc["hybrid", "hit@10"] + 0.05


def advanced_is_better(ladder, kinds):
    """Each step below `advanced` is *worse*, convex against RRF no detectable difference; paraphrases are repaired."""
    verdicts = ladder.table["verdict"]
    assert set(verdicts[["naive", "bm25", "dense", "hybrid"]]) == {"worse"}
    assert verdicts["advanced, convex"] == "no detectable difference"
    names, paraphrase = (ladder.only(kinds[kind]).table["coverage@2000"] for kind in ("keyword", "paraphrase"))
    assert paraphrase["hybrid"] < paraphrase["dense"] / 2
    assert paraphrase["advanced"] > paraphrase["dense"] - 0.05
    assert names["advanced"] > names["bm25"] - 0.03
