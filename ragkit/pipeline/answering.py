"""Who writes the answers, where nobody says otherwise."""

from __future__ import annotations

from ragkit.abstaining import Abstaining
from ragkit.base import LLM
from ragkit.generation import Extractive, OpenAIChat, WithFallback, endpoint_configured
from ragkit.token_store import TokenStore


def answering(store: TokenStore) -> LLM:
    """Who answers in the presets: the configured endpoint with a visible fallback, else quotes if they seem to fit."""
    offline = Abstaining(Extractive(store.maxsim, threshold=0), store)
    return WithFallback(OpenAIChat(), offline) if endpoint_configured() else offline
