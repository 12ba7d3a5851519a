"""Read a run: its settings and, from the ledger's events, its trials."""

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from clinical_notes.batches import TokenisedExamples, tokenise
from clinical_notes.errors import InputError
from clinical_notes.storage import Folder

FORMAT = 1
"""Of the run's folder; a newer program may raise it."""

RUN_FILE, LEDGER, TRIALS, RESULTS, DATA, MODEL = "run.json", "ledger", "trials", "results", "data", "model"
DEPLOYED = "deployed"
LEXICON_FILE = "lexicon.json"
EPOCH_PREFIX = "epoch-"
"""Of the checkpoints in a trial's folder, which go when the trial ends."""

_TRIAL_NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9]{4,}(-seed[0-9]+)?")

State = Literal["running", "stopped", "failed", "finished"]
Event = Mapping[str, Any]
Objective = tuple[str, str]
"""A figure of the deployed model and its direction, ``maximize`` or ``minimize``."""


@dataclass(frozen=True)
class TrialRecord:
    """What the ledger says of one trial.

    Attributes:
        name: ``<strategy>-<number>``, also its folder under ``trials/``.
        epochs: one result per finished epoch, in order.
        final: the figures of the deployed model (``validation``, ``parameters``, ``bytes``, …), once finished.
        reason: why it failed.
        retry_of: the failed trial whose configuration and seed it runs again.
        continues: the finished trial whose last epoch it goes on from.
        until: epochs that it trains, where that is not the run's setting.
        repeats: the trial whose configuration it trains again with another seed; it is no part of the search then.
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
    retry_of: str | None = None
    continues: str | None = None
    until: int | None = None
    repeats: str | None = None

    @property
    def score(self) -> float:
        """Validation macro F1 of the deployed model. Raises KeyError unless finished."""
        return float(self.final["validation"]["f1"])

    def figure(self, metric: str) -> float:
        """A figure of the deployed model: a validation metric, or ``bytes``, ``macs``, …"""
        return float({**self.final, **self.final["validation"]}[metric])

    @property
    def best_f1(self) -> float | None:
        """Best validation macro F1 so far, of the deployed model where there is one."""
        if self.state == "finished":
            return self.score
        return max((float(e["f1"]) for e in self.epochs), default=None)


def best_trials(trials: Iterable[TrialRecord], top: int, objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Finished trials of the search worth keeping, best validation macro F1 first; ties go to the earlier trial.

    Args:
        top: how many, where macro F1 is the only objective; where there are several, all of the Pareto front.
    """
    of_the_search = (t for t in trials if t.state == "finished" and t.repeats is None)
    finished = sorted(of_the_search, key=lambda t: (-t.score, t.number))
    if len(objectives) == 1:
        return finished[:top]
    front = pareto_front([[t.figure(metric) for metric, _ in objectives] for t in finished], objectives)
    return [trial for trial, on_front in zip(finished, front, strict=True) if on_front]


def pareto_front(points: Sequence[Sequence[float]], objectives: Sequence[Objective]) -> list[bool]:
    """Whether each point (one value per objective) is surpassed by no other; of equal points the first is on it."""
    if not points:
        return []
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for _, direction in objectives])
    losses = np.asarray(points) * signs
    as_good = (losses[:, None] <= losses[None]).all(-1)  # row i is nowhere worse than column j
    better = as_good & (losses[:, None] < losses[None]).any(-1)
    twin_before = np.triu(as_good & as_good.T, 1)
    return [not lost for lost in (better | twin_before).any(0)]


def apply_event(trials: dict[str, TrialRecord], event: Event) -> None:
    """Fold one ledger event into the trials; events of other kinds pass."""
    kind = event["event"]
    if kind == "suggested":
        names = ("strategy", "number", "seed", "hyperparameters", "distributions", "teacher")
        fields = {name: event[name] for name in names}
        fields |= {name: event[name] for name in ("retry_of", "continues", "until", "repeats") if name in event}
        inherited = trials[fields["continues"]].epochs if fields.get("continues") else ()
        trials[event["trial"]] = TrialRecord(name=event["trial"], epochs=inherited, **fields)
    elif kind == "epoch":
        trial = trials[event["trial"]]
        trials[trial.name] = replace(trial, epochs=(*trial.epochs, event["result"]))
    elif kind == "finished":
        trials[event["trial"]] = replace(trials[event["trial"]], state="finished", final=event["final"])
    elif kind == "stopped":
        trials[event["trial"]] = replace(trials[event["trial"]], state="stopped")
    elif kind == "failed":
        trials[event["trial"]] = replace(trials[event["trial"]], state="failed", reason=event["reason"])


