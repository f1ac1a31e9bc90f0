"""What the prose of notebook 00 promises."""


def the_answer_is_short_and_cites_two_sources(answer):
    """An answer is made of quotes, about 500 characters in all; there are links to two sources."""
    assert not answer.abstained
    assert len(answer.text) < 600
    assert len({citation.number for citation in answer.citations}) == 2
    assert "limit=30" in answer.text


def passage_and_quote_stand_in_the_document(chunk, citation, document):
    """A citation names a document and two positions in it."""
    assert document.text[chunk.start : chunk.end] == chunk.text
    assert citation.quote in document.text


def context_fits_into_the_budget(context):
    """All of it must fit into a budget of 2,000 tokens."""
    assert 1000 < context.tokens <= 2000


def coffee_is_far_from_everything(coffee, answer):
    """The nearest passages to the question about coffee are far away, and the answer says that it found nothing."""
    assert coffee.abstained
    assert coffee.hits[0].score < 0.3 < answer.hits[0].score


def the_answer_is_in_the_corpus_and_not_retrieved(missed, gold):
    """The answer is in the corpus, it did not get past the first step, and "not found" is what is said."""
    assert missed.abstained
    assert len(missed.hits) == 5
    assert not any(hit.chunk.span.overlap(gold) for hit in missed.hits)


def the_unsure_answer_passes_the_right_passage_over(unsure):
    """The quote answers another question; the right passage was among the five."""
    right = "blocks that start with `# fmt: off`"
    assert unsure.reason.startswith("unsure")
    assert right not in unsure.text
    assert any(right in hit.chunk.text for hit in unsure.hits)


async def the_folder_answers(mine):
    """The pages say that native speakers have not reviewed the translations."""
    answer = await mine.query("Have native speakers reviewed the translations?", k=5)
    assert "Native speakers" in answer.text
