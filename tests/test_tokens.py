"""The packaged tokenizer: no character is lost, and Markdown's marks are no tokens."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from ragkit.tokens import minilm_tokenizer

MARKED = st.lists(
    st.sampled_from(
        [
            "word",
            "`x`",
            "``a b``",
            "# ",
            "## ",
            "```python\n",
            "```\n",
            "\n",
            " ",
            "| a | b |\n",
            "| --- | --- |\n",
            "~~~\n",
            "- ",
        ]
    )
)


@given(MARKED.map("".join))
def test_marks_are_no_tokens_and_their_characters_belong_to_the_words_beside_them(text):
    tokenizer = minilm_tokenizer()
    ids, offsets = tokenizer.tokenize(text)
    assert len(ids) == len(offsets) == tokenizer.count(text)
    assert (offsets[1:, 0] >= offsets[:-1, 1]).all()
    held = {i for start, end in offsets.tolist() for i in range(start, end)}
    assert {i for i, c in enumerate(text) if not c.isspace()} <= held


def test_what_is_read_is_the_text_without_its_marks():
    marked = "## Stop `it`\n\n```console\n$ kill -9 1\n```\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    plain = "Stop it\n\n$ kill -9 1\n\n| a | b |\n| 1 | 2 |\n"
    tokenizer = minilm_tokenizer()
    assert tokenizer.tokenize(marked)[0].tolist() == tokenizer.tokenize(plain)[0].tolist()
    assert tokenizer.count("```") > 0  # a text of marks alone
    assert tokenizer.count("the # and the | of a shell") == 8


def test_a_tokenizer_can_be_sent_to_another_process():
    sent = pickle.loads(pickle.dumps(minilm_tokenizer()))  # noqa: S301 - of our own
    assert sent.identity == minilm_tokenizer().identity
    assert sent.offsets("Stop a `worker`").tolist() == minilm_tokenizer().offsets("Stop a `worker`").tolist()
