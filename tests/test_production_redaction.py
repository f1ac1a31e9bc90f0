"""Secrets go, ordinary technical text stays."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragkit.corpus import load_questions
from ragkit.production.redaction import luhn, redact, secrets

LETTERS = "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z"

# Put together here, so that no scanner takes this file for a leak. None of them opens anything.
SECRETS = {
    "aws key": "AKIA" + "IOSFODNN7EXAMPLE".replace("7", "Q").replace("0", "P"),
    "github token": "ghp_" + LETTERS[:36],
    "gitlab token": "glpat-" + LETTERS[:20],
    "api key": "sk-proj-" + LETTERS[:48],
    "stripe key": "sk_live_" + LETTERS[:24],
    "google key": "AIza" + LETTERS[:35],
    "slack token": "xoxb-" + "123456789012-" + LETTERS[:24],
    "slack webhook": "hooks.slack.com/services/T00000000/B00000000/" + LETTERS[:24],
    "registry token": "npm_" + LETTERS[:36],
    "json web token": "eyJ" + LETTERS[:30] + ".eyJ" + LETTERS[:40] + "." + LETTERS[:43],
    "e-mail": "ada.lovelace+lists@maths.uni.ac.uk",
    "card number": "4242 4242 4242 4242",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\n" + LETTERS + "\n" + LETTERS + "\n-----END RSA PRIVATE KEY-----",
}
IN_CONTEXT = {
    "Authorization: Bearer " + LETTERS[:32]: ("credential", LETTERS[:32]),
    "curl -H 'Authorization: Basic YWRhOkVuY2gxYW50cmVzcw=='": ("credential", "YWRhOkVuY2gxYW50cmVzcw"),
    "amqp://ada:c0rrect-horse@rabbit:5672//": ("password", "c0rrect-horse"),
    "redis://:s3cr3tive9@10.0.0.7/0": ("password", "s3cr3tive9"),
    'broker_password = "hunter2hunter"': ("password", "hunter2hunter"),
    "my password is Tr0ub4dor&3, why is it refused?": ("password", "Tr0ub4dor"),
    "export OPENAI_API_KEY=" + LETTERS[:40]: ("password", LETTERS[:40]),
    '{"access_token": "' + LETTERS[:20] + '"}': ("password", LETTERS[:20]),
}
ORDINARY = (
    "How do I set broker_password in celery?",
    "What does the token bucket do? Is token = self.lexer.next_token() wrong?",
    "password=os.environ['PASSWORD'] raises KeyError",
    "amqp://guest:guest@localhost:5672// is refused",
    "postgresql://user:password@db/name",
    "mail user@example.com and ops@worker1.local",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b broke it",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "job 550e8400-e29b-41d4-a716-446655440000 at 2026-11-22 10:15:42,123",
    "the sk-learn-style-interface-of-this-library",
    "pip install git+https://host/org/repo@v1.2.3",
    "@app.task(bind=True) and a@b",
    "order 4242424242424241 and 1234567890123456 fail the check digit",
    "http://localhost:8000/@me: what is the bearer of a message?",
    "basic authentication with aiohttp.BasicAuth",
)


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_of_secret_goes(kind):
    secret = SECRETS[kind]
    for around in ("{}", "Why is {} refused?", "key: '{}'.", "({})", "a\n{}\nb"):
        said = redact(around.format(secret))
        assert secret not in said
        assert secret[-12:] not in said
        assert sum(secrets(around.format(secret)).values()) >= 1
    assert secrets(f"see {secret} here") == {kind: 1}
    assert redact(f"see {secret} here") == f"see [redacted: {kind}] here"


@pytest.mark.parametrize("text", IN_CONTEXT)
def test_what_stands_before_it_tells_what_it_is(text):
    kind, secret = IN_CONTEXT[text]
    assert secrets(text) == {kind: 1}
    assert secret not in redact(text)
    assert redact(text).startswith(text[: text.index(secret)])


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text):
    assert redact(text) == text


def test_a_key_that_was_cut_goes_to_the_end():
    assert redact("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN") == "[redacted: private key]"


def test_no_question_of_the_corpus_is_changed(core):
    sets = ("keyword", "paraphrase", "multihop", "unanswerable", "en")
    texts = [q.text for q in core.questions] + [q.text for name in sets for q in load_questions(name, core)]
    assert len(texts) > 400
    assert [text for text in texts if redact(text) != text] == []


def test_what_goes_from_two_million_characters_of_documentation(core):
    """Every address in them is one of a project or a made-up node; the passwords are Oracle's scott and a console's."""
    found = [secrets(document.text) for document in core.documents]
    total = sum(found[1:], found[0])
    assert total.keys() == {"e-mail", "password"}
    assert total["password"] == 4
    assert total["e-mail"] <= 21
    assert sum(map(bool, found)) <= 15  # of 334 documents


@given(st.text())
@example("password=[redacted: password]")
@example("\ud800 sk-")
def test_redacting_twice_changes_nothing_more(text):
    once = redact(text)
    assert redact(once) == once
    assert bool(secrets(text)) == (once != text)


@given(st.text(), st.sampled_from(sorted(SECRETS)), st.text())
def test_a_secret_goes_wherever_it_stands(before, kind, after):
    text = f"{before} {SECRETS[kind]} {after}"
    assert SECRETS[kind] not in redact(text)


@given(st.text("0123456789", min_size=12, max_size=18))
def test_one_check_digit_fits(digits):
    assert sum(luhn(digits + str(check)) for check in range(10)) == 1


EVIL = (
    *("user" * 20_000, "token " * 20_000, "-----BEGIN PRIVATE KEY-----" * 3000, "a@" * 30_000, "sk-" * 30_000),
    *("1234 " * 20_000, "eyJ" * 20_000, "4" * 50_000, "a." * 30_000 + "@", "://:" * 20_000),
    *("password=" + "user" * 49, "password=" + "user" * 49 + "!1x", "://a:" + "user" * 49 + "?@b"),
)


@pytest.mark.parametrize("text", EVIL, ids=lambda text: text[:12])
def test_reading_takes_linear_time(text):
    assert redact(text)  # about 0.02 s; an expression that tries every way to split it would not come back
