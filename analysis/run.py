"""Read a run: its settings and, from the ledger's events, its trials."""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd
from transformers import PreTrainedTokenizerBase

from clinical_notes.batches import TokenisedExamples, tokenise
from clinical_notes.errors import InputError
from clinical_notes.storage import Folder

RUN_FILE, LEDGER, TRIALS, RESULTS, DATA, MODEL = "run.json", "ledger", "trials", "results", "data", "model"
DEPLOYED = "deployed"

State = Literal["running", "stopped", "failed", "finished"]
Event = Mapping[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """What the ledger says of one trial.

    Attributes:
        name: ``<strategy>-<number>``, also its folder under ``trials/``.
        epochs: one result per finished epoch, in order.
        final: the figures of the deployed model (``validation``, ``parameters``, ``bytes``, …), once finished.
        reason: why it failed.
    """

    name: str
    strategy: str
    number: int
    seed: int
    hyperparameters: Mapping[str, Any]
    distributions: Mapping[str, str]
    teacher: str | None = None
    state: State = "running"
    epochs: tuple[Mapping[str, Any], ...] = ()
    final: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None

    @property
    def score(self) -> float:
        """Validation macro F1 of the deployed model. Raises KeyError unless finished."""
        return float(self.final["validation"]["f1"])

    @property
    def best_f1(self) -> float | None:
        """Best validation macro F1 so far, of the deployed model where there is one."""
        if self.state == "finished":
            return self.score
        return max((float(e["f1"]) for e in self.epochs), default=None)


def apply_event(trials: dict[str, TrialRecord], event: Event) -> None:
    """Fold one ledger event into the trials; events of other kinds pass."""
    kind = event["event"]
    if kind == "suggested":
        names = ("strategy", "number", "seed", "hyperparameters", "distributions", "teacher")
        trials[event["trial"]] = TrialRecord(name=event["trial"], **{name: event[name] for name in names})
    elif kind == "epoch":
        trial = trials[event["trial"]]
        trials[trial.name] = replace(trial, epochs=(*trial.epochs, event["result"]))
    elif kind == "finished":
        trials[event["trial"]] = replace(trials[event["trial"]], state="finished", final=event["final"])
    elif kind == "stopped":
        trials[event["trial"]] = replace(trials[event["trial"]], state="stopped")
    elif kind == "failed":
        trials[event["trial"]] = replace(trials[event["trial"]], state="failed", reason=event["reason"])


def read_events(folder: Folder) -> list[Event]:
    """The ledger's events in order; files still being written are passed over."""
    names = [name for name in folder.names(LEDGER) if name.endswith(".json") and not name.startswith(".")]
    return [json.loads(folder.read(f"{LEDGER}/{name}")) for name in names]


def trials_of(events: Iterable[Event]) -> dict[str, TrialRecord]:
    trials: dict[str, TrialRecord] = {}
    for event in events:
        apply_event(trials, event)
    return trials


@dataclass(frozen=True)
class Run:
    """A run's folder with what it says of itself."""

    folder: Folder
    settings: Mapping[str, Any]
    manifest: Mapping[str, Any]
    trials: Mapping[str, TrialRecord]

    @property
    def strategies(self) -> tuple[str, ...]:
        return tuple(self.settings["strategies"])

    @property
    def symptoms(self) -> tuple[str, ...]:
        return tuple(self.manifest["symptoms"])

    def examples(self, split: str) -> pd.DataFrame:
        """The labelled examples of a split: id, text, symptom, patient, category."""
        return pd.read_parquet(io.BytesIO(self.folder.read(f"{DATA}/{split}.parquet")))

    def labels(self, examples: pd.DataFrame) -> list[int]:
        """Class indices of examples."""
        return [self.symptoms.index(name) for name in examples["symptom"]]

    def tokenised(self, split: str, tokenizer: PreTrainedTokenizerBase) -> TokenisedExamples:
        """The examples of a split as models read them."""
        examples = self.examples(split)
        return tokenise(
            tokenizer,
            list(examples["id"]),
            list(examples["text"]),
            self.labels(examples),
            self.settings["max_length"],
        )

    def best(self, strategy: str, top: int) -> list[TrialRecord]:
        """The strategy's finished trials, best validation macro F1 first; ties go to the earlier trial."""
        finished = [t for t in self.trials.values() if t.strategy == strategy and t.state == "finished"]
        return sorted(finished, key=lambda t: (-t.score, t.number))[:top]


def open_run(folder: Folder) -> Run:
    """Raises: InputError: the folder holds no run."""
    if not folder.exists(RUN_FILE):
        raise InputError(f"{folder}: not a run (it has no {RUN_FILE}); give a run's name or its folder")
    manifest = json.loads(folder.read(RUN_FILE))
    return Run(folder, manifest["settings"], manifest, trials_of(read_events(folder)))
