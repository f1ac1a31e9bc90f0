"""Models on this machine, and ``load_embedder``: from a name to an embedder.

A mean-pooling transformer (MiniLM, E5) is called directly, any other sentence-transformers model through its library.
No text is cut short: one that is longer than the model reads is split into windows whose vectors are averaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache as cached
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Embedder, InputError, IntegrityError, Kind, ModelNotFoundError, Precision, Vectors, require
from ragkit.embedding.bert import Bert
from ragkit.embedding.cache import CachedEmbedder
from ragkit.embedding.e5 import E5_SMALL, E5_SMALL_SHA256, e5_folder
from ragkit.embedding.openai import OpenAIEmbedder
from ragkit.embedding.vectors import Ids, WindowVectors, encode_texts, known_prefixes, mean_of_windows, split_evenly
from ragkit.files import sha256_file
from ragkit.tokens import MINILM, MINILM_SHA256, SubwordTokenizer, minilm_folder, verified

_BATCH_TOKENS = 4096  # 16 windows of 256
_FEW_TOKENS = 8192  # NumPy has encoded as many before torch is imported


class _LocalModel:
    """What every model on this machine has: a tokenizer, prefixes, a limit and an identity.

    ``prefixes`` are put in front of every text of a kind: ``{"query": "query: ", "passage": "passage: "}`` for E5.
    ``max_tokens`` is what the model reads at a time, special tokens and the longest prefix not counted.
    ``precision`` is the arithmetic (see ``load_embedder``), and part of the identity.
    """

    def __init__(
        self, folder: Path, name: str, weights_sha256: str, prefixes: Mapping[Kind, str], precision: Precision
    ) -> None:
        self.name, self.precision, self.prefixes = name, precision, dict(prefixes)
        self._folder = folder
        file = folder / "tokenizer.json"
        self.tokenizer = SubwordTokenizer(file, f"{name}:{sha256_file(file)[:12]}:without marks")
        one = self.tokenizer.fast.encode("a")
        own = np.flatnonzero(np.array(one.special_tokens_mask) == 0)
        ids = np.array(one.ids, dtype=np.int32)
        self._first, self._last = ids[: own[0]], ids[own[-1] + 1 :]  # the special tokens before and after a text
        longest = max((self.tokenizer.count(prefix.rstrip()) for prefix in prefixes.values()), default=0)
        self.max_tokens = window(folder) - len(self._first) - len(self._last) - longest
        suffix = f":{json.dumps(self.prefixes, sort_keys=True)}" if any(prefixes.values()) else ""
        self.identity = f"{name}:{weights_sha256[:12]}:{self.max_tokens}:{precision}:without marks{suffix}"


class TransformerEmbedder(_LocalModel):
    """A mean-pooling transformer, called directly: no padding, no cut. It is a ``TokenEncoder``.

    A BERT's queries, and in float32 its passages where a call has few tokens (a file that has changed), go through
    ``ragkit.embedding.bert``: they need not wait for torch, whose vectors are the same to 1e-5. Several threads may use
    it.
    """

    @cached_property
    def dimension(self) -> int:
        return int(json.loads((self._folder / "config.json").read_text())["hidden_size"])

    @cached_property
    def _bert(self) -> Bert | None:
        """The same model in NumPy."""
        return Bert(self._folder) if Bert.fits(self._folder) else None

    @cached_property
    def _model(self) -> Any:
        """The model ready to run, loaded when the first passage is encoded."""
        torch, transformers = require("torch", "models"), require("transformers", "models")
        with quiet_transformers():
            model = transformers.AutoModel.from_pretrained(
                self._folder,
                dtype=getattr(torch, self.precision),
                attn_implementation="sdpa",
                local_files_only=True,
                use_safetensors=True,
            )
        return model.eval()

    def tokenize(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Token ids ``(n,)`` and their character offsets ``(n, 2)``, without special tokens."""
        return self.tokenizer.tokenize(text)

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``; a text longer than ``max_tokens`` is read in windows."""
        return encode_texts(self, texts, kind)

    def encode_windows(self, windows: Sequence[Ids], kind: Kind = "passage") -> Iterator[tuple[int, WindowVectors]]:
        """``(position in windows, vectors)``, longest windows first so that a batch needs next to no padding.

        Raises:
            InputError: a window is longer than ``max_tokens``.
        """
        # The space after a prefix belongs to the first word of the text, as the tokenizers count.
        prefix, _ = self.tokenize(self.prefixes.get(kind, "").rstrip())
        before = np.concatenate([self._first, prefix])
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i]))
        few = self.precision == "float32" and sum(map(len, windows)) <= _FEW_TOKENS
        bert = self._bert if few or kind == "query" else None
        if order and len(windows[order[0]]) > self.max_tokens:
            raise InputError(f"a window of {len(windows[order[0]])} tokens; {self.name} reads {self.max_tokens}")
        while order:
            n = max(1, _BATCH_TOKENS // (len(before) + len(windows[order[0]]) + len(self._last)))
            batch, order = order[:n], order[n:]
            rows = [np.concatenate([before, windows[i], self._last]) for i in batch]
            hidden = [bert.hidden(row.tolist()) for row in rows] if bert else self._forward(rows)
            for i, vectors in zip(batch, hidden, strict=True):
                own = vectors[len(before) : len(before) + len(windows[i])]
                yield i, WindowVectors(own, vectors.mean(axis=0))

    def _forward(self, rows: list[Ids]) -> list[Vectors]:
        """The last layer's vectors for each row of token ids."""
        torch = require("torch", "models")
        width = max(len(row) for row in rows)
        ids = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        with torch.inference_mode():  # a mask of ones is left out: attention then takes its fastest path
            attend = None if mask.all() else torch.from_numpy(mask)
            hidden = self._model(input_ids=torch.from_numpy(ids), attention_mask=attend).last_hidden_state
            vectors = hidden.float().numpy()
        return [vectors[i, : len(row)] for i, row in enumerate(rows)]


