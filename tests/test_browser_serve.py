"""The service's page in a real browser: a question, its passages, a thumb, a token; nothing of a document is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from browser import screenshots

from ragkit.base import Corpus, Document, Section
from ragkit.production.access import Tokens
from ragkit.production.feedback import FeedbackStore
from ragkit.production.monitoring import TraceMonitor
from ragkit.production.serve import create_app, running
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

pytestmark = pytest.mark.browser

TOKEN = "a-token-for-the-page"
TEXT = "# Valves\n\nPress <b>SEEK</b> <img src=x onerror=\"document.title='owned'\"> until the valve opens.\n"


def wait(condition: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"still {value!r} after {seconds} s"
        time.sleep(0.05)
    return value


def test_a_question_is_answered_with_marked_passages_and_takes_a_thumb(chromium, ragkit_home, monkeypatch):
    opened = TokenStore.open
    monkeypatch.setattr(TokenStore, "open", lambda corpus, **_: opened(corpus, FakeEmbedder(), progress=False))
    document = Document("valves", TEXT, "Valves", (Section(("Valves",), 0, 10, len(TEXT)),))
    monitor = TraceMonitor()
    feedback = FeedbackStore(monitor)
    tokens = Tokens({TOKEN: {"tenant": "acme"}})
    app = create_app(Corpus("page", (document,)), llm="extractive", monitor=monitor, feedback=feedback, tokens=tokens)

    def text(selector: str) -> str:
        return str(chromium.execute_script("return document.querySelector(arguments[0])?.innerText || ''", selector))

    def find(selector: str) -> Any:
        return chromium.find_element("css selector", selector)

    with running(app) as url:
        wait(lambda: app.state.service.index.ready)
        chromium.get(url)
        wait(lambda: find("#token").is_displayed())
        find("#question").send_keys("How do I open the valve?\n")
        wait(lambda: "token" in text("#note"))
        find("#token").send_keys(TOKEN)
        find("form button").click()
        wait(lambda: text("#sources mark"))
        assert "<b>SEEK</b>" in text("#text")
        assert "onerror" in text("#sources mark")
        assert chromium.title == "ragkit"
        assert chromium.find_elements("css selector", "#sources img, #text img, #sources b") == []
        find("#up").click()
        wait(lambda: text("#thanks") == "thank you")
        assert find("#up").get_attribute("aria-pressed") == "true"
        (opinion,) = feedback.all()
        assert (opinion.thumb, opinion.tenant) == (1, "acme")
        refused = [entry for entry in chromium.get_log("browser") if "Content Security Policy" in entry["message"]]
        assert refused == []
        colours = []
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            colours.append(chromium.execute_script("return getComputedStyle(document.body).color"))
            chromium.save_screenshot(str(screenshots() / f"serve_{scheme}.png"))
        assert colours[0] != colours[1]
    find("#down").click()  # the server has ended
    wait(lambda: text("#thanks") not in ("", "thank you"))
    assert find("#up").get_attribute("aria-pressed") == "true"
