"""Models, controls and the rules that made the labels, against labels that people made."""

import difflib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.evaluate import control_of, thresholds_of
from analysis.evaluation.onnx_graphs import runnable
from analysis.evaluation.predictions import TRAIN, VALIDATION, said_of
from analysis.evaluation.result_files import read_result, write_result
from analysis.evaluation.run_statistics import DifferenceFigure, Interval, ModelFigure, figure_table
from analysis.labels.audit import GoldText, folded, read_gold, wilson
from analysis.statistics.comparison import compare, swap_test
from analysis.statistics.intervals import figure_intervals
from analysis.statistics.resampling import OVERALL, Resampled, resample
from analysis.text_tables import Row, cell_text, csv_text, markdown
from clinical_notes.batches import tokenise
from clinical_notes.inputs import InputMaker
from clinical_notes.labellers import labeller_of
from clinical_notes.lexicon import LabelNames
from clinical_notes.own_labels import RowAnnotator
from clinical_notes.run_examples import input_settings, run_lexicon
from clinical_notes.tables.columns import NoteColumns
from clinical_notes.tables.read import read_rows
from clinical_notes.units import AFFIRMED, NEGATED
from run_folder.errors import InputError, Problem
from run_folder.names import LABEL, MODEL, RESULTS
from run_folder.run import Run
from run_folder.settings import NO_PATIENTS, STATUSES
from trainables.parts.deployed import predict
from trainables.parts.model.stored import load_tokenizer
from trainables.parts.tasks import NOTE_RULES, TASKS
from trainables.references import BASELINE

GOLD = f"{RESULTS}/gold.json"
_MOST_NAMES = 5
"""Unknown names that are shown."""
RULES = "control-rules"
"""Name of the row of what labelled the run's notes: its rules, or another labeller."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of some texts, and the 95 % limits (Wilson) of that share; None where there are no such texts."""

    count: int
    of: int
    low: float | None
    high: float | None

    @classmethod
    def among(cls, which: NDArray[np.bool_]) -> "Share":
        count, of = int(which.sum()), len(which)
        if not of:
            return cls(count=0, of=0, low=None, high=None)
        low, high = wilson(count, of)
        return cls(count=count, of=of, low=low, high=high)

    @property
    def value(self) -> float | None:
        return self.count / self.of if self.of else None


@dataclass(frozen=True, kw_only=True)
class GoldModel:
    """Figures of one model, control, or the rules.

    Attributes:
        strategy: of a trial; else the row's own name.
        figures: by ``OVERALL`` (macro averages) or symptom, then by metric.
        micro_precision, micro_recall: over all answers yes; None where there are none.
        still_says: of the denied symptoms, those that it says are reported.
        silent: of the texts that report none of the symptoms, those of which it says so.
        differences: from the reference, as ``figures``; None for the reference itself.
    """

    strategy: str
    figures: Mapping[str, Mapping[str, ModelFigure]]
    micro_precision: float | None
    micro_recall: float | None
    still_says: Share
    silent: Share
    differences: Mapping[str, Mapping[str, DifferenceFigure]] | None


@dataclass(frozen=True, kw_only=True)
class Gold:
    """What ``results/gold.json`` holds: figures, and no text.

    Attributes:
        table: name of the table of labels.
        sha256: of its texts and labels.
        left_out: texts that the models were trained or chosen on, and others of their patients.
        patients: the texts count as one patient each where the table has no column of patients.
        reported: by symptom, the number of texts in which people affirm it.
        reference: the row that the others are compared with: the rules, or without them the best baseline.
        models: by trial or control.
        remarks: see ``remarks_on``.
    """

    table: str
    sha256: str
    texts: int
    left_out: int
    patients: int
    reported: Mapping[str, int]
    reference: str
    models: Mapping[str, GoldModel]
    remarks: tuple[str, ...] = ()


def read_labels(run: Run, path: str | Path) -> list[GoldText]:
    """Texts with people's labels: a table as ``read_gold`` reads, or of a run with labels of its own, as its notes.

    Raises:
        InputError: there is no such table, or its labels cannot judge the run's models.
    """
    labels = run.settings.labels
    gold = _rows_with_labels(run, path) if labels.columns else _with_parents(run, path)
    if not any(_names(text, _positive(run)) & set(run.symptoms) for text in gold):
        message = f"{path}: no row affirms one of the run's symptoms ({', '.join(run.symptoms)})"
        unknown = _unknown(run, gold)
        raise InputError(
            Problem(None, message, f"label some, or correct {_listed(run, unknown)}" if unknown else "label some")
        )
    if len(set(_patients(gold))) < 2:
        raise InputError(Problem(None, f"{path}: all rows are of one patient", "give more patients"))
    return gold