class SentenceTransformerEmbedder(_LocalModel):
    """Any other sentence-transformers model (first-token pooling, a dense layer on top, ...), by its library.

    Long texts are cut into windows at token borders and averaged. It is no ``TokenEncoder``: the vector of
    such a model is not the mean of its token vectors.
    """

    @cached_property
    def _model(self) -> Any:
        loading = {"use_safetensors": True, "dtype": self.precision}
        return require("sentence_transformers", "models").SentenceTransformer(
            str(self._folder), device="cpu", local_files_only=True, model_kwargs=loading
        )

    @cached_property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``; a text longer than ``max_tokens`` is read in windows."""
        windows: list[tuple[int, int, str]] = []  # text number, tokens, and the words
        for i, text in enumerate(texts):
            offsets = self.tokenizer.offsets(text)
            for part in split_evenly(offsets, self.max_tokens):
                windows.append((i, max(1, len(part)), text[part[0, 0] : part[-1, 1]] if len(part) else text))
        read = [self.prefixes.get(kind, "") + words for _, _, words in windows]
        vectors = self._model.encode(read, normalize_embeddings=True, show_progress_bar=False)
        owners, weights = [i for i, _, _ in windows], [tokens for _, tokens, _ in windows]
        return mean_of_windows(np.reshape(vectors, (-1, self.dimension)), owners, weights, len(texts))


@contextmanager
def quiet_transformers(warnings: bool = True) -> Iterator[None]:
    """transformers shows no bar for each file that it reads, which is noise in a notebook, and ``warnings`` or none."""
    logging = require("transformers.utils", "models").logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(level if warnings else logging.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def load_embedder(
    name: str = MINILM,
    *,
    prefixes: Mapping[Kind, str] | None = None,
    cache: bool = False,
    precision: Precision = "float32",
) -> Embedder:
    """The embedder called ``name``.

    - ``all-MiniLM-L6-v2``, ``multilingual-e5-small``: packaged models, at hand wherever ragkit is installed;
    - a folder, or the name of any sentence-transformers model that is in the local model cache, such as
      ``intfloat/multilingual-e5-large`` after
      ``hf download intfloat/multilingual-e5-large --include "*.json" --include "model.safetensors"`` (2.2 GB, once);
    - ``text-embedding-3-small``, ``-large``: OpenAI's, with ``$OPENAI_API_KEY``; ``endpoint:NAME``: the model NAME of
      the OpenAI-compatible endpoint at ``$OPENAI_BASE_URL``. ``OpenAIEmbedder`` has more options.

    Args:
        name: as above.
        prefixes: put in front of the texts of a kind. None means those that the model was trained with, by its name
            (``known_prefixes``); ``{}`` means none. The embedder shows them as ``.prefixes``.
        cache: keep vectors on disk (``CachedEmbedder``): nothing is encoded, or paid for, twice.
        precision: the arithmetic of a model on this machine. ``"float32"`` gives the same vectors on every
            processor, to 1e-5. ``"bfloat16"`` is for big jobs: faster where the processor multiplies it (AVX512_BF16,
            AMX) and slower elsewhere, with 8 significant bits instead of 24, and vectors that differ from processor to
            processor. It is part of the embedder's identity, so its vectors are stored apart.

    A model on this machine is read once a process, however often it is asked for, unless its files change.

    >>> load_embedder().encode(["How do I stop a worker?"], "query").shape
    (1, 384)

    Raises:
        ModelNotFoundError: the model is not on this machine (the network is not used); names those that are.
        IntegrityError: weights are missing, not the published ones, or only there in an unsafe format.
        InputError: ``precision`` is another word.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision {precision!r}: expected one of {', '.join(get_args(Precision))}")
    if name.startswith(("endpoint:", "text-embedding-")):
        embedder: Embedder = OpenAIEmbedder(name.removeprefix("endpoint:"), prefixes=prefixes)
    else:
        name = MINILM if name == f"sentence-transformers/{MINILM}" else name
        chosen, folder = known_prefixes(name) if prefixes is None else prefixes, _find(name)
        embedder = _load(folder, name, tuple(sorted(chosen.items())), precision, _version(folder))
    return CachedEmbedder(embedder) if cache else embedder


