"""HTML to the words that a browser would show, block by block."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SILENT = frozenset({"script", "style", "head", "template", "svg", "nav", "noscript"})
_BLOCK = re.compile(
    r"address|article|aside|blockquote|body|br|caption|dd|details|div|dl|dt|figcaption|figure|footer|form|h[1-6]|header"
    r"|hr|li|main|ol|p|pre|section|summary|table|tbody|thead|tr|ul"
)
Block = tuple[int, str]


class _Blocks(HTMLParser):
    """Collects ``(heading level or 0, text)``; white space counts only in ``pre``."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.title = ""
        self._words: list[str] = []
        self._level = 0
        self._mark = ""
        self._silent: list[str] = []
        self._pre = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "body":  # the end tag of <head> may be left out
            self._silent.clear()
        self._in_title = tag == "title" and self._silent in ([], ["head"])
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag == "br" and self._pre:
            self._words.append("\n")
        elif tag in ("td", "th") and "".join(self._words).strip():
            self._words.append(" | ")
        elif _BLOCK.fullmatch(tag):
            self.flush()
            self._level = int(tag[1]) if re.fullmatch(r"h[1-6]", tag) else 0
            self._mark = "- " if tag == "li" else self._mark
            self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        elif _BLOCK.fullmatch(tag):
            self.flush()
            self._level = 0
            self._pre -= tag == "pre" and self._pre > 0

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title = " ".join((self.title + data).split())
        elif not self._silent:
            self._words.append(data if self._pre else re.sub(r"\s+", " ", data))

    def flush(self) -> None:
        text = "".join(self._words)
        self._words.clear()
        text = text.strip("\n") if self._pre else re.sub(r" +", " ", text).strip()
        if not text.strip(" |\n"):
            return
        if self._mark and self.blocks and self.blocks[-1][1].startswith("- "):  # one list, one block
            self.blocks[-1] = (0, f"{self.blocks[-1][1]}\n- {text}")
        else:
            self.blocks.append((self._level, self._mark + text))
        self._mark = ""


def html_blocks(html: str) -> tuple[str, list[Block]]:
    """The page's ``<title>`` and its blocks ``(heading level or 0, text)``.

    >>> html_blocks("<title>T</title><h1>Guide</h1><p>Use <b>--reload</b>.</p>")[1]
    [(1, 'Guide'), (0, 'Use --reload.')]
    """
    parser = _Blocks()
    parser.feed(html)
    parser.close()
    parser.flush()
    return parser.title, parser.blocks


def html_words(html: str) -> str:
    """The words of a piece of HTML, one block a line.

    >>> html_words("<p>Use <b>--reload</b></p><!-- no -->")
    'Use --reload'
    """
    return "\n".join(text for _, text in html_blocks(html)[1])
