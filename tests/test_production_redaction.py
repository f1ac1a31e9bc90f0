"""Secrets go, ordinary technical text stays."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragkit.corpus import load_questions
from ragkit.production.redaction import redact

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
    "Authorization: Bearer " + LETTERS[:32]: LETTERS[:32],
    "curl -H 'Authorization: Basic YWRhOkVuY2gxYW50cmVzcw=='": "YWRhOkVuY2gxYW50cmVzcw",
    "amqp://ada:c0rrect-horse@rabbit:5672//": "c0rrect-horse",
    "amqp://guest:guest@localhost:5672//": "guest@",
    "redis://:s3cr3tive9@10.0.0.7/0": "s3cr3tive9",
    'broker_password = "hunter2hunter"': "hunter2hunter",
    "my password is Tr0ub4dor&3, why is it refused?": "Tr0ub4dor",
    "export OPENAI_API_KEY=" + LETTERS[:40]: LETTERS[:40],
    '{"access_token": "' + LETTERS[:20] + '"}': LETTERS[:20],
    "SECRET_KEY = 'django-insecure-(x#q&no-digits-in-it)'": "django-insecure",
    "curl -u admin:S3cr3tpw https://host/api": "S3cr3tpw",
    "curl -s --user 'admin:letmein' \\\n https://host": "letmein",
    "mysql -u root -pS3cr3tpw shop": "S3cr3tpw",
    "mysqldump -p'letmein' shop": "letmein",
}
ORDINARY = (
    "How do I set broker_password in celery?",
    "What does the token bucket do? Is token = self.lexer.next_token() wrong?",
    "password=os.environ['PASSWORD'] raises KeyError",
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
    "docker run -u 1000:1000, curl -o out.txt, mysql -p shop",
)


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_of_secret_goes(kind):
    secret = SECRETS[kind]
    for around in ("{}", "Why is {} refused?", "key: '{}'.", "({})", "a\n{}\nb"):
        said = redact(around.format(secret))
        assert "[redacted: " in said
        assert secret[-12:] not in said
    named = kind if kind in ("private key", "e-mail", "card number") else "token"
    assert redact(f"see {secret} here") == f"see [redacted: {named}] here"


@pytest.mark.parametrize("text", IN_CONTEXT)
def test_what_stands_before_it_tells_what_it_is(text):
    secret = IN_CONTEXT[text]
    said = redact(text)
    assert secret not in said
    assert said.startswith(text[: text.index(secret)].rstrip("'\"")[:-1])


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text):
    assert redact(text) == text


def test_a_key_that_was_cut_goes_to_the_end():
    assert redact("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN") == "[redacted: private key]"


def test_no_question_of_the_corpus_is_changed_and_little_of_the_documents(core):
    sets = ("keyword", "paraphrase", "multihop", "unanswerable", "en")
    texts = [q.text for q in core.questions] + [q.text for name in sets for q in load_questions(name, core)]
    assert len(texts) > 400
    assert [text for text in texts if redact(text) != text] == []
    assert sum(redact(document.text).count("[redacted: ") for document in core.documents) <= 150  # 2 million characters


@given(st.text())
@example("password=[redacted: password]")
@example("curl -u a:b1 password='secret'")
def test_redacting_twice_changes_nothing_more(text):
    once = redact(text)
    assert redact(once) == once


@given(st.text(), st.sampled_from(sorted(SECRETS)), st.text())
def test_a_secret_goes_wherever_it_stands(before, kind, after):
    text = f"{before} {SECRETS[kind]} {after}"
    assert SECRETS[kind] not in redact(text)


EVIL = (
    *("user" * 20_000, "token " * 20_000, "-----BEGIN PRIVATE KEY-----" * 3000, "a@" * 30_000, "sk-" * 30_000),
    *("1234 " * 20_000, "eyJ" * 20_000, "4" * 50_000, "a." * 30_000 + "@", "://:" * 20_000),
    *("token=" * 20_000, "curl " * 20_000, "mysql -" * 20_000, "%" * 50_000, "token '" * 20_000),
    *("password=" + "user" * 49, "password=" + "user" * 49 + "!1x", "://a:" + "user" * 49 + "?@b"),
)


@pytest.mark.parametrize("text", EVIL, ids=lambda text: text[:12])
def test_reading_takes_linear_time(text):
    assert redact(text)  # about 0.02 s; an expression that tries every way to split it would not come back
