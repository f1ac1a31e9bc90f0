"""What the prose of appendix B promises."""


def _first_rank(hits, question):
    ranks = [rank for rank, hit in enumerate(hits, 1) if any(hit.chunk.span.answers(gold) for gold in question.gold)]
    return min(ranks, default=None)


def no_star_among_the_first_ten(hits, question, store):
    """No star among the first ten; *Celery* is three pieces, *Windows* is one."""
    assert len(hits) == 10
    assert _first_rank(hits, question) is None
    count = store.encoder.tokenizer.count
    assert (count("Celery"), count("Windows")) == (3, 1)


def contrastive_loss_is_the_mean(loss, queries, passages, shares, contrastive_loss):
    """By hand and in ragkit the loss is the same; *Beat* gives its own sentence little."""
    assert abs(loss - contrastive_loss(queries, passages, 0.05)) < 1e-4
    assert 0.05 < shares[0, 0] < 0.15


def no_pair_touches_an_faq_page(corpus, halves, pairs):
    """FAQ pages give no pairs, and no document is in both halves."""
    exam = {span.doc_id for q in corpus.questions for span in q.gold}
    assert exam
    for half, made in zip(halves, pairs, strict=True):
        pages = {pair.positive.doc_id for pair in made}
        assert not pages & exam
        assert pages <= {document.id for document in half}


def only_the_held_out_curve_turns(curve):
    """The training loss falls and falls. The held-out loss falls a little, turns, and rises."""
    training, held_out = curve["training"], curve["held out"]
    assert training.iloc[-1] < training.iloc[0] / 2
    assert 0 < held_out.idxmin() < 150
    assert held_out.iloc[-1] > held_out.min()


def the_answer_moves_up(ranks):
    """With both adapters the answer moves up, from far down to among the first ten."""
    before, *after = ranks
    assert before > 40
    assert all(1 <= rank <= 10 for rank in after)


def better_on_documents_not_read(result, in_budget):
    """*Better* on documents that the adapter has not read, by most of what it gains on those that it has.

    By coverage in 2,000 tokens, only *seen* is better.
    """
    table = result.table
    assert set(table["verdict"].iloc[1:]) == {"better"}
    assert table.loc["held out", "diff"] > table.loc["seen", "diff"] / 2
    assert in_budget.table["verdict"].tolist() == ["baseline", "no detectable difference", "better"]


def no_difference_in_the_pipeline(in_pipeline):
    """In the advanced pipeline no difference is detectable."""
    assert in_pipeline.table.loc["held out", "verdict"] == "no detectable difference"


def full_fine_tuning_may_help_elsewhere(rows):
    """On XQuAD no difference is detectable, and trained on three projects neither gains on its own questions."""
    verdicts = rows.set_index(["trained on", "asked about", "system"])["verdict"]
    assert set(verdicts.xs("XQuAD, English", level=1)) == {"no detectable difference"}
    assert set(verdicts["celery, scrapy", "projects in the training"]) == {"better"}
    assert set(verdicts["aiohttp, black, gunicorn", "projects in the training"]) == {"no detectable difference"}
    assert verdicts["aiohttp, black, gunicorn", "other projects", "fine-tuned"] == "better"


def the_answer_falls(systems, failed):
    """The answer falls from the first place, and stays among the first ten."""
    assert _first_rank(systems["base"].search(failed.text, 10), failed) == 1
    assert _first_rank(systems["held out"].search(failed.text, 10), failed) in range(2, 11)