def remarks_on(run: Run, gold: Sequence[GoldText], table: str) -> tuple[str, ...]:
    """What a reader of the figures must know of a table's labels, a line each; no text.

    Args:
        gold: as ``read_labels`` gives them.
        table: its name.
    """
    unknown = _unknown(run, gold)
    if unknown:
        rows = sum(bool(set(unknown) & _all_names(text)) for text in gold)
        line = f"{rows:,} of {len(gold):,} rows of {table} have names that the run does not know, and that count as no"
        return (f"{line}: {_listed(run, unknown)}.",)
    return () if run.settings.labels.columns else tuple(_told_apart(run, gold, table))


def _all_names(text: GoldText) -> frozenset[str]:
    return frozenset[str]().union(*text.labels.values())


def _unknown(run: Run, gold: Sequence[GoldText]) -> Counter[str]:
    """Names that are none of the symptoms of a run with labels of its own, and in how many rows each is."""
    if not run.settings.labels.columns:  # else a name that the lexicon lacks is refused
        return Counter()
    return Counter(name for text in gold for name in sorted(_all_names(text) - set(run.symptoms)))


def _listed(run: Run, unknown: Counter[str]) -> str:
    """The most frequent names, each with its rows and the symptom that may be meant."""
    parts = []
    for name, rows in unknown.most_common(_MOST_NAMES):
        near = difflib.get_close_matches(name.lower(), {s.lower(): s for s in run.symptoms}, n=1)
        meant = next((f", did you mean {s!r}?" for s in run.symptoms if s.lower() in near), "")
        parts.append(f"{name!r} ({rows:,} {'row' if rows == 1 else 'rows'}{meant})")
    more = len(unknown) - len(parts)
    return ", ".join(parts) + (f" and {more} more" if more else "")


def _told_apart(run: Run, gold: Sequence[GoldText], table: str) -> Iterator[str]:
    """Where people seem to have labelled with fewer concepts than the run has: of each, the texts in which they do."""
    lexicon, labels = run_lexicon(run), run.settings.labels
    wider = folded(lexicon, sorted({name for text in gold for name in _all_names(text)} & set(run.symptoms)))
    if not wider:
        return
    labeller = labeller_of(labels.labeller, lexicon)
    found = [{mention.concept for mention in labeller.find(text.text)} for text in gold]
    for wide, narrow in wider.items():
        texts = [
            concepts & set(narrow)
            for text, concepts in zip(gold, found, strict=True)
            if wide in _all_names(text) and wide not in concepts
        ]
        seen = [name for name in narrow if any(name in of_text for of_text in texts)]
        if seen:
            yield (
                f"In {sum(map(bool, texts)):,} texts people label {wide} where the run's rules find {', '.join(seen)}, "
                f'which they tell apart from it; a run with --absorb "{wide}={",".join(seen)}" counts them as {wide}.'
            )


def _with_parents(run: Run, path: str | Path) -> list[GoldText]:
    """Labels of a concept are ones of what absorbed it, and of its parents too, as its mentions are."""
    lexicon = run_lexicon(run)
    parents = {name: frozenset(lexicon.ancestors(name)) for name in lexicon.concepts}
    return [
        replace(
            text,
            labels={status: names.union(*(parents[name] for name in names)) for status, names in text.labels.items()},
        )
        for text in read_gold(path, LabelNames(lexicon, run.settings.labels.absorb))
    ]


def _rows_with_labels(run: Run, path: str | Path) -> list[GoldText]:
    notes, labels = run.settings.notes, run.settings.labels
    annotator = RowAnnotator(run_lexicon(run), labels.columns, one_each=labels.task == "multiclass")
    patient = None if notes.patient_column == NO_PATIENTS else notes.patient_column
    columns = NoteColumns(text=notes.text_column, patient=patient, category=None, labels=labels.columns)
    named = [f"{LABEL}{name}" for name in labels.columns]
    gold = []
    for frame in read_rows(path, columns=columns, setting="gold"):
        about = (frame[name] for name in ("note", "text", "patient", "error", *named))
        for note, text, of, marked, *values in zip(*about, strict=True):
            if not marked and text.strip():
                names = frozenset(annotator.names(values, note)[0])
                gold.append(GoldText(note + 1, text, {AFFIRMED: names, NEGATED: frozenset()}, of or None))
    return gold


