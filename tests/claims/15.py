"""What the prose of notebook 15 promises."""

import re


def a_cancelled_query_leaves_a_trace(trace):
    """The cancelled query is in the monitor; the last stage was cut off."""
    assert trace.error == "CancelledError"
    assert trace.filter(like="_ms").dropna().index[-1] == "generate_ms"
    assert trace["generate_ms"] > 500


def waiting_overlaps_and_computing_does_not(seconds):
    """The endpoint's answers take a fraction of the time; for quotes, nothing is gained beyond the cores."""
    assert seconds["endpoint, 12 at once"] < seconds["endpoint, 1 at once"] / 2
    assert seconds["quotes, 12 at once"] > seconds["quotes, 1 at once"] / 8


def each_token_opens_its_documents(replies, acme, staff):
    """Acme gets Gunicorn's passages alone, staff those of Celery, too, and a guessed token nothing."""
    assert replies[acme].endswith(": 200 {'gunicorn': 10}")
    assert "'celery'" in replies[staff]
    assert replies["token-of-guess-0001"].endswith(": 401 {}")


def throughput_stops_and_latency_grows(rate, p95):
    """Once the cores are busy, more clients only wait."""
    assert rate[16] < 2 * rate[2]
    assert p95[16] > 2 * p95[2]


def beyond_the_queue_is_refused(crowd):
    """Some of 40 clients are answered, and some hear at once that before_kill is no place."""
    refused = crowd["status"] == 429
    assert set(crowd["status"]) == {200, 429}
    assert crowd.loc[refused, "ms"].median() < crowd.loc[~refused, "ms"].median()


def exact_is_fast_enough_here(recall, chunks, index, queries, search_index):
    """Exact search takes less than a millisecond; HNSW finds nearly all."""
    assert len(chunks) == 2462
    assert recall > 0.95


def exact_grows_with_the_chunks(growth):
    """The time of exact search grows with the chunks, the graph's far less; it pays with recall."""
    times, recalls = {}, {}
    for name, value in growth.items():
        if found := re.fullmatch(r"([\d,]+) chunks, FAISS (flat|HNSW).*: (CPU a query|recall@10)", name):
            chunks, engine, what = int(found[1].replace(",", "")), found[2], found[3]
            (recalls if what == "recall@10" else times)[engine, chunks] = value
    sizes = sorted(chunks for engine, chunks in times if engine == "flat" and ("HNSW", chunks) in times)
    assert times["flat", sizes[-1]] > 5 * times["flat", sizes[0]]
    assert times["flat", sizes[-1]] > 5 * times["HNSW", sizes[-1]]
    graphs = sorted(chunks for engine, chunks in recalls if engine == "HNSW")
    assert recalls["HNSW", graphs[-1]] < recalls["HNSW", graphs[0]]


def a_post_filter_loses_hits(shares, asked):
    """Of ten fetched, a good part of acme's ten nearest is lost; of 500, none."""
    assert len(asked) > 40
    assert 0.5 < shares["left of 10 fetched"] < 0.7
    assert 0.9 < shares["left of 100 fetched"] < 1 <= shares["left of 500 fetched"] + 0.01


def the_tenant_gets_nothing_though_it_has_the_answer(asked, case, chunks, ranked, tens, growth):
    """Celery's chunks fill the ten places, though acme has the answer; the recorded rows are worse."""
    assert {chunks[place].doc_id.split("/")[0] for place in ranked[case, :10]} == {"celery"}
    assert any(chunks[tens[case][0]].span.answers(gold) for gold in asked[case].gold)
    assert growth.filter(regex="filter of 1 %").max() < 0.2


def the_second_run_goes_on(before_kill, second_run):
    """What is whole is not made again."""
    shards = int(re.search(r"in (\d+) shards", second_run)[1])
    assert shards > before_kill >= 3
    assert f"{shards - before_kill} shards made" in second_run


def ray_takes_longer_to_start(ingested):
    """On one machine, Ray is slower to start."""
    start = ", 2 at work: a run of one document"
    seconds = ingested["value"]
    assert seconds[f"actors of Ray Data{start}"] > 2 * seconds[f"processes{start}"]


def three_stores_agree(same, here, acmes):
    """The ten hits of 20 questions are the same, in the same order."""
    assert same == {"PgVectorStore": [True, True], "QdrantStore": [True, True]}
    assert len(here) == len(acmes) == 200
