"""What the best models rely on: the test set read again with its symptoms hidden, renamed or denied, and by groups."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.stats import t
from transformers import PreTrainedTokenizerBase

from analysis.evaluation.controls import CONTROLS, Predict, fitted_control
from analysis.evaluation.onnx_graphs import runnable
from analysis.evaluation.predictions import TEST, TRAIN, VALIDATION, Predictions, read_predictions
from analysis.evaluation.result_files import read_result, write_result
from analysis.statistics.intervals import LEVEL
from analysis.text_tables import cell_text, csv_text, markdown
from clinical_notes.batches import tokenise
from clinical_notes.notes import reason_for_no_groups
from clinical_notes.prevalence import texts_of_some_patients
from clinical_notes.rewrites import Rewriter, unseen_forms
from clinical_notes.run_examples import run_lexicon
from clinical_notes.units import GROUP
from run_folder.errors import InputError
from run_folder.names import LEXICON_FILE, MODEL, RESULTS
from run_folder.run import Run
from trainables.parts.deployed import predict
from trainables.parts.model.stored import load_tokenizer
from trainables.parts.tasks import TASKS
from trainables.references import BASELINE

AS_WRITTEN, _, _, NEGATED = READINGS = ("as_written", "masked", "renamed", "negated")
MOST_EXAMPLES = 5_000
"""Test examples that are read again; of a larger test set, those of patients drawn by the run's seed."""
SMALLEST_GROUP = 20
LEAST_PATIENTS = 2
"""Fewest patients of a group that has separate figures."""

ROBUSTNESS = f"{RESULTS}/robustness.json"
_VERSION = 1
"""Version of the method; results of another version are computed again."""


@dataclass(frozen=True, kw_only=True)
class SameTexts:
    """Figures of the same texts as written."""

    accuracy: float | None
    f1: float | None
    symptom_probability: float | None


@dataclass(frozen=True, kw_only=True)
class SymptomReading:
    """How often the texts of one symptom are taken for it: ``still_says`` where it is denied, else ``recall``."""

    examples: int
    recall: float | None
    still_says: float | None

    @property
    def said(self) -> float | None:
        """Share of the symptom's texts for which it is the most probable class."""
        return self.recall if self.still_says is None else self.still_says


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Figures of one model on one reading of the test set.

    Attributes:
        left_out: texts that cannot be rewritten in this way.
        accuracy, f1: None where the symptom is denied, since no class is right then; f1 is the macro average.
        still_says: share of the texts for which the denied symptom is the most probable class.
        symptom_probability: mean probability of the text's symptom.
        mean_confidence: mean probability of the most probable class.
    """

    left_out: int
    examples: int
    accuracy: float | None
    f1: float | None
    still_says: float | None
    symptom_probability: float | None
    mean_confidence: float | None
    per_symptom: Mapping[str, SymptomReading]
    as_written_same: SameTexts


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """Figures of one model on the test examples that have one value in a column.

    Attributes:
        low, high: 95 % interval of the accuracy; None for one patient.
        disagreement: share of the examples that the baseline predicts otherwise.
        harmed, helped: examples that the baseline has right and this model wrong; the other way round. None, as
            disagreement, for the baseline itself or where there is none.
    """

    value: str
    examples: int
    patients: int
    accuracy: float
    low: float | None
    high: float | None
    f1: float
    disagreement: float | None
    harmed: int | None
    helped: int | None


@dataclass(frozen=True, kw_only=True)
class ModelRobustness:
    """Figures of one model by reading, and by column its groups."""

    strategy: str
    readings: Mapping[str, Reading]
    subgroups: Mapping[str, tuple[Subgroup, ...]]


@dataclass(frozen=True, kw_only=True)
class ExamplesRead:
    """Test examples that were read again, of all."""

    read: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What ``results/robustness.json`` holds.

    Attributes:
        identity: of the models and settings that it was measured with.
        held_back: by symptom, the surface forms that training never showed; renamed_to: those used for ``renamed``.
        models: by trial or control.
    """

    identity: str
    held_back: Mapping[str, tuple[str, ...]]
    renamed_to: Mapping[str, tuple[str, ...]]
    readings: tuple[str, ...]
    examples: ExamplesRead
    smallest_group: int
    notes: tuple[str, ...]
    models: Mapping[str, ModelRobustness]