def evaluate_gold(run: Run, gold: Sequence[GoldText], table: str) -> Gold:
    """Write the figures of each strategy's best model, the controls and the rules on these texts.

    Thresholds are those of the deployed models; nothing is chosen on these texts.

    Args:
        gold: as ``read_labels`` gives them.
        table: name of their table.

    Raises:
        InputError: a model is not on the storage any more, or is damaged.
    """
    tokenizer = load_tokenizer(run.folder.local_copy(MODEL))
    maker = InputMaker(input_settings(run), tokenizer)
    remarks = remarks_on(run, gold, table)
    given, (gold, inputs) = len(gold), _not_seen(run, gold, [maker.inputs(text.text) for text in gold])
    if len(set(_patients(gold))) < 2:
        raise InputError(
            Problem(None, f"{table}: the models were trained or chosen on these texts", "give other texts")
        )
    reported = np.array([[s in _names(text, _positive(run)) for s in run.symptoms] for text in gold])
    denied = np.array([[s in text.labels[NEGATED] for s in run.symptoms] for text in gold]) & ~reported
    found = dict(_answers(run, [text.text for text in gold], inputs, tokenizer))
    reference = RULES if RULES in found else next(iter(found))
    names = list(found)
    resampled = resample(
        reported,
        np.array(_patients(gold)),
        np.stack([answers.probabilities for answers in found.values()]),
        np.stack([answers.said for answers in found.values()]),
    )
    written = Gold(
        table=table,
        sha256=_fingerprint(gold),
        texts=len(gold),
        left_out=given - len(gold),
        patients=resampled.patients,
        reported=dict(zip(run.symptoms, reported.sum(axis=0).tolist(), strict=True)),
        reference=reference,
        models={
            name: _model(run, name, resampled, names, reference, said=answers.said, reported=reported, denied=denied)
            for name, answers in found.items()
        },
        remarks=remarks,
    )
    write_result(run, GOLD, written)
    table_of_models = gold_table(written)
    run.folder.write(f"{RESULTS}/gold.csv", csv_text(table_of_models).encode())
    run.folder.write(f"{RESULTS}/gold.md", markdown(table_of_models).encode())
    return written


def read_gold_results(run: Run) -> Gold | None:
    """What ``evaluate_gold`` wrote, or None where there is nothing, or the file is damaged."""
    return read_result(run, GOLD, Gold, made_by="evaluate --gold")


def _not_seen(
    run: Run, gold: Sequence[GoldText], inputs: Sequence[list[str]]
) -> tuple[list[GoldText], list[list[str]]]:
    """The texts, and what a model reads of them, of patients none of whose texts is a training or validation example.

    Args:
        inputs: what a model reads of each text.
    """
    seen = {text for split in (TRAIN, VALIDATION) for text in run.examples(split)["text"]}
    patients = _patients(gold)
    known = {patient for patient, parts in zip(patients, inputs, strict=True) if not seen.isdisjoint(parts)}
    kept = [place for place, patient in enumerate(patients) if patient not in known]
    return [gold[place] for place in kept], [inputs[place] for place in kept]


def _fingerprint(gold: Sequence[GoldText]) -> str:
    digest = hashlib.sha256()
    for text in gold:
        labels = {status: sorted(names) for status, names in text.labels.items()}
        digest.update(json.dumps([text.text, text.patient, labels]).encode())
    return digest.hexdigest()


def _positive(run: Run) -> tuple[str, ...]:
    labels = run.settings.labels
    return STATUSES if labels.negated == "keep" else labels.positive


def _names(text: GoldText, statuses: Sequence[str]) -> frozenset[str]:
    """The concepts that people labelled with one of these statuses."""
    return frozenset[str]().union(*(text.labels.get(status, frozenset()) for status in statuses))


def _patients(gold: Sequence[GoldText]) -> list[str]:
    return [text.patient if text.patient is not None else f"row {text.row}" for text in gold]


@dataclass(frozen=True)
class _Answers:
    """What one model makes of the texts, both (texts, symptoms)."""

    probabilities: NDArray[np.float64]
    said: NDArray[np.bool_]


def _answers(
    run: Run, texts: Sequence[str], inputs: Sequence[list[str]], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[str, _Answers]]:
    """Of each strategy's best model, the baseline's first, of the controls, and of the rules.

    Args:
        inputs: what a model reads of each text.
    """
    text_of = np.repeat(np.arange(len(texts)), [len(parts) for parts in inputs])
    parts = [part for of_text in inputs for part in of_text]
    if not parts:
        raise InputError("the labelled texts have no words")

    combine = NOTE_RULES[run.settings.labels.note_rule]

    def answers(of_parts: NDArray[np.float64], thresholds: NDArray[np.float64] | None) -> _Answers:
        probabilities = combine(of_parts, text_of, len(texts))
        read = ~np.isnan(probabilities[:, :1])
        probabilities = np.nan_to_num(probabilities)
        return _Answers(probabilities, said_of(probabilities, thresholds) & read)

    task = TASKS[run.settings.labels.task]
    encoded = tokenise(tokenizer, [""] * len(parts), parts, None, run.settings.model.max_length)
    best = [trial.name for strategy in run.strategies for trial in run.best(strategy, 1)]
    for name in sorted(best, key=lambda name: run.trials[name].strategy != BASELINE):
        model = runnable(run, name, threads=os.cpu_count() or 1)
        logits = predict(model.logits, encoded, run.manifest.pad_token_id)
        yield name, answers(task.probabilities(logits), thresholds_of(run, name))
    for name in CONTROLS:
        control = control_of(run, name)
        yield name, answers(control.predict(parts), control.thresholds)
    labels = run.settings.labels
    if labels.unit != "row":  # else they played no part
        labeller, positive = labeller_of(labels.labeller, run_lexicon(run)), _positive(run)
        concepts = [{m.concept for m in labeller.find(text) if m.assertion in positive} for text in texts]
        said = np.array([[symptom in of_one for symptom in run.symptoms] for of_one in concepts])
        yield RULES, _Answers(said.astype(np.float64), said)


