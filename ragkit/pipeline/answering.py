"""Who writes the answers, where nobody says otherwise."""

from __future__ import annotations

from ragkit.base import LLM
from ragkit.generation import Extractive, OpenAIChat, WithFallback, endpoint_configured
from ragkit.generation.abstain import Abstaining
from ragkit.token_store import TokenStore
from ragkit.tokens import MINILM


def answering(store: TokenStore) -> LLM:
    """Who answers in the presets: the configured endpoint with a visible fallback, else quotes if they seem to fit.

    When to keep silent was learnt from the packaged model's scores. Another model's scores are on another scale: there
    the share of the question's words that the sources hold has to do.
    """
    fitted = store.encoder.name == MINILM
    offline = Abstaining(Extractive(store.maxsim, threshold=0.05), store) if fitted else Extractive(store.maxsim)
    return WithFallback(OpenAIChat(), offline) if endpoint_configured() else offline
