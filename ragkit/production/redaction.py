"""Take secrets out of a text before it is stored: keys, tokens, passwords, e-mail addresses, card numbers.

A secret in a question ("why does my key sk-... not work?") must not end up in a log. Most patterns are the form that
the issuer documents; a password has no form, and is seen where the text before it says what it is (``password = ``,
``curl -u``). A rule that took every random-looking word would also take commit ids and digests. So this lowers the
risk and does not end it: ``TraceMonitor(text="none")`` stores no text at all.
"""

from __future__ import annotations

import re
from functools import partial

_NAMED = r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?key)?|(?:api|access|auth)[ _-]?(?:key|token)|token)"
_IS = rf"{_NAMED}[\"']?\s*(?:=>?|:|\bis\b)\s*"
# RFC 2606: names for examples, at the end of a domain.
_EXAMPLE = r"(?:example(?:\.(?:com|net|org))?|test|invalid|local(?:host)?|(?:my)?domain\.\w+)(?![\w.-]*\w)"
_START = r"(?<![\w-])"

# What a secret is replaced by, what stands before it and is kept, and the secret.
_PATTERNS = tuple(
    (kind, re.compile(rf"({before})(?!\[redacted)(?P<secret>{secret})", re.DOTALL | re.IGNORECASE))
    for kind, before, secret in (
        # RFC 7468: everything between the two lines, or to the end of a text that was cut.
        ("private key", "", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)"),
        # As their issuers document them: RFC 7519; Amazon, Google; GitHub; GitLab; OpenAI, Anthropic, Stripe; ...
        ("token", _START, r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"),
        ("token", _START, r"A(?:KI|SI)A[A-Z2-7]{16}\b|AIza[\w-]{35}"),
        ("token", _START, r"gh[pousr]_\w{30,}|github_pat_\w{30,}"),
        ("token", _START, r"gl(?:pat|dt|rt|cbt|ptt|ft|agent|soat)-[\w.-]{20,}"),
        ("token", _START, r"sk-(?=[\w-]*\d)[\w-]{20,}|[prs]k_(?:live|test)_\w{10,}"),
        ("token", _START, r"xox[a-z]-[\w-]{10,}|xapp-\d-[\w-]{10,}|hooks\.slack\.com/services/[\w/]{20,}"),
        ("token", _START, r"hf_[a-z]{30,}|npm_\w{36}|pypi-[\w-]{50,}"),
        # RFC 6750 and RFC 7617: what follows the scheme in an Authorization header.
        ("token", r"\b(?:bearer|basic)\s+", r"(?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*"),
        # RFC 3986, section 3.2.1: user:password@ in a URL.
        ("password", r"://[^\s/:@\"'<>]{0,200}:", r"[^\s/@\"'<>]{1,200}(?=@[\w\[.-])"),
        ("password", r"\bcurl\b.{0,200}?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,64}:", r"[^\s\"']+"),
        ("password", r"\b(?:mysql|mariadb)\w*\b.{0,200}?\s-p[\"']?", r"[^\s\"']+"),
        # password = "whatever", and password=l3tters and digits: `password=os.environ` is none.
        ("password", rf"{_IS}[\"'`]", r"[^\"'`\n]{6,200}(?=[\"'`])"),
        (
            "password",
            _IS,
            r"(?=[^\s\"'`]{0,200}\d)(?=[^\s\"'`]{0,200}[a-z])[^\s\"'`,;()<>{}\[\]]{6,200}+(?!\()",
        ),
        (
            "e-mail",
            r"(?<![\w.+/:-])",
            rf"[\w.+%-]{{1,64}}@(?!(?:[\w-]{{1,63}}\.){{0,8}}{_EXAMPLE})"
            r"(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?![\w@])",
        ),
        # ISO/IEC 7812-1: 13 to 19 digits, in groups or not; the first digit of payment cards is 2 to 6.
        (
            "card number",
            r"(?<![\w.-])",
            r"(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3\d{3}[ -]?\d{6}[ -]?\d{5})(?![\w-])",
        ),
    )
)


def redact(text: str) -> str:
    """``text`` with each secret replaced by its kind.

    >>> redact("Why does postgres://app:Tr0ub4dor@db/x refuse me? Mail me at jo@uni.edu")
    'Why does postgres://app:[redacted: password]@db/x refuse me? Mail me at [redacted: e-mail]'
    >>> redact("SECRET_KEY = 'not-a-digit-in-it'")
    "SECRET_KEY = '[redacted: password]'"
    """
    for kind, pattern in _PATTERNS:
        text = pattern.sub(partial(_replacement, kind), text)
    return text


def _replacement(kind: str, match: re.Match[str]) -> str:
    if kind == "card number" and not _is_card(match["secret"]):
        return match[0]
    return f"{match[1]}[redacted: {kind}]"


def _is_card(number: str) -> bool:
    """Whether the last digit checks the others, as on every payment card (Luhn's formula, ISO/IEC 7812-1, annex B)."""
    digits = re.sub(r"\D", "", number)
    doubled = [int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def encodable(text: str) -> str:
    """``text`` without halves of surrogate pairs, which no file can hold.

    >>> encodable("a\\ud800")
    'a?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