def _model(
    run: Run,
    name: str,
    resampled: Resampled,
    names: Sequence[str],
    reference: str,
    *,
    said: NDArray[np.bool_],
    reported: NDArray[np.bool_],
    denied: NDArray[np.bool_],
) -> GoldModel:
    place, of_reference = names.index(name), names.index(reference)
    found = figure_intervals(resampled.mean([place]))
    hits = int((said & reported).sum())
    differences = None
    if name != reference:
        against = compare(resampled, [place], [of_reference])
        against.p[:, :-1] = swap_test(resampled, place, of_reference)
        differences = figure_table(
            run, DifferenceFigure, point=against.point, low=against.low, high=against.high, p=against.p
        )
    return GoldModel(
        strategy=run.trials[name].strategy if name in run.trials else name,
        figures=figure_table(
            run, ModelFigure, point=found.point, low=found.low, high=found.high, undefined=found.undefined
        ),
        micro_precision=hits / int(said.sum()) if said.any() else None,
        micro_recall=hits / int(reported.sum()) if reported.any() else None,
        still_says=Share.among(said[denied]),
        silent=Share.among(np.asarray(~said[~reported.any(axis=1)].any(axis=1))),
        differences=differences,
    )


def gold_table(found: Gold) -> pd.DataFrame:
    """A row per model, control and the rules, and symptom or ``OVERALL``."""
    rows: list[Row] = []
    for name, model in found.models.items():
        for symptom, figures in model.figures.items():
            row: Row = {"strategy": model.strategy, "model": name, "symptom": symptom}
            for metric, figure in figures.items():
                row |= {metric: figure.point, f"{metric}_low": figure.low, f"{metric}_high": figure.high}
            against = model.differences[symptom]["f1"] if model.differences else None
            row |= {
                "f1_difference": against.point if against else None,
                "f1_difference_low": against.low if against else None,
                "f1_difference_high": against.high if against else None,
                "f1_difference_p": against.p if against else None,
            }
            overall = symptom == OVERALL
            row |= {
                "micro_precision": model.micro_precision if overall else None,
                "micro_recall": model.micro_recall if overall else None,
                "still_says_denied": model.still_says.value if overall else None,
                "silent_where_none": model.silent.value if overall else None,
            }
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def print_gold(found: Gold, console: Console) -> None:
    """A row per model, control and the rules."""
    table = Table(
        title=f"Against people's labels of {found.texts:,} texts (95 % limits)",
        title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), title_style="bold",
    )  # fmt: skip
    table.add_column("strategy", no_wrap=True)
    reference = "the rules" if found.reference == RULES else found.models[found.reference].strategy
    for name in ("macro F1", f"less {reference}", "precision", "recall", "still says denied", "silent where none"):
        table.add_column(name, justify="right")
    for model in found.models.values():
        against = model.differences[OVERALL]["f1"] if model.differences else None
        table.add_row(
            model.strategy,
            with_limits(model.figures[OVERALL]["f1"]),
            with_limits(against, sign="+") if against else "",
            *map(cell_text, (model.micro_precision, model.micro_recall)),
            *(f"{share.value:.1%}" if share.of else "–" for share in (model.still_says, model.silent)),
        )
    console.print(table)
    none = [symptom for symptom, count in found.reported.items() if not count]
    if none:
        line = f"People affirm no {', '.join(none)} in these texts, so that nothing can be said of it."
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if found.left_out:
        line = "texts that the models were trained or chosen on, with others of their patients"
        console.print(f"Left out: {found.left_out:,} {line}.", markup=False, highlight=False, soft_wrap=True)
    for remark in found.remarks:
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
    line = "Precision and recall are over all symptoms together, and of texts drawn as these were."
    console.print(line, highlight=False, soft_wrap=True)


def with_limits(figure: Interval, sign: str = "") -> str:
    """A figure with its limits; a dash where it is not defined."""
    if figure.point is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.point:{sign}.3f}"
    return escape(f"{figure.point:{sign}.3f} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]")
