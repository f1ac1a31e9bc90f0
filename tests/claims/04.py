"""What the prose of notebook 04 promises."""

SCORINGS = ("pooled", "maxp", "bm25")


def from_the_first_page_to_nowhere(ranks):
    """From 64 to 1,024 tokens the answer falls from the first page to nowhere."""
    assert ranks[64] <= 10 < 100 < ranks[512] < ranks[1024]


def both_agree(pooled, by_hand):
    """The same in ragkit."""
    assert pooled @ by_hand > 0.999


def in_its_place_the_sentence_is_about_the_lever(pooled, alone, query):
    """Encoded in its place, the sentence is about the lever."""
    assert pooled @ query > alone @ query + 0.1


def pooled_loses_most_with_size(curves):
    """All three lose with size in the end; from 64 to 1,024 tokens pooled loses two thirds, maxp a fifth."""
    assert all(max(curve.values()) > curve[1024] for curve in curves.values())
    left = {scoring: curve[1024] / curve[64] for scoring, curve in curves.items()}
    assert left["pooled"] < 0.4
    assert 0.75 < left["maxp"] < 0.85
    assert left["pooled"] < left["bm25"]


def half_of_the_rule_holds_at_ten_results(result):
    """Ten results of 512 bring detectably more than ten of 256, and 1,024 brings no more than 512; 512 holds about
    twice as much text."""
    table = result.table
    assert table.loc["512 / 50", "verdict"] == "better"
    assert table.loc["1024 / 100", "gold_chars@10"] < table.loc["512 / 50", "gold_chars@10"] + 0.01
    assert 1.8 < table.loc["512 / 50", "tokens"] / table.loc["256 / 32", "tokens"] < 2.2


def the_rule_is_worse_at_equal_tokens(budget):
    """Both halves of the rule are detectably worse than 256. And 128 against 256? No detectable difference."""
    assert budget.metric == "coverage@2000"
    verdicts = budget.table["verdict"]
    assert verdicts[["512 / 50", "1024 / 100"]].tolist() == ["worse", "worse"]
    assert verdicts["128 / 16"] == "no detectable difference"


def recall_prefers_small_chunks(both):
    """By recall, 128 is .06 ahead of 256; by the share of the characters, a third of that."""
    ahead = both.loc["128 / 16"] - both.loc["256 / 32"]
    assert 0.055 <= ahead["recall@2000"] < 0.065
    assert 0.25 < ahead["coverage@2000"] / ahead["recall@2000"] < 0.4


def maxp_gains_at_1024(rows):
    """Nothing detectable at 128, a clear gain at 1,024."""
    assert rows[1024]["verdict"] == "better"
    assert rows[128]["verdict"] == "no detectable difference"


def late_chunking_loses_nothing_detectable(trio):
    """At either size: no detectable loss."""
    assert {row["verdict"] for row in trio.values()} == {"no detectable difference"}


def small_chunks_matter_to_vectors_only(result):
    """Smaller chunks: better. Both together bring most. 128 instead of 512 is worth a lot to pooled vectors, less to
    MaxP, and nothing to BM25."""
    table = result.table
    assert set(table.loc[["pooled 128", "maxp 128"], "verdict"]) == {"better"}
    assert table["diff"].idxmax() == "maxp 128"
    gain = {scoring: table["diff"][f"{scoring} 128"] - table["diff"][f"{scoring} 512"] for scoring in SCORINGS}
    assert gain["pooled"] > gain["maxp"] > gain["bm25"] + 0.02
    assert abs(gain["bm25"]) < 0.02
    assert table.loc["maxp 512", "diff"] > 0.04
    assert table.loc["maxp 512", "verdict"] == "no detectable difference"


def maxp_loses_this_one(ranks):
    """Pooled has the answer near the top. By their best windows, 17 other chunks are nearer to the question; by their
    averages, only one."""
    assert ranks == {"pooled 512": 2, "maxp 512": 18}
