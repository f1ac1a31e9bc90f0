"""What the prose of notebook 02 promises."""


def few_chunks_survive(same, chunks):
    """Almost none of the chunks remain, and those are short documents that fit into one chunk."""
    assert len(same) < len(chunks) / 10
    assert all(name.split("#")[1].startswith("0-") for name in same)
