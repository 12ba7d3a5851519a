"""The sides of ``benchmarks.search``: a whole search by this project, and by ``transformers.Trainer``."""

import io
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from rich.console import Console
from torch.nn import functional
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from clinical_notes.batches import TokenisedExamples
from run_folder.folder import Folder
from run_folder.settings import SearchSettings
from run_folder.trials import best_trials
from search_spaces import objectives_of
from search_spaces.overrides import distributions_of, narrow, narrowed_space
from trainables.parts.deployed import PREDICT_BATCH
from trainables.parts.metrics import classification_metrics, softmax
from trainables.parts.model.encoder import set_dropout
from tune_jobs.check_settings import run_settings
from tune_jobs.cluster.connection import connected
from tune_jobs.execution import Execution, TrialResources
from tune_jobs.preparing.create_run import Prepared
from tune_jobs.searching.run_search import search

STRATEGY = "baseline"

Found = dict[str, float]
"""Result of a search: ``seconds`` it took, ``epochs`` trained, validation ``f1`` of the best trial."""


@dataclass(frozen=True)
class Task:
    """What every side is given.

    Attributes:
        overrides: of the baseline's space.
        threads: trials at once, of one thread each.
        precision: of this project's training.
        bf16: whether Trainer trains and evaluates in bfloat16.
        home: an empty folder for one search.
    """

    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    overrides: Mapping[str, Any]
    trials: int
    epochs: int
    threads: int
    seed: int
    precision: str
    bf16: bool
    home: Path


def our_search(task: Task, reduction_factor: int = 0) -> Found:
    settings = run_settings(task="multiclass", 
        strategies=(STRATEGY,), trials=task.trials, epochs=task.epochs, cycles=0, reduction_factor=reduction_factor,
        space={STRATEGY: dict(task.overrides)}, precision=task.precision, seed=task.seed,  # type: ignore[arg-type]
    )  # fmt: skip
    execution = Execution(TrialResources(cpus=1), max_concurrent=task.threads)
    start = time.perf_counter()
    ledger = search(Folder(task.home), settings, task.prepared, execution, Console(file=io.StringIO()))
    seconds = time.perf_counter() - start
    failed = [trial.reason for trial in ledger.trials.values() if trial.state == "failed"]
    if failed:
        raise RuntimeError(f"{len(failed)} trials failed: {failed[0]}")
    best = best_trials(ledger.trials.values(), 1, objectives_of(STRATEGY))[0]
    return {"seconds": seconds, "epochs": sum(len(t.epochs) for t in ledger.trials.values()), "f1": best.score}


def our_search_with_asha(task: Task) -> Found:
    return our_search(task, SearchSettings.reduction_factor)


ARGUMENTS = {
    "batch_size": "per_device_train_batch_size",
    "lr_schedule": "lr_scheduler_type",
    "warmup_ratio": "warmup_steps",
    "label_smoothing": "label_smoothing_factor",
}
"""Names in ``TrainingArguments`` of our hyperparameters, where they differ; dropout is set in the model."""


class SmoothingTrainer(Trainer):  # type: ignore[misc]
    """Smooths labels as the trial says; Trainer itself reads that argument only once, before any trial."""

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = functional.cross_entropy(outputs.logits, labels, label_smoothing=self.args.label_smoothing_factor)
        return (loss, outputs) if return_outputs else loss


def rows_of(examples: TokenisedExamples) -> list[dict[str, Any]]:
    """Examples as a tokenizer gives them."""
    texts = (examples.tokens[start:end].tolist() for start, end in itertools.pairwise(examples.offsets))
    return [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(label)}
        for ids, label in zip(texts, examples.labels, strict=True)
    ]