def read_events(folder: Folder, start: int = 0) -> list[Event]:
    """The ledger's events in order, from number ``start`` on; files still being written are passed over.

    Raises:
        InputError: an event is damaged or missing, or names a trial that could not be one.
    """
    names = [name for name in folder.names(LEDGER) if name.endswith(".json") and not name.startswith(".")]
    events = []
    for number, name in enumerate(names[start:], start):
        if not name.startswith(f"{number:08d}-"):
            raise InputError(f"{folder}: event {number} of its {LEDGER}/ is missing; restore it from a copy of the run")
        try:
            event = json.loads(folder.read(f"{LEDGER}/{name}"))
            if event["event"] != name[9 : -len(".json")] or not _names_are_sound(event):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{folder}: {LEDGER}/{name} is damaged; restore it from a copy of the run") from None
        events.append(event)
    return events


def _names_are_sound(event: Event) -> bool:
    """Whether an event's trials have names such as a search gives: they become paths, also of what is deleted."""
    names = [event[key] for key in ("trial", "retry_of", "continues", "repeats") if event.get(key) is not None]
    if event.get("teacher") is not None:
        parent, _, teacher = event["teacher"].partition("/")
        names += [teacher] if parent == TRIALS else [parent]
    if event["event"] == "suggested" and event["trial"].partition("-seed")[0] != (
        f"{event['strategy']}-{event['number']:04d}"
    ):
        return False
    return all(_TRIAL_NAME.fullmatch(name) for name in names)


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

    @property
    def held_back(self) -> Mapping[str, tuple[str, ...]]:
        """By symptom, the surface forms that training and validation examples never show."""
        return {symptom: tuple(forms) for symptom, forms in self.manifest.get("held_back", {}).items()}

    def examples(self, split: str) -> pd.DataFrame:
        """The labelled examples of a split: id, text, symptom, patient, category, ``group_<column>`` of --group-by."""
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

    def objectives(self, strategy: str) -> list[Objective]:
        """What the strategy's search aimed at: metric and direction, macro F1 first."""
        return [(metric, direction) for metric, direction in self.manifest["objectives"][strategy]]

    def best(self, strategy: str, top: int) -> list[TrialRecord]:
        """The strategy's best finished trials; see ``best_trials``."""
        mine = (trial for trial in self.trials.values() if trial.strategy == strategy)
        return best_trials(mine, top, self.objectives(strategy))

    def repetitions(self, name: str) -> list[TrialRecord]:
        """The finished trials that train a trial's configuration with other seeds, in order."""
        return repetitions_of(self.trials, name)


def repetitions_of(trials: Mapping[str, TrialRecord], name: str) -> list[TrialRecord]:
    """The finished trials that train a trial's configuration with other seeds, in order."""
    return [trial for trial in trials.values() if trial.repeats == name and trial.state == "finished"]


def apply_skip(skipped: dict[str, str], event: Event) -> None:
    """Fold one ledger event into the strategies that cannot run, with the reason; events of other kinds pass."""
    if event["event"] == "skipped":
        skipped[event["strategy"]] = event["reason"]
    elif event["event"] == "unskipped":
        skipped.pop(event["strategy"], None)


def skipped_strategies(events: Iterable[Event]) -> dict[str, str]:
    """Strategies that cannot run, with the reason."""
    skipped: dict[str, str] = {}
    for event in events:
        apply_skip(skipped, event)
    return skipped


def checkpoints_of(folder: Folder, trial: str) -> list[str]:
    """Paths of a trial's checkpoints in the run's folder, oldest first."""
    home = f"{TRIALS}/{trial}"
    return [f"{home}/{name}" for name in folder.names(home) if name.startswith(EPOCH_PREFIX)]


_REQUIRED = ("objectives", "symptoms", "counts", "patients", "fingerprint", "sources")


def open_run(folder: Folder) -> Run:
    """A run with its settings as last extended.

    Raises:
        InputError: the folder holds no run, a damaged one, or one of a newer version.
    """
    if not folder.exists(RUN_FILE):
        raise InputError(f"{folder}: not a run (it has no {RUN_FILE}); give a run's name or its folder")
    try:
        manifest = json.loads(folder.read(RUN_FILE))
        written, settings = manifest.get("format", FORMAT), dict(manifest["settings"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder}: {RUN_FILE} is damaged; restore it from a copy of the run") from None
    lacking = [] if written != FORMAT else [name for name in _REQUIRED if name not in manifest]
    if lacking:
        raise InputError(f"{folder}: {RUN_FILE} lacks {', '.join(lacking)}; restore it from a copy of the run")
    if written != FORMAT:
        raise InputError(
            f"{folder}: a run of another version (format {written}, this one reads {FORMAT}); "
            "use the version that wrote it"
        )
    events = read_events(folder)
    for event in events:
        if event["event"] == "extended":
            settings["trials"] = event["trials"]
    return Run(folder, settings, manifest, trials_of(events))
