"""Full fine-tuning: all weights of an embedder are trained, to bring queries near the passages that answer.

The loss looks at a batch at a time: each query has its own passage, its hard negatives, and the passages of all
other queries as further negatives. A few documents are held out; training stops when they no longer profit, and the
weights are those of the best step. The result is a folder like the base model's, with other weights and a manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ragkit.base import Embedder, InputError, ModelNotFoundError, require
from ragkit.embedding import load_embedder
from ragkit.embedding.models import quiet_transformers
from ragkit.files import MANIFEST, atomic_folder, home, lock, read_manifest, sha256_file, write_manifest
from ragkit.tokens import MINILM, MINILM_SHA256, minilm_folder, verified
from ragkit.training.pairs import Pair, split_by_document

_WEIGHTS = "model.safetensors"
_FORMAT = 2  # 1: trained in bfloat16 where the processor has it
_TEMPERATURE = 0.05  # divides the cosines in the loss
_PATIENCE = 2  # evaluations without a better held-out loss that end the training


@dataclass(frozen=True)
class FineTuneSettings:
    """What fine-tuning depends on besides its pairs.

    ``tokens`` of each text are read, ``batch`` pairs at a time, for at most ``epochs``; ``frozen`` of the lower layers
    (and then the word embeddings too) keep their weights. A ``share`` of the documents is held out, and its loss
    measured ``checks`` times an epoch.
    """

    base: str = MINILM
    tokens: int = 128
    batch: int = 32
    epochs: float = 1.0
    learning_rate: float = 2e-5
    frozen: int = 0
    share: float = 0.1
    checks: int = 6
    seed: int = 0


class EvalStep(NamedTuple):
    """The losses after some steps: on the batches since the evaluation before (None at first), and on held-out
    pairs."""

    step: int
    training: float | None
    held_out: float


@dataclass(frozen=True)
class FineTuned:
    """A trained model on disk: ``folder`` is what ``load_embedder(str(folder))`` and sentence-transformers load."""

    folder: Path
    provenance: dict[str, Any]

    @property
    def history(self) -> tuple[EvalStep, ...]:
        return tuple(EvalStep(*row) for row in self.provenance["history"])

    @property
    def seconds(self) -> float:
        """How long the training took, evaluations included."""
        return float(self.provenance["seconds"])

    def embedder(self) -> Embedder:
        """The trained embedder; like every mean-pooled model of this machine, a token store can be built from it."""
        return load_embedder(str(self.folder))


def fine_tune(pairs: Sequence[Pair], settings: FineTuneSettings = FineTuneSettings()) -> FineTuned:
    """The model that ``pairs`` and ``settings`` make: from disk, or trained first if it is not there.

    It lies below ``ragkit.files.home()``, under a key of pairs, base weights and settings, so it is trained once. Pairs
    with fewer hard negatives than most are left out. The same input gives the same model on the same machine with the
    same number of threads.

    Raises:
        InputError: there are too few pairs for one batch and a held-out part.
        ModelNotFoundError: the base model is not on this machine.
        MissingExtraError: the extra ``models`` is not installed.
        IntegrityError: the base model or the trained one is damaged.
    """
    base = minilm_folder() if settings.base == MINILM else Path(settings.base)
    if settings.base == MINILM:
        verified(base / _WEIGHTS, MINILM_SHA256[_WEIGHTS])
    if not (base / _WEIGHTS).is_file() or not (base / "modules.json").is_file():
        raise ModelNotFoundError(
            f"no base model {settings.base!r}: expected {MINILM!r}, or a sentence-transformers folder with {_WEIGHTS}"
        )
    made_from = {
        "format": _FORMAT,
        "pairs": fingerprint(pairs),
        "base_sha256": sha256_file(base / _WEIGHTS),
        "settings": {**asdict(settings), "temperature": _TEMPERATURE, "patience": _PATIENCE},
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(settings.base).name)
    path = home() / "models" / f"{name}-tuned-{key}"
    if not (path / MANIFEST).is_file():
        with lock(path.parent / f".{path.name}.lock"):
            if not (path / MANIFEST).is_file():  # else another process has trained it meanwhile
                _train(path, base, pairs, settings, made_from)
    return FineTuned(path, read_manifest(path, made_from))


def fingerprint(pairs: Sequence[Pair]) -> str:
    """sha256 over all texts of the pairs, in order: the identity of the training data."""
    digest = hashlib.sha256()
    for pair in pairs:
        texts = [pair.query, pair.positive.doc_id, pair.positive.text, *(chunk.text for chunk in pair.negatives)]
        digest.update(json.dumps(texts).encode())
    return digest.hexdigest()


def _train(
    path: Path, base: Path, pairs: Sequence[Pair], settings: FineTuneSettings, made_from: dict[str, Any]
) -> None:
    """Train, and put the model's folder in its place."""
    begin = time.perf_counter()
    n = max((len(pair.negatives) for pair in pairs), default=0)
    training, held_out = split_by_document([p for p in pairs if len(p.negatives) == n], settings.share, settings.seed)
    if len(training) < settings.batch or len(held_out) < 2:
        raise InputError(
            f"{len(training)} pairs to train on and {len(held_out)} held out, with batches of {settings.batch}: "
            "give more pairs or make smaller batches"
        )
    with tempfile.TemporaryDirectory(prefix="ragkit-training-") as scratch, quiet_transformers(warnings=False):
        weights, history = _fit(base, training, held_out, settings, scratch)
    with atomic_folder(path) as fresh:
        for file in (*base.rglob("*.json"), *base.rglob("*.txt")):  # tokenizer, pooling, limits: the base model's
            target = fresh / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        require("safetensors.torch", "models").save_file(weights, fresh / _WEIGHTS, {"format": "pt"})
        used = {"training_pairs": len(training), "held_out_pairs": len(held_out)}
        spent = {"seconds": round(time.perf_counter() - begin, 1), "history": history}
        write_manifest(fresh, {**made_from, **used, **spent})


