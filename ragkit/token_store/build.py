"""Building a token store: every document goes through the model once, in overlapping windows.

A document is known by the sha256 of its text: what another store of the same model and windows holds is
copied, never encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Corpus, Document, IntegrityError, StoreMismatchError, Vectors
from ragkit.embedding import Ids, TokenEncoder
from ragkit.files import MANIFEST, check_replaceable, read_manifest, read_settings, replace_folder, write_manifest
from ragkit.token_store.files import Entry, Rows, Writer, begin, own_files, read_entries

_FORMAT = 2
_SEGMENT_CHARS = 200_000  # a longer document is encoded in pieces of this length
_GROUP_TOKENS = 65_536  # what is encoded, sorted and written at a time


def quantise(vectors: Vectors) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """``vectors`` ``(n, d)`` as int8 with one float32 scale a row: ``vectors ~ int8 * scale``.

    >>> quantise(np.array([[1.0, -2.0]], dtype=np.float32))[0].tolist()
    [[64, -127]]
    """
    scales = np.abs(vectors).max(axis=1, initial=0).astype(np.float32) / 127
    rounded = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    return rounded, scales


def windows(tokens: int, size: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Windows ``(start, end, first, last)`` over ``tokens`` tokens; each owns the tokens ``[first, last)``.

    They all have the same length and are spread evenly, at most ``stride`` apart. Where two overlap, each
    token belongs to the one in which it stands further from a border.

    >>> windows(10, size=6, stride=4)
    [(0, 6, 0, 5), (4, 10, 5, 10)]
    """
    free = max(0, tokens - size)
    steps = -(-free // stride)
    starts = [i * free // max(1, steps) for i in range(steps + 1)]
    ends = [min(tokens, start + size) for start in starts]
    borders = [0, *((end + start) // 2 for end, start in zip(ends[:-1], starts[1:], strict=True)), tokens]
    return list(zip(starts, ends, borders[:-1], borders[1:], strict=True))


def segments(text: str, limit: int = _SEGMENT_CHARS) -> Iterator[tuple[int, int]]:
    """``text`` in pieces of at most ``limit`` characters, cut after white space where there is any.

    >>> list(segments("ab cd ef", 4))
    [(0, 3), (3, 6), (6, 8)]
    """
    start = 0
    while len(text) - start > limit:
        cut = next((i for i in range(start + limit, start + limit // 2, -1) if text[i - 1].isspace()), start + limit)
        yield start, cut
        start = cut
    yield start, len(text)


@dataclass
class _Piece:
    """A segment of a document on its way through the model."""

    document: Document
    last: bool
    starts: NDArray[np.int64]
    arrays: tuple[NDArray[np.int8], NDArray[np.float32], Ids, NDArray[np.int64]]

    @classmethod
    def cut(cls, document: Document, span: tuple[int, int], encoder: TokenEncoder) -> _Piece:
        ids, offsets = encoder.tokenize(document.text[span[0] : span[1]])
        offsets = offsets + span[0]
        n = len(ids)
        arrays = (np.zeros((n, encoder.dimension), dtype=np.int8), np.zeros(n, dtype=np.float32), ids, offsets)
        return cls(document, span[1] == len(document.text), np.append(offsets[:, 0], span[1]), arrays)


class Builder:
    """Fills ``folder`` with the token vectors of documents. ``window`` and ``stride`` count tokens."""

    def __init__(self, folder: Path, encoder: TokenEncoder, window: int, stride: int, progress: bool) -> None:
        self._writer = Writer(folder, encoder.dimension)
        self._encoder, self._window, self._stride = encoder, window, stride
        self._progress = progress
        self._tokens = 0  # of the document that is being written

    def build(self, documents: Iterable[Document], donors: Sequence[Path], settings: Mapping[str, Any]) -> None:
        """Take over what ``donors`` (finished stores of the same settings) hold, encode the rest, seal the folder."""
        from tqdm.auto import tqdm

        missing = {d.sha256: d for d in documents if d.sha256 not in self._writer.entries}
        for donor in donors:
            self._take_over(donor, missing)
        total = sum(len(document.text) for document in missing.values())
        with tqdm(
            total=total, desc="encoding", unit=" chars", unit_scale=True, disable=not (self._progress and total)
        ) as bar:
            group: list[_Piece] = []
            waiting = 0
            for document in missing.values():
                for span in segments(document.text):
                    group.append(_Piece.cut(document, span, self._encoder))
                    waiting += len(group[-1].arrays[0])
                    if waiting >= _GROUP_TOKENS:
                        self._encode(group, bar)
                        group, waiting = [], 0
            self._encode(group, bar)
        write_manifest(self._writer.folder, settings)

    def _take_over(self, donor: Path, missing: dict[str, Document]) -> None:
        """Copy the documents that ``donor`` has, unless its bytes are damaged."""
        if not missing.keys() & read_entries(donor).keys():
            return
        try:
            read_manifest(donor)
        except (IntegrityError, StoreMismatchError):
            return
        rows = Rows.open(donor, self._encoder.dimension)
        taken = []
        end = self._writer.rows
        for sha in missing.keys() & rows.entries.keys():
            entry = rows.entries[sha]
            part = slice(entry.row, entry.row + entry.padded)
            self._writer.append((rows.vectors[part], rows.scales[part], rows.ids[part], rows.offsets[part]))
            taken.append(Entry(sha, end, entry.tokens, entry.chars))
            end += entry.padded
            del missing[sha]
        self._writer.finish(taken)

    def _encode(self, group: list[_Piece], bar: Any) -> None:
        """Run ``group`` through the model, write its rows, and finish the documents that end in it."""
        jobs = [
            (piece, window)
            for piece in group
            for window in windows(len(piece.arrays[0]), self._window, self._stride)
            if window[1]
        ]
        for i, vectors in self._encoder.encode_windows([p.arrays[2][w[0] : w[1]] for p, w in jobs]):
            piece, (start, _, first, last) = jobs[i]
            own = vectors.tokens[first - start : last - start]
            piece.arrays[0][first:last], piece.arrays[1][first:last] = quantise(own)
            bar.update(int(piece.starts[last] - piece.starts[first]))
        finished: list[Entry] = []
        row = self._writer.rows
        for piece in group:
            self._writer.append(piece.arrays)
            self._tokens += len(piece.arrays[0])
            if piece.last:
                entry = Entry(piece.document.sha256, row, self._tokens, len(piece.document.text))
                self._writer.append(self._padding(entry))
                finished.append(entry)
                row, self._tokens = row + entry.padded, 0
        self._writer.finish(finished)

    def _padding(self, entry: Entry) -> tuple[NDArray[Any], ...]:
        """Rows of zeros up to the next full block; their offsets lie at the end of the text, outside any chunk."""
        n = entry.padded - entry.tokens
        return (
            np.zeros((n, self._encoder.dimension), dtype=np.int8),
            np.zeros(n, dtype=np.float32),
            np.full(n, -1, dtype=np.int32),
            np.full((n, 2), entry.chars, dtype=np.int32),
        )


def store_settings(encoder: TokenEncoder, window: int) -> dict[str, Any]:
    """What two stores must share for one to take over the other's documents. Neighbouring windows share a quarter.

    An encoder that changes queries only says by ``passage_identity`` whose passages it shares.
    """
    return {
        "format": _FORMAT,
        "encoder": getattr(encoder, "passage_identity", encoder.identity),
        "window": window,
        "stride": window - window // 4,
        "dimension": encoder.dimension,
    }


def build_store(path: Path, corpus: Corpus, encoder: TokenEncoder, settings: dict[str, Any], progress: bool) -> None:
    """Build in ``path.partial``, then put it in the place of ``path``. ``settings`` are of the store and the corpus.

    Raises:
        InputError: ``path`` or ``path.partial`` holds files that are not ragkit's; nothing was encoded.
    """
    path = path.resolve()  # a link stays a link
    check_replaceable(path, own_files(path))
    partial = path.with_name(path.name + ".partial")
    begin(partial, settings)
    builder = Builder(partial, encoder, settings["window"], settings["stride"], progress)
    same = store_settings(encoder, settings["window"])
    beside = sorted(file.parent for file in path.parent.glob(f"*/{MANIFEST}"))
    donors = [folder for folder in beside if not differences(folder, same)]
    builder.build(corpus.documents, donors, {**settings, "corpus": corpus.name})
    replace_folder(partial, path, own_files(path))


_WORDS = {
    "format": "ragkit's format of stores",
    "fingerprint": "the texts of the corpus (their fingerprint)",
    "window": "the window in tokens",
    "stride": "the stride in tokens",
}


def differences(folder: Path, expected: Mapping[str, Any]) -> list[str]:
    """In which of the ``expected`` settings the manifest of ``folder`` differs, in words; also if it is unreadable."""
    try:
        settings = read_settings(folder)
    except IntegrityError as error:
        return [str(error)]
    return [
        f"{_WORDS.get(key, f'the {key}')} is {settings.get(key)!r}, expected {value!r}"
        for key, value in expected.items()
        if settings.get(key) != value
    ]


def check_store(folder: Path, expected: Mapping[str, Any], verify: bool) -> None:
    """Make sure that ``folder`` is a whole store with the ``expected`` settings.

    Raises:
        IntegrityError: the manifest or a file is missing, cut or changed.
        StoreMismatchError: it was built with other settings.
    """
    read_manifest(folder, verify=verify)
    if reasons := differences(folder, expected):
        raise StoreMismatchError(
            f"{folder} holds another token store: {'; '.join(reasons)}. "
            "Choose another folder, or build it anew here with rebuild=True"
        )


def unused_folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders below ``root`` (``home()/token_store``) that no ``TokenStore.open`` reads any more, and why: stores of
    another format, and builds that were killed (one goes on when its corpus is opened again)."""
    for folder in sorted(root.glob("*/*/")):
        if folder.suffix == ".partial":
            yield folder, "an unfinished build"
            continue
        try:
            written = read_settings(folder).get("format")
        except IntegrityError:
            continue
        if written != _FORMAT:
            yield folder, f"format {written}, this version reads {_FORMAT}"
