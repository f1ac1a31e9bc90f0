"""What the prose of notebook 00 promises."""


def quote_stands_in_document(citation, document):
    """The quote stands in the document, word for word."""
    assert citation.quote in document.text


def context_fits_into_budget(context):
    """The frame has to fit into a budget of 2,000 tokens."""
    assert context.tokens <= 2000


def coffee_is_far_from_everything(lost, answer):
    """The nearest passage to the question about coffee is much farther away than the one that answered."""
    assert lost.hits[0].score < 0.3 < answer.hits[0].score


def answer_is_not_among_the_five(missed, gold):
    """The answer stands in the corpus, and not among the five passages."""
    assert len(missed.hits) == 5
    assert not any(hit.chunk.span.overlap(gold) for hit in missed.hits)
