"""Take secrets out of a text before it is kept: keys, tokens, passwords, private keys, addresses, card numbers.

A secret in a question ("why does my key sk-... not work?") must not end up in a log. Each pattern below is the form
that the issuer documents, so that ordinary technical text passes: a rule that takes any random-looking word would also
take commit ids and digests. What has no form of its own (a password in a sentence) is only seen where a word before it
says what it is. So this lowers the risk; it does not end it. ``text="none"`` of the monitor keeps no text at all.

Placeholders of documentation (``user@example.com``, ``guest:guest@localhost``) are left.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

Match = re.Match[str]


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others, as it does on every payment card (ISO/IEC 7812-1, annex B).

    >>> luhn("4242424242424242"), luhn("4242424242424241")
    (True, False)
    """
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _any(_: Match) -> bool:
    return True


def _card(match: Match) -> bool:
    digits = re.sub(r"\D", "", match["secret"])
    return len(set(digits)) > 1 and luhn(digits)


# RFC 2606 keeps these names for examples and RFC 6762 .local for one's own network: nobody has a mailbox there.
_EXAMPLE = re.compile(
    r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|local(?:host)?|(?:my)?domain\.\w+)$", re.I
)
# No word of the list is made of two others: so there is one way to read a text, and reading takes linear time.
_PLACEHOLDER = re.compile(
    r"[^a-z]*(?:(?:access|admin|any|api|aws|bar|changeme|db|example|foo|guest|here|id|key|local|me|my|name|new|old|pass|"
    r"phrase|pwd|root|s3|secret|some|test|the|token|user|value|wd|word|your)[ _.-]?)++\d{0,4}[^a-z]*|"
    r"[x*.•_-]+|[<${%\[].*|\d{1,3}",
    re.I,
)


def _mailbox(match: Match) -> bool:
    return not _EXAMPLE.search(match["domain"])


def _chosen(match: Match) -> bool:
    """A password that somebody chose, not one that stands for any."""
    return not _PLACEHOLDER.fullmatch(match["secret"])


def _random(match: Match) -> bool:
    """Letters and digits both, and no placeholder: ``password=os.environ`` names one, ``password=Tr0ub4dor`` is one."""
    secret = match["secret"]
    return any(map(str.isdigit, secret)) and any(map(str.isalpha, secret)) and _chosen(match)


@dataclass(frozen=True)
class Pattern:
    """A kind of secret: ``hints`` are strings of which one is in every text that has it (in lower case); ``secret`` is
    the group that is replaced; ``holds`` has the last word."""

    name: str
    hints: tuple[str, ...]
    expression: re.Pattern[str]
    holds: Callable[[Match], bool] = _any


def _of(name: str, hints: str, expression: str, holds: Callable[[Match], bool] = _any, flags: int = 0) -> Pattern:
    return Pattern(name, tuple(hints.split()), re.compile(expression, flags), holds)


_WORD = r"(?<![A-Za-z0-9_-])"
_NAMED = r"pass(?:word|wd|phrase)|pwd|secret(?:[_-]?key)?|(?:api|access|auth)[ _-]?(?:key|token)|token"

