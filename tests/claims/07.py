"""What the prose of notebook 07 promises."""


def answer_is_ranked_too_low(rank):
    """The answer was found, and it stands too low for anybody to read."""
    assert 10 < rank <= 50


def deeper_is_more(ceiling):
    """The further down you read, the more answers there are."""
    assert ceiling.is_monotonic_increasing
    assert ceiling[50] > ceiling[10] + 0.08


def heat_finds_boil(cosines, asking, answering):
    """*water* finds itself, and *heat* finds *boil*."""
    assert answering[cosines[asking.index("water")].argmax()] == "water"
    assert answering[cosines[asking.index("heat")].argmax()] == "boil"


def same_as_by_hand(first, by_hand, sentences, weights, asking):
    """By hand and by ragkit the same score, for the right sentence; *water* has the lowest idf."""
    assert first.chunk.text == sentences[1]
    assert abs(first.score - by_hand) < 1e-4
    assert weights.argmin() == asking.index("water")


def answer_moves_to_the_top(new_rank):
    """The answer comes to the top."""
    assert new_rank <= 3


def wake_and_issue_are_found(matches, heights, rows):
    """*thunder* found *wake*, *suffer* a piece of *mitigate*, *problem* *issue*, all nearer than in the other."""
    words = {"thunder": "wake", "suffer": "igate", "problem": "issue"}
    for asked, found in words.items():
        assert matches[0][rows.index(asked)] == found
        assert heights[0][rows.index(asked)] > heights[1][rows.index(asked)]


def reranking_is_better(result):
    """*Better*, without a second model and without training."""
    assert result.table.loc["reranked", "verdict"] == "better"


def rises_then_flat(deeper):
    """10 and 20 candidates are *worse* than 50; from 50 to 100 both lines are flat."""
    verdicts = deeper.table["verdict"]
    assert verdicts["10 candidates"] == verdicts["20 candidates"] == "worse"
    assert verdicts["100 candidates"] == "no detectable difference"
    assert deeper.table.loc["100 candidates", "hit@10"] - deeper.table.loc["50 candidates", "hit@10"] < 0.03


def no_order(about):
    """Asked freely, it never gave an order; with a grammar always the one in which it had got the passages."""
    shares = {row["name"]: row["value"] for row in about}
    assert shares["reranker, language model: no order in the answer"] == 1
    assert shares["reranker, language model, grammar: no order in the answer"] == 0
    assert shares["reranker, language model, grammar: the order it got, or none"] == 1


def ceiling_holds(curves):
    """More candidates contain more answers; no hit@10 is above the share of them."""
    ceiling = curves["an answer is among the candidates"]
    assert (ceiling.diff().iloc[1:] > 0).all()
    assert (curves["hit@10"] <= ceiling + 1e-9).all()


def loss_moves_to_the_reranker(lost):
    """With 10 candidates nothing can be cut; the more candidates, the more of the loss is the reranker's."""
    cut = (lost == "cut by rerank").sum()
    assert cut["10 candidates"] == 0 < cut["50 candidates"] < cut["100 candidates"]


def advanced_is_better(ladder, by_step):
    """Each step below `advanced` is *worse*, convex against RRF no detectable difference; paraphrases are repaired."""
    verdicts = ladder.table["verdict"]
    assert verdicts["hybrid"] == verdicts["naive"] == "worse"
    assert verdicts["advanced, convex"] == "no detectable difference"
    paraphrase = by_step.loc["paraphrase"]
    assert paraphrase["hybrid"] < paraphrase["dense"] / 2
    assert paraphrase["advanced"] > paraphrase["dense"] - 0.05
    assert by_step.loc["keyword", "advanced"] > by_step.loc["keyword", "bm25"] - 0.03


def presets_are_near_the_best(recorded):
    """256/32 is above 512/64 at each number of candidates, 50 are above 20, and 100 bring no more."""
    grid = {row["name"]: row["value"] for row in recorded["rows"]}
    for n in (20, 50, 100):
        at = f"{n} candidates: joined coverage"
        assert grid[f"grid: 256/32, {at}"] > grid[f"grid: 512/64, {at}"]
    for size in ("256/32", "512/64"):
        few, usual, many = (grid[f"grid: {size}, {n} candidates: joined coverage"] for n in (20, 50, 100))
        assert few < usual
        assert many < usual + 0.005


def milliseconds_are_few(milliseconds):
    """The p95 is above the p50, and each search takes well under a second."""
    assert (milliseconds["search p95"] >= milliseconds["search p50"]).all()
    assert milliseconds["search p50"].max() < 1000
