"""Prompts: the version changes with the words."""

from __future__ import annotations

import hashlib
import json

from ragkit.generation.prompts import ANSWER, NOT_FOUND

PINNED = {"answer 1": "6d54014744de683d"}


def test_a_prompt_with_other_words_has_another_version():
    for prompt in (ANSWER,):
        digest = hashlib.sha256(json.dumps(prompt.messages("{question}", "{context}")).encode()).hexdigest()
        assert PINNED.get(prompt.identity) == digest[:16], "raise the prompt's version and pin it here"


def test_the_prompt_tells_the_words_for_no_answer():
    system, user = ANSWER.messages("Why {not}?", "<source>{x}</source>")
    assert NOT_FOUND in system["content"]
    assert user["content"] == "<source>{x}</source>\n\nQuestion: Why {not}?"