PATTERNS = (
    # RFC 7468 (PEM): everything between the two lines, or to the end of a text that was cut.
    _of(
        "private key",
        "private",
        r"(?P<secret>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z))",
        flags=re.S,
    ),
    # RFC 7519: three parts in base64url; the first two are JSON objects, so they begin with eyJ.
    _of("json web token", "eyj", rf"{_WORD}(?P<secret>eyJ[\w-]{{8,}}\.eyJ[\w-]{{8,}}\.[\w-]*)"),
    # docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html: AKIA is long-term, ASIA temporary.
    _of("aws key", "akia asia", r"\b(?P<secret>A(?:KI|SI)A[A-Z2-7]{16})\b"),
    # github.blog/2021-04-05-behind-githubs-new-authentication-token-formats; fine-grained ones begin with github_pat_.
    _of("github token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\b(?P<secret>gh[pousr]_\w{30,}|github_pat_\w{30,})"),
    # docs.gitlab.com/security/tokens: glpat- and its relatives.
    _of("gitlab token", "gl", r"\b(?P<secret>gl(?:pat|dt|rt|cbt|ptt|ft|agent|soat)-[\w.-]{20,})"),
    # platform.openai.com, docs.anthropic.com: sk-..., sk-proj-..., sk-ant-...: 20 letters or more, a digit among them.
    _of("api key", "sk-", rf"{_WORD}(?P<secret>sk-(?=[\w-]*\d)[A-Za-z0-9_-]{{20,}})"),
    # docs.stripe.com/keys.
    _of("stripe key", "k_live_ k_test_", r"\b(?P<secret>[prs]k_(?:live|test)_[A-Za-z0-9]{10,})"),
    # cloud.google.com/docs/authentication/api-keys: AIza and 35 more.
    _of("google key", "aiza", r"\b(?P<secret>AIza[\w-]{35})"),
    # docs.slack.dev/authentication/tokens; api.slack.com/messaging/webhooks.
    _of("slack token", "xox xapp-", r"\b(?P<secret>xox[abeoprs]-[\w-]{10,}|xapp-\d-[\w-]{10,})"),
    _of("slack webhook", "hooks.slack", r"(?P<secret>hooks\.slack\.com/services/[\w/]{20,})"),
    # huggingface.co/docs/hub/security-tokens, docs.npmjs.com, the Python package index: the issuer's letters in front.
    _of("registry token", "hf_ npm_ pypi-", rf"{_WORD}(?P<secret>hf_[A-Za-z]{{30,}}|npm_\w{{36}}|pypi-[\w-]{{50,}})"),
    # RFC 6750 section 2.1 and RFC 7617 section 2: what follows the scheme in an Authorization header.
    _of(
        "credential",
        "bearer basic",
        r"\b(?:bearer|basic)\s+(?P<secret>(?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*)",
        flags=re.I,
    ),
    # RFC 3986 section 3.2.1: user:password@ in a URL.
    _of("password", "://", r"://[^\s/:@\"'<>]*:(?P<secret>[^\s/@\"'<>]{1,200})@(?=[\w\[.-])", _chosen),
    # A word that says what it is, and a value that looks made up.
    _of(
        "password",
        "pass pwd secret token key",
        rf"(?:{_NAMED})[\"']?\s*(?:=>?|:|\bis\b)\s*[\"'`]?(?P<secret>[^\s\"'`,;()<>{{}}\[\]]{{6,200}}+)(?!\()",
        _random,
        re.I,
    ),
    # RFC 5322 section 3.4.1, the common part of it.
    _of(
        "e-mail",
        "@",
        r"(?<![\w.+/:-])(?P<secret>[\w.+%-]{1,64}@(?P<domain>(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}))(?![\w@])",
        _mailbox,
    ),
    # ISO/IEC 7812-1: 13 to 19 digits, in groups or not; the first digit of payment cards is 2 to 6.
    _of(
        "card number",
        "",
        r"(?<![\w.-])(?P<secret>[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3\d{3}[ -]?\d{6}[ -]?\d{5})(?![\w-])",
        _card,
    ),
)


@lru_cache(maxsize=4096)
def redact(text: str) -> str:
    """``text`` with each secret replaced by its kind. CachedAnswer: an index returns the same passages again and again.

    >>> redact("Why does postgres://app:Tr0ub4dor@db/x refuse me? Mail me at jo@uni.edu")
    'Why does postgres://app:[redacted: password]@db/x refuse me? Mail me at [redacted: e-mail]'
    """
    return _redacted(text)[0]


def secrets(text: str) -> Counter[str]:
    """How many secrets of which kind ``redact`` takes out of ``text``.

    >>> secrets("AKIA" + "ABCDEFGHIJKLMNOP")
    Counter({'aws key': 1})
    """
    return _redacted(text)[1]


def _redacted(text: str) -> tuple[str, Counter[str]]:
    found: Counter[str] = Counter()
    lower = text.lower()
    for pattern in PATTERNS:
        if not pattern.hints or any(hint in lower for hint in pattern.hints):
            text = pattern.expression.sub(partial(_replaced, pattern, found), text)
    return text, found


def _replaced(pattern: Pattern, found: Counter[str], match: Match) -> str:
    whole = match.group()
    if not pattern.holds(match):
        return whole
    found[pattern.name] += 1
    start, end = (at - match.start() for at in match.span("secret"))
    return f"{whole[:start]}[redacted: {pattern.name}]{whole[end:]}"