def _find(name: str) -> Path:
    """The folder of a model that is on this machine."""
    if name == MINILM:
        return minilm_folder()
    if name == E5_SMALL:
        return e5_folder()
    if (Path(name) / "config.json").is_file() or (Path(name) / "modules.json").is_file():
        return Path(name).resolve()
    hub = require("huggingface_hub", "models")
    for candidate in (name, f"sentence-transformers/{name}"):
        try:
            return Path(hub.snapshot_download(candidate, local_files_only=True))
        except (hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError):
            continue
    raise ModelNotFoundError(
        f"no model {name!r} on this machine, neither as a folder nor in the model cache; there are: "
        f"{', '.join(models_on_disk())}. The network is not used; to fetch it once: hf download {name} "
        '--include "*.json" --include "*.safetensors"'
    )


def _version(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of each of the model's weights: a model that was trained anew in its place is read anew."""
    files = [(path.name, path.stat()) for path in sorted(folder.glob("*.safetensors"))]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)


@cached
def _load(
    folder: Path, name: str, prefixes: tuple[tuple[Kind, str], ...], precision: Precision, version: object
) -> Embedder:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "tokenizer.json").is_file():
        raise IntegrityError(f"{folder}: no *.safetensors or no tokenizer.json, both are needed to load {name!r}")
    if name == MINILM:
        for file, sha256 in MINILM_SHA256.items():
            verified(folder / file, sha256)
        digest = MINILM_SHA256["model.safetensors"]
    elif name == E5_SMALL:
        digest = E5_SMALL_SHA256  # of the package's file, from which the folder was unpacked
    else:
        digest = hashlib.sha256("".join(map(sha256_file, weights)).encode()).hexdigest()
    kind = TransformerEmbedder if name == E5_SMALL or _mean_pooled(folder) else SentenceTransformerEmbedder
    return kind(folder, name, digest, dict(prefixes), precision)


def models_on_disk() -> list[str]:
    """The names that ``load_embedder`` can load here and now."""
    hub = require("huggingface_hub", "models")
    try:
        downloaded = sorted(r.repo_id for r in hub.scan_cache_dir().repos if r.repo_type == "model")
    except hub.errors.CacheNotFound:
        downloaded = []
    return [MINILM, E5_SMALL, *downloaded]


def _mean_pooled(folder: Path) -> bool:
    """True where the model is a transformer, mean pooling, and at most a normalisation after it."""
    try:
        kinds = [module["type"].split(".")[-1] for module in json.loads((folder / "modules.json").read_text())]
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    except FileNotFoundError:
        return False
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    mean = pooling.get("pooling_mode", "") == "mean" or modes == ["pooling_mode_mean_tokens"]
    return mean and kinds[:2] == ["Transformer", "Pooling"] and set(kinds[2:]) <= {"Normalize"}


def window(folder: Path) -> int:
    """The longest text that the model in ``folder`` reads, special tokens included, in tokens.

    It stands in ``sentence_bert_config.json``; newer sentence-transformers write it to the tokenizer's settings.

    Raises:
        IntegrityError: it stands in neither.
    """
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        limit = json.loads((folder / file).read_text()).get(key) if (folder / file).is_file() else None
        if isinstance(limit, int) and 0 < limit < 1_000_000:  # transformers writes 1e30 for "no limit"
            return limit
    raise IntegrityError(
        f"{folder}: neither sentence_bert_config.json nor tokenizer_config.json says how much it reads"
    )
