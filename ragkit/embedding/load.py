"""``load_embedder``: from a name to an embedder. Only models behind an endpoint use the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import get_args

from ragkit.base import Embedder, InputError, IntegrityError, Kind, ModelNotFoundError, Precision, require
from ragkit.embedding.cache import CachedEmbedder
from ragkit.embedding.e5 import E5_SMALL, E5_SMALL_SHA256, e5_folder
from ragkit.embedding.local import SentenceTransformerEmbedder, TransformerEmbedder
from ragkit.embedding.prefixes import known_prefixes
from ragkit.embedding.remote import OpenAIEmbedder
from ragkit.files import sha256_file
from ragkit.tokens import MINILM, MINILM_SHA256, minilm_folder, verified


def load_embedder(
    name: str = MINILM,
    *,
    prefixes: Mapping[Kind, str] | None = None,
    dimensions: int | None = None,
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
        dimensions: ask an endpoint for shorter vectors; a model on this machine has one length.
        cache: keep vectors on disk (``CachedEmbedder``): nothing is encoded, or paid for, twice.
        precision: the arithmetic of a model on this machine. ``"float32"`` gives the same vectors on every
            processor, to 1e-5. ``"bfloat16"`` is for big jobs: faster where the processor multiplies it (AVX512_BF16,
            AMX) and slower elsewhere, with 8 significant bits instead of 24, and vectors that differ from processor to
            processor. It is part of the embedder's identity, so its vectors are stored apart.

    A model on this machine is read once a process, however often it is asked for.

    >>> load_embedder().encode(["How do I stop a worker?"]).shape      # doctest: +SKIP
    (1, 384)

    Raises:
        ModelNotFoundError: the model is not on this machine (the network is not used); names those that are.
        IntegrityError: weights are missing, not the published ones, or only there in an unsafe format.
        InputError: ``dimensions`` for a model on this machine, or less than 1; ``precision`` is another word, or given
            for a model behind an endpoint.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision {precision!r}: expected one of {', '.join(get_args(Precision))}")
    chosen = None if prefixes is None else tuple(sorted(prefixes.items()))
    if (model := endpoint_model(name)) is not None:
        if precision != "float32":
            raise InputError(f"precision = {precision!r} for {name!r}: an endpoint chooses its own; leave it out")
        found: Embedder = OpenAIEmbedder(model, prefixes=prefixes, dimensions=dimensions)
    elif dimensions is not None:
        raise InputError(f"dimensions = {dimensions} for {name!r}: only endpoints shorten vectors; leave it out")
    else:
        found = _load(name, tuple(sorted(known_prefixes(name).items())) if chosen is None else chosen, precision)
    return CachedEmbedder(found) if cache else found


def endpoint_model(name: str) -> str | None:
    """The name at the endpoint of a model that is behind one, None for any other.

    >>> endpoint_model("endpoint:nomic-embed-text"), endpoint_model("gte-small")
    ('nomic-embed-text', None)
    """
    if name.startswith("endpoint:"):
        return name.removeprefix("endpoint:")
    return name if name.startswith("text-embedding-") else None


@cache
def _load(name: str, prefixes: tuple[tuple[Kind, str], ...], precision: Precision) -> Embedder:
    if name in (MINILM, f"sentence-transformers/{MINILM}"):
        folder = minilm_folder()
        for file, digest in MINILM_SHA256.items():
            verified(folder / file, digest)
        return TransformerEmbedder(folder, MINILM, MINILM_SHA256["model.safetensors"], dict(prefixes), precision)
    if name == E5_SMALL:
        return TransformerEmbedder(e5_folder(), E5_SMALL, E5_SMALL_SHA256, dict(prefixes), precision)
    folder = _find(name)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "tokenizer.json").is_file():
        raise IntegrityError(f"{folder}: no *.safetensors or no tokenizer.json, both are needed to load {name!r}")
    digest = hashlib.sha256("".join(sha256_file(w) for w in weights).encode()).hexdigest()
    kind = TransformerEmbedder if _mean_pooled(folder) else SentenceTransformerEmbedder
    return kind(folder, name, digest, dict(prefixes), precision)


def _find(name: str) -> Path:
    """The folder of a model that is on this machine."""
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


def models_on_disk() -> list[str]:
    """The names that ``load_embedder`` can load here and now."""
    hub = require("huggingface_hub", "models")
    try:
        cached = sorted(r.repo_id for r in hub.scan_cache_dir().repos if r.repo_type == "model")
    except hub.errors.CacheNotFound:
        cached = []
    return [MINILM, E5_SMALL, *cached]


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