def measure_robustness(run: Run, identities: Mapping[str, str], smallest_group: int) -> None:
    """Write how the best model of each strategy and the controls read the test set, to ``results/robustness.json``.

    They must have been evaluated: readings as written and groups use the predictions that were kept then. Results of
    the same models and settings are kept.

    Args:
        identities: of every evaluated trial and control.
        smallest_group: test examples that a group must have; smaller ones, and those of fewer than ``LEAST_PATIENTS``
            patients, are taken together.
    """
    models = {trials[0].name: strategy for strategy in run.strategies if (trials := run.best(strategy, 1))}
    models |= {name: name for name in CONTROLS}
    what = [_VERSION, run.settings.notes.group_by, smallest_group, {name: identities[name] for name in models}]
    identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    known = read_robustness(run)
    if (known is None or known.identity != identity) and run.folder.exists(LEXICON_FILE):  # an old run has none
        known = _measured(run, models, smallest_group, identity)
        write_result(run, ROBUSTNESS, known)
    if known is not None:
        _write_tables(run, known)


def read_robustness(run: Run) -> Robustness | None:
    """What ``measure_robustness`` wrote, or None where there is nothing, or the file is damaged."""
    return read_result(run, ROBUSTNESS, Robustness)


def _measured(run: Run, models: Mapping[str, str], smallest_group: int, identity: str) -> Robustness:
    train, test, whole = run.examples(TRAIN), run.examples(TEST), run.texts(TEST)
    shown = [*train["text"], *run.examples(VALIDATION)["text"]]
    lexicon = run_lexicon(run)
    names = {s: unseen_forms(lexicon, s, shown, run.held_back.get(s, ())) for s in run.symptoms}
    drawn = sample_of_patients(test["patient"], MOST_EXAMPLES, run.settings.search.seed)
    reported = run.labels(test)
    if run.is_multilabel:  # only of a text that reports one symptom is it known what is left when that one is denied
        places = reported.argmax(axis=1)
        drawn = drawn & ((reported >= 0.5).sum(axis=1) == 1)
        test = test.assign(symptom=np.array(run.symptoms)[places])
    else:
        places = reported.astype(np.int64)
    sample = test[drawn].reset_index(drop=True)
    texts = rewritten(sample, Rewriter(lexicon, run.symptoms), names)
    columns, notes = _groupable(run, whole)
    predictions = {name: _predictions(run, name, whole) for name in models}
    baseline = next((predictions[name] for name, strategy in models.items() if strategy == BASELINE), None)
    tokenizer = load_tokenizer(run.folder.local_copy(MODEL))

    def as_written(name: str, again: Predict) -> Predictions:
        if not run.settings.labels.in_windows:
            return predictions[name].at(np.flatnonzero(drawn))
        texts_of_windows = list(sample["text"])  # what was kept is of whole notes
        read = again(texts_of_windows) if texts_of_windows else np.empty((0, len(run.symptoms)))
        return Predictions(sample["id"].to_numpy(), reported[drawn], read, predictions[name].thresholds)

    def figures_of(name: str) -> ModelRobustness:
        control = name in CONTROLS
        again = (
            fitted_control(name, list(train["text"]), run.labels(train)) if control else _model(run, name, tokenizer)
        )
        compared = None if models[name] == BASELINE else baseline
        return ModelRobustness(
            strategy=models[name],
            readings=readings(texts, places[drawn], as_written(name, again), again, run.symptoms),
            subgroups={
                column: subgroups(values, whole["patient"], predictions[name], compared, run.symptoms, smallest_group)
                for column, values in columns.items()
            },
        )

    without = [symptom for symptom, forms in names.items() if not forms]
    if without:
        notes.append(f"no form of {', '.join(without)} is new to training, so that no text of it is renamed")
    if run.settings.labels.mentions == "mask":
        notes.append("the run's texts are masked already, so that they cannot be rewritten")
    if run.settings.labels.negated == "keep":
        notes.append("denied mentions are labels of this run too, so that its models were trained to say them")
    if run.is_multilabel:
        notes.append(
            f"of {len(test):,} test {run.example_word}s those that report one symptom are read again ({len(sample):,})"
        )
    elif not drawn.all():
        notes.append(f"{len(sample):,} of {len(test):,} test examples are read again, of patients drawn by the seed")
    return Robustness(
        identity=identity,
        held_back=run.held_back,
        renamed_to={symptom: tuple(forms) for symptom, forms in names.items()},
        readings=READINGS,
        examples=ExamplesRead(read=len(sample), of=len(test)),
        smallest_group=smallest_group,
        notes=tuple(notes),
        models={name: figures_of(name) for name in models},
    )