def trainer_of(task: Task) -> Trainer:
    """Trains with dynamic padding, evaluates each epoch, and saves nothing."""
    prepared, overrides = task.prepared, task.overrides

    def new_model(trial: Any) -> PreTrainedModel:
        torch.set_num_threads(1)
        model = prepared.encoder.build()
        if trial is not None:
            values = trial if isinstance(trial, dict) else narrowed_space(STRATEGY, overrides)(trial)
            set_dropout(model, float(values["dropout"]))
        return model

    def macro_f1(predicted: EvalPrediction) -> dict[str, float]:
        probabilities = softmax(np.asarray(predicted.predictions))
        labels = np.asarray(predicted.label_ids)
        return {"f1": classification_metrics(labels, probabilities, prepared.data.symptoms).f1}

    transformers_logging.set_verbosity_error()
    arguments = TrainingArguments(
        output_dir=str(task.home / "trainer"), num_train_epochs=task.epochs, eval_strategy="epoch", save_strategy="no",
        logging_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, bf16=task.bf16, seed=task.seed,
        per_device_eval_batch_size=PREDICT_BATCH, warmup_steps=0.0,
    )  # fmt: skip
    trainer = SmoothingTrainer(
        args=arguments,
        model_init=new_model,
        train_dataset=rows_of(prepared.data.train),
        eval_dataset=rows_of(prepared.data.validation),
        data_collator=DataCollatorWithPadding(task.tokenizer),
        compute_metrics=macro_f1,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def f1_of(metrics: dict[str, float]) -> float:
    return metrics["eval_f1"]


def trainer_ray(task: Task, scheduler: ASHAScheduler | None = None) -> Found:
    space = {ARGUMENTS.get(name, name): ray_domain(d) for name, d in distributions(task.overrides).items()}
    trainer = trainer_of(task)
    start = time.perf_counter()
    with connected(None, False):
        best: Any = trainer.hyperparameter_search(
            hp_space=lambda _: space, compute_objective=f1_of, direction="maximize", backend="ray",
            n_trials=task.trials, resources_per_trial={"cpu": 1}, scheduler=scheduler, storage_path=str(task.home),
            verbose=0,
            search_alg=BasicVariantGenerator(max_concurrent=task.threads, random_state=task.seed),
        )  # fmt: skip
    seconds = time.perf_counter() - start
    trials = best.run_summary.trials
    if any(trial.status != "TERMINATED" for trial in trials):
        raise RuntimeError(f"trials of Trainer's failed: {best.run_summary.errors}")
    return {
        "seconds": seconds,
        "epochs": sum(trial.last_result["training_iteration"] for trial in trials),
        "f1": max(trial.metric_analysis["objective"]["max"] for trial in trials),
    }


def trainer_ray_with_asha(task: Task) -> Found:
    """With the rungs of this project's."""
    scheduler = ASHAScheduler(
        metric="objective",
        mode="max",
        max_t=task.epochs,
        grace_period=2,
        reduction_factor=SearchSettings.reduction_factor,
    )
    return trainer_ray(task, scheduler)


def trainer_optuna(task: Task, part: int) -> Found:
    """One of as many processes as trials may run at once: two threads of one Trainer would share its model."""
    space = narrowed_space(STRATEGY, task.overrides)

    def arguments(trial: optuna.Trial) -> dict[str, Any]:
        return {ARGUMENTS.get(name, name): value for name, value in space(trial).items() if name != "dropout"}

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(task.home / "studies.journal")))
    trainer = trainer_of(task)
    start = time.perf_counter()
    trainer.hyperparameter_search(
        hp_space=arguments, compute_objective=f1_of, direction="maximize", backend="optuna",
        n_trials=len(range(part, task.trials, task.threads)), study_name=STRATEGY, storage=storage, load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=task.seed * task.threads + part), pruner=optuna.pruners.NopPruner(),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    curves = [t.intermediate_values for t in optuna.load_study(study_name=STRATEGY, storage=storage).trials]
    return {
        "seconds": seconds,
        "epochs": sum(len(curve) for curve in curves),
        "f1": max(max(curve.values(), default=0.0) for curve in curves),
    }


def distributions(overrides: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The baseline's space as these overrides leave it."""
    return {
        name: narrow(name, d, overrides[name]) if name in overrides else d
        for name, d in distributions_of(STRATEGY).items()
    }


def ray_domain(distribution: BaseDistribution) -> Any:
    """A distribution as Ray Tune samples it."""
    if isinstance(distribution, CategoricalDistribution):
        return tune.choice(list(distribution.choices))
    assert isinstance(distribution, optuna.distributions.FloatDistribution)
    if distribution.single():
        return distribution.low
    sample = tune.loguniform if distribution.log else tune.uniform
    return sample(distribution.low, distribution.high)
