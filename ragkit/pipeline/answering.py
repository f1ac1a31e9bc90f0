"""Who writes the answers, where nobody says otherwise."""

from __future__ import annotations

from ragkit.abstaining import Abstaining
from ragkit.base import LLM
from ragkit.generation import Extractive, OpenAIChat, WithFallback, endpoint_configured
from ragkit.token_store import TokenStore


def answering(store: TokenStore) -> LLM:
    """Who answers in the presets: the configured endpoint with a visible fallback, else quotes if they seem to fit."""
    # A source that holds one word in twenty of what is asked is not about it, however near its vectors are.
    offline = Abstaining(Extractive(store.maxsim, threshold=0.05), store)
    return WithFallback(OpenAIChat(), offline) if endpoint_configured() else offline
