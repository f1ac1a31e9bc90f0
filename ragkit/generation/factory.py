"""Who writes the answers, by one word: quotes, the model in the box, or an endpoint.

naive(corpus, llm="extractive")                 quotes, word for word
naive(corpus, llm="local")                      the packaged model, on this machine
naive(corpus, llm="~/models/any.gguf")          any model that llama.cpp knows
naive(corpus, llm="openai")                     an OpenAI-compatible endpoint
naive(corpus, llm=OpenAIChat("m", timeout=9))   an LLM with settings of its own
"""

from __future__ import annotations

import logging
import os
import warnings
from functools import cache
from pathlib import Path

from ragkit.base import LLM, InputError
from ragkit.generation.abstain import Abstaining
from ragkit.generation.answer import OpenAIChat, WithFallback
from ragkit.generation.extractive import Extractive
from ragkit.generation.prompts import SHORT
from ragkit.generation.small import Focused
from ragkit.languages import is_english
from ragkit.llm.chat import endpoint_configured
from ragkit.llm.local import LocalModel
from ragkit.retrieval.analysis import Analyzer
from ragkit.token_store import TokenStore
from ragkit.tokens import MINILM

DEFAULT = "extractive"
"""Who answers where nobody was chosen and ``$OPENAI_BASE_URL`` is not set."""

_log = logging.getLogger(__name__)


def make_llm(llm: LLM | str | Path | None, store: TokenStore, max_cost: float | None = None) -> LLM:
    """The LLM that ``llm`` stands for, for answers from the corpus of ``store``.

    - an LLM: itself.
    - ``"extractive"``: quotes from the sources, or "not found".
    - ``"local"``, or the path of a GGUF file (it ends in ``.gguf``): a model on this machine.
    - ``"openai"``: the endpoint at ``$OPENAI_BASE_URL``, else OpenAI's own, with ``$OPENAI_MODEL``.
    - None: ``"openai"`` where ``$OPENAI_BASE_URL`` is set, else ``DEFAULT``. A key alone sends nothing anywhere.

    Quotes go by the words of the store's language. The packaged model writes English: where the documents are in
    another language, a warning says so. Where a model fails, quotes answer, and ``Answer.reason`` says so. An
    endpoint's address is logged as a warning, once, before anything is sent to it. ``max_cost`` is an endpoint's limit
    for one question, in US dollars.

    Raises:
        InputError: an unknown word; a file that is no GGUF; no key for OpenAI's own address; a ``max_cost``, and the
            model's price is not known.
        ModelNotFoundError: the model's file is not there.
        MissingExtraError: llama.cpp is not installed.
    """
    if llm is None:
        llm = "openai" if endpoint_configured() else DEFAULT
    if isinstance(llm, LLM):
        return llm
    if llm == "extractive":
        return quotes(store)
    if llm == "local":
        if not is_english(store.language):
            _warn_of_english(LocalModel().name, store.language)
        return WithFallback(local_llm(LocalModel(), store), quotes(store))
    if isinstance(llm, str | Path) and str(llm).lower().endswith(".gguf"):
        return WithFallback(local_llm(LocalModel(llm), store), quotes(store))
    if llm == "openai":
        return WithFallback(endpoint_llm(max_cost), quotes(store))
    raise InputError(
        f"llm is {llm!r}: expected an LLM, 'extractive', 'local', 'openai', or the path of a GGUF file (ends in .gguf)"
    )


def quotes(store: TokenStore) -> LLM:
    """Quotes, or "not found"."""
    if can_abstain(store):
        return Abstaining(Extractive(store.maxsim, threshold=0.05), store)
    # Its own threshold is on the share of the question's words that the sources hold.
    return Extractive(
        store.maxsim, analyzer=None if is_english(store.language) else Analyzer.for_language(store.language)
    )


def can_abstain(store: TokenStore) -> bool:
    """Whether the store has the vectors of English texts by MiniLM: abstaining is fitted to their scores and words."""
    return store.encoder.name == MINILM and is_english(store.language)


def _warn_of_english(model: str, language: str) -> None:
    which = "several languages" if language == "mul" else f"another language ({language})"
    warnings.warn(
        f"{model} was made for English, and these documents are in {which}: its answers will be poor. "
        "'extractive' quotes in any language, and 'openai' or a GGUF file may be a model that knows it",
        stacklevel=3,
    )


def local_llm(model: LocalModel, store: TokenStore) -> LLM:
    """A model on this machine, with what helps a small one: few passages, a short prompt, a short answer.

    Its file and llama.cpp are looked for now; the first question starts it.
    """
    model.check()
    chat = OpenAIChat(server=model, prompt=SHORT, max_tokens=80, extra={"stop": ["\n\n"]}, timeout=180)
    writer = Focused(chat, store.maxsim)
    return Abstaining(writer, store) if can_abstain(store) else writer


def endpoint_llm(max_cost: float | None) -> LLM:
    """The endpoint at ``$OPENAI_BASE_URL``, else OpenAI's own; logs once which."""
    if not (endpoint_configured() or os.environ.get("OPENAI_API_KEY")):
        raise InputError(
            "'openai' without $OPENAI_BASE_URL is OpenAI's own address, and there is no key for it: set "
            "$OPENAI_API_KEY, or $OPENAI_BASE_URL for an endpoint of yours"
        )
    chat = OpenAIChat(max_cost=max_cost)
    _log_address(chat.base_url, chat.model)
    return chat


@cache
def _log_address(base_url: str, model: str) -> None:
    _log.warning("questions and sources are sent to %s (model %s)", base_url, model)