def sample_of_patients(patients: pd.Series, most: int, seed: int) -> NDArray[np.bool_]:
    """(n,) whether an example is drawn: whole patients, at least one, in random order until ``most`` examples."""
    return texts_of_some_patients(patients.to_numpy(object), most, np.random.default_rng(seed))


def rewritten(examples: pd.DataFrame, rewriter: Rewriter, names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The texts of each reading, a column each; None where a text cannot be rewritten.

    Args:
        names: by symptom, the forms that it is renamed to.
    """
    rows = [
        (
            text,
            rewriter.masked(text, symptom),
            rewriter.renamed(text, symptom, names[symptom]),
            rewriter.negated(text, symptom),
        )
        for text, symptom in zip(examples["text"], examples["symptom"], strict=True)
    ]
    return pd.DataFrame(rows, columns=list(READINGS), dtype=object)


def readings(
    texts: pd.DataFrame,
    labels: NDArray[np.int64],
    as_written: Predictions,
    again: Predict,
    symptoms: Sequence[str],
) -> dict[str, Reading]:
    """Figures of one model, by reading.

    Args:
        texts: (n, readings), as ``rewritten`` gives them.
        labels: (n,) place of the one symptom that each text reports.
        as_written: of the texts as written.
        again: the model itself, for the texts that were rewritten.
    """
    found: dict[str, Reading] = {}
    for reading in READINGS:
        kept = texts[reading].notna().to_numpy()
        same = as_written.at(np.flatnonzero(kept))
        read = same
        if reading != AS_WRITTEN and kept.any():
            read = replace(same, probabilities=again(list(texts.loc[kept, reading])))
        found[reading] = _reading(
            labels[kept],
            read,
            symptoms,
            denied=reading == NEGATED,
            left_out=int((~kept).sum()),
            same=_same_texts(labels[kept], same, symptoms),
        )
    return found


def _reading(
    labels: NDArray[np.int64],
    found: Predictions,
    symptoms: Sequence[str],
    *,
    denied: bool,
    left_out: int,
    same: SameTexts,
) -> Reading:
    says = found.said[np.arange(len(labels)), labels]
    of_symptom = {symptom: says[labels == place] for place, symptom in enumerate(symptoms)}
    return Reading(
        left_out=left_out,
        examples=len(labels),
        accuracy=None if denied else _mean(found.right),
        f1=None if denied else _macro_f1(found, symptoms),
        still_says=_mean(says) if denied else None,
        symptom_probability=_symptom_probability(labels, found.probabilities),
        mean_confidence=_mean(found.probabilities.max(axis=1)),
        per_symptom={
            symptom: SymptomReading(
                examples=len(of_one),
                recall=None if denied else _mean(of_one),
                still_says=_mean(of_one) if denied else None,
            )
            for symptom, of_one in of_symptom.items()
        },
        as_written_same=same,
    )


def _same_texts(labels: NDArray[np.int64], as_written: Predictions, symptoms: Sequence[str]) -> SameTexts:
    return SameTexts(
        accuracy=_mean(as_written.right),
        f1=_macro_f1(as_written, symptoms),
        symptom_probability=_symptom_probability(labels, as_written.probabilities),
    )


def _macro_f1(found: Predictions, symptoms: Sequence[str]) -> float | None:
    return found.metrics(symptoms).f1 if len(found.labels) else None


def _symptom_probability(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float | None:
    return _mean(probabilities[np.arange(len(labels)), labels])


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def subgroups(
    values: pd.Series,
    patients: pd.Series,
    predictions: Predictions,
    baseline: Predictions | None,
    symptoms: Sequence[str],
    smallest: int,
) -> tuple[Subgroup, ...]:
    """Figures of one model by the values of a column, largest group first, small ones together at the end.

    Args:
        values: (n,) of the column; patients likewise.
        predictions: of the model; ``baseline`` of what it is compared with, None for nothing.
    """
    groups = values.where(values != "", "(empty)")
    sizes = patients.groupby(groups).agg(["size", "nunique"]).sort_values("size", ascending=False, kind="stable")
    shown = sizes.index[(sizes["size"] >= smallest) & (sizes["nunique"] >= LEAST_PATIENTS)].tolist()
    small = len(sizes) - len(shown)
    if small:
        other = f"other ({small} {'group' if small == 1 else 'groups'})"
        groups, shown = groups.where(groups.isin(shown), other), [*shown, other]
    differs = None if baseline is None else (predictions.said != baseline.said).any(axis=1)
    found = []
    for value in shown:
        inside = (groups == value).to_numpy()
        right = predictions.right[inside]
        low, high = accuracy_interval(right, patients[inside])
        was_right = None if baseline is None else baseline.right[inside]
        found.append(
            Subgroup(
                value=str(value),
                examples=int(inside.sum()),
                patients=int(patients[inside].nunique()),
                accuracy=float(right.mean()),
                low=low,
                high=high,
                f1=predictions.at(np.flatnonzero(inside)).metrics(symptoms).f1,
                disagreement=None if differs is None else float(differs[inside].mean()),
                harmed=None if was_right is None else int((was_right & ~right).sum()),
                helped=None if was_right is None else int((~was_right & right).sum()),
            )
        )
    return tuple(found)


def accuracy_interval(right: NDArray[np.bool_], patients: pd.Series) -> tuple[float | None, float | None]:
    """95 % interval of the share that is right, examples of a patient being alike; (None, None) for one patient.

    Wilson's (1927) of the effective number of examples (Kish's design effect; Korn & Graubard 1998), with Student's t
    of one degree of freedom fewer than patients. Where all or none are right, patients count.
    """
    count, n, p = patients.nunique(), len(right), float(right.mean())
    if count < 2:
        return None, None
    sums = pd.Series(right - p).groupby(patients.to_numpy()).sum()
    variance = count / (count - 1) * float((sums**2).sum()) / n**2
    effective = min(p * (1 - p) / variance, n) if variance > 0 else count
    z2 = float(t.ppf((1 + LEVEL) / 2, count - 1)) ** 2
    middle = (p + z2 / (2 * effective)) / (1 + z2 / effective)
    reach = np.sqrt(z2 * (p * (1 - p) / effective + z2 / (4 * effective**2))) / (1 + z2 / effective)
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def _groupable(run: Run, test: pd.DataFrame) -> tuple[dict[str, pd.Series], list[str]]:
    """The columns to group by, and notes on those that cannot be used."""
    columns = {"category": test["category"].str.strip()}
    columns |= {name: test[f"{GROUP}{name}"] for name in run.settings.notes.group_by}
    notes = []
    if not columns["category"].any():
        notes.append("the notes have no categories")
        del columns["category"]
    for name, values in list(columns.items()):
        reason = reason_for_no_groups(values.unique().tolist())
        if reason:
            notes.append(f"{name} has {reason}, so there are no figures by it")
            del columns[name]
    return columns, notes


def _predictions(run: Run, name: str, test: pd.DataFrame) -> Predictions:
    """Predictions of the test examples, in their order, as they were evaluated."""
    found = read_predictions(run, name, TEST)
    if found is None:
        raise InputError(f"{run.folder}: {name} has no predictions on the test set; evaluate the run again")
    places: NDArray[np.int64] = pd.Index(found.ids).get_indexer(test["id"])
    return found.at(places)


def _model(run: Run, name: str, tokenizer: PreTrainedTokenizerBase) -> Predict:
    model, task = runnable(run, name, threads=os.cpu_count() or 1), TASKS[run.settings.labels.task]

    def again(texts: Sequence[str]) -> NDArray[np.float64]:
        examples = tokenise(tokenizer, [""] * len(texts), texts, None, run.settings.model.max_length)
        return task.probabilities(predict(model.logits, examples, run.manifest.pad_token_id))

    return again


def robustness_table(found: Robustness) -> pd.DataFrame:
    """A row per model and reading.

    ``same_<figure>`` holds that of the same texts as written; ``said_<symptom>`` the share of that symptom's texts for
    which it is the most probable class.
    """
    rows = []
    for name, model in found.models.items():
        for reading, figures in model.readings.items():
            same = {f"same_{figure}": value for figure, value in vars(figures.as_written_same).items()}
            plain = {
                key: value for key, value in vars(figures).items() if key not in ("per_symptom", "as_written_same")
            }
            said = {f"said_{symptom}": of.said for symptom, of in figures.per_symptom.items()}
            rows.append({"strategy": model.strategy, "model": name, "reading": reading, **plain, **same, **said})
    return pd.DataFrame(rows, dtype=object)


def subgroups_table(found: Robustness) -> pd.DataFrame:
    """A row per model, column and group."""
    rows = [
        {"strategy": model.strategy, "model": name, "column": column, **vars(group)}
        for name, model in found.models.items()
        for column, groups in model.subgroups.items()
        for group in groups
    ]
    return pd.DataFrame(rows, dtype=object)


def _write_tables(run: Run, found: Robustness) -> None:
    for name, table in (("robustness", robustness_table(found)), ("subgroups", subgroups_table(found))):
        shown = table.where(table.notna(), None)
        notes = "".join(f"\n{note}\n" for note in found.notes)
        files = {"csv": csv_text(shown), "md": markdown(shown) + notes}
        if name == "subgroups":
            files["json"] = json.dumps(shown.to_dict("records"), indent=2, allow_nan=False)
        for ending, content in files.items():
            run.folder.write(f"{RESULTS}/{name}.{ending}", content.encode())


def print_robustness(run: Run, console: Console) -> None:
    """One row per strategy: macro F1 of each reading, and how often models still say a symptom that the text denies."""
    found = read_robustness(run)
    if found is None:
        if run.folder.names(f"{RESULTS}/predictions") and run.folder.exists(LEXICON_FILE):
            console.print("What the models rely on has not been measured yet: `symptune evaluate` does that.")
        return
    table = Table(
        title="Test macro F1, texts rewritten",
        title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), title_style="bold",
    )  # fmt: skip
    table.add_column("strategy", no_wrap=True)
    for name in ("as written", "masked", "renamed", "negated: still says"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in found.models.values():
        figures = (*(model.readings[reading].f1 for reading in READINGS[:-1]), model.readings[NEGATED].still_says)
        table.add_row(model.strategy, *map(cell_text, figures))
    console.print(table)
    if not run.is_multilabel:
        console.print('There is no class "no symptom": a model names a symptom even where the text denies it.')
    for note in found.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