def _fit(
    base: Path, training: Sequence[Pair], held_out: Sequence[Pair], settings: FineTuneSettings, scratch: str
) -> tuple[dict[str, Any], list[EvalStep]]:
    """The best weights, and the losses on the way."""
    require("accelerate", "models")  # the trainer needs it, and says so less clearly
    library = require("sentence_transformers", "models")
    losses = require("sentence_transformers.sentence_transformer.losses", "models")
    samplers = require("sentence_transformers.base.sampler", "models").BatchSamplers
    callbacks = require("transformers.trainer_callback", "models")

    loading = {"use_safetensors": True}
    model = library.SentenceTransformer(str(base), device="cpu", local_files_only=True, model_kwargs=loading)
    model.max_seq_length = settings.tokens
    model.model_card_data.widget = [{"text": ""}]  # else the trainer looks for examples for a page we do not keep
    transformer = model[0].auto_model
    frozen = [transformer.embeddings, *transformer.encoder.layer[: settings.frozen]] if settings.frozen else []
    for part in frozen:
        part.requires_grad_(False)
    steps = math.ceil(settings.epochs * len(training) / settings.batch)
    every = max(1, len(training) // settings.batch // settings.checks)
    arguments = library.SentenceTransformerTrainingArguments(
        output_dir=scratch,
        max_steps=steps,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        warmup_steps=steps // 10,
        batch_sampler=samplers.NO_DUPLICATES,  # a copy of a query's passage must not be its negative
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=True,
        logging_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        save_only_model=True,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        use_cpu=True,
        seed=settings.seed,
        report_to="none",
        dataloader_pin_memory=False,
    )
    trainer = library.SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=_dataset(training),
        eval_dataset=_dataset(held_out),
        loss=losses.MultipleNegativesRankingLoss(model, scale=1 / _TEMPERATURE),
        callbacks=[callbacks.EarlyStoppingCallback(_PATIENCE)],
    )
    trainer.remove_callback(callbacks.PrinterCallback)  # no line for every evaluation: the curve is in the history
    trainer.train()
    log = trainer.state.log_history
    trained = {int(line["step"]): round(line["loss"], 4) for line in log if "loss" in line}
    evaluated = {int(line["step"]): round(line["eval_loss"], 4) for line in log if "eval_loss" in line}
    return transformer.state_dict(), [EvalStep(step, trained.get(step), loss) for step, loss in evaluated.items()]


def _dataset(pairs: Sequence[Pair]) -> Any:
    columns = {"anchor": [p.query for p in pairs], "positive": [p.positive.text for p in pairs]}
    for i in range(len(pairs[0].negatives)):
        columns[f"negative_{i + 1}"] = [p.negatives[i].text for p in pairs]
    return require("datasets", "models").Dataset.from_dict(columns)
