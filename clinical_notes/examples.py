"""From units of text with their mentions to labelled examples, split by patient."""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from clinical_notes.batches import MASK
from clinical_notes.copies import patients_together
from clinical_notes.firmness import firmness
from clinical_notes.labeller import Mention
from clinical_notes.prevalence import deal_silent_patients, is_whole, texts_of_some_patients, training_texts
from clinical_notes.units import GROUP, UnitKind, Units, batches_of, rows_of
from run_folder.errors import InputError, Problem
from run_folder.names import LABEL, NOTE
from run_folder.settings import STATUSES, LabelSettings
from run_folder.symptom_choice import SymptomChoice

SPLITS = ("train", "validation", "test")
_MOST_FOLDS = 40
_ROWS_AT_ONCE = 50_000
_LEAST_SHOWN = 3
"""Training examples of its class that a form must have to be held back."""
_MOST_HELD_BACK = 0.2
"""Largest share of a class's training examples that may show a form that is held back."""


@dataclass(frozen=True)
class LabelledExamples:
    """Examples by split, each a frame of id, text, label, patient, category and ``group_<column>`` for each group.

    The label is a column ``symptom``, or of a multilabel task a column ``label_<symptom>`` for each. Windows of notes
    also have a column ``note``, of the note that each is of.

    Attributes:
        symptoms: the classes, most frequent first.
        held_back: by class, the surface forms that train and validation never show.
        standard_texts: notes' texts of too many patients to keep them all on one side of the split.
        choice: how firm the choice of the symptoms is; None: they were named.
    """

    symptoms: tuple[str, ...]
    splits: Mapping[str, pd.DataFrame]
    held_back: Mapping[str, tuple[str, ...]]
    standard_texts: int = 0
    choice: SymptomChoice | None = None

    def fingerprint(self) -> str:
        """SHA-256 of all examples, their labels and their splits."""
        digest = hashlib.sha256("\0".join(self.symptoms).encode())
        for name in SPLITS:
            frame = self.splits[name]
            labels = [frame[label].astype(str) for label in _label_columns(frame)]
            for row in zip(frame["id"], *labels, frame["patient"], frame["text"], strict=True):
                digest.update("\0".join((name, *row)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Table:
    """The columns of all units that are small enough for memory: numbers, and codes for patients and categories."""

    note: NDArray[np.int64]
    sentence: NDArray[np.int32]
    copy: NDArray[np.int64]
    patient: NDArray[np.int32]
    category: NDArray[np.int32]
    patients: NDArray[np.object_]
    categories: NDArray[np.object_]


@dataclass(frozen=True)
class _Mentions:
    """Mentions in order of appearance: row of their unit, code of their concept, and whether their status counts."""

    unit: NDArray[np.int64]
    concept: NDArray[np.int32]
    counts: NDArray[np.bool_]
    concepts: NDArray[np.object_]

    def where(self, chosen: NDArray[np.bool_]) -> "_Mentions":
        return _Mentions(self.unit[chosen], self.concept[chosen], self.counts[chosen], self.concepts)

    def of(self, concepts: Sequence[str]) -> "_Mentions":
        return self.where(np.isin(self.concepts, concepts)[self.concept])

    def first(self) -> NDArray[np.bool_]:
        """Which are the first of their unit."""
        return np.append(True, self.unit[1:] != self.unit[:-1])[: len(self.unit)]


def make_examples(
    units: Units, settings: LabelSettings, *, group_by: Sequence[str] = (), seed: int = 0, whole_share: float = 1.0
) -> LabelledExamples:
    """Choose the symptoms on the training patients, then label, mask, balance and split.

    Texts are read for the examples alone, so that a file of units may be larger than the memory.

    Args:
        group_by: the notes' columns to group by, as the notes were read with.
        seed: of the split, the cut, the forms held back and the resamples of patients.
        whole_share: of the patients whose texts without a mention are among the units.

    Raises:
        InputError: too few symptoms, or a symptom with too few examples or patients.
    """
    table, found = _read(units, STATUSES if settings.negated == "keep" else settings.positive)
    pa.default_memory_pool().release_unused()  # Arrow would keep some hundred MB of what was read
    once, mentions = _given_once(table), found.where(found.counts)
    if not len(mentions.unit):
        message = "no symptom of the lexicon is mentioned in these notes"
        raise InputError(Problem("notes", message, "check the category, the sample and the lexicon"))
    mentions = mentions.where(once[mentions.unit])
    wanted = mentions.of(settings.symptoms) if isinstance(settings.symptoms, tuple) else mentions
    multilabel = settings.task == "multilabel"
    read = np.flatnonzero(once) if multilabel else mentions.unit
    together = patients_together(table.patient[read], table.copy[read], _ranks(table.patients))
    split_of = _split_patients(table, wanted, together.groups, settings.split, seed)
    if multilabel:
        dealt = np.isin(np.arange(len(table.patients)), table.patient[wanted.unit])
        parts = [float(part) for part in split_folds(settings.split)[1]]
        split_of = deal_silent_patients(split_of, together.groups, dealt, parts, seed)
    in_train = (split_of == SPLITS.index("train"))[table.patient]
    training = mentions.where(in_train[mentions.unit])
    asked = settings.columns if len(settings.columns) > 1 and isinstance(settings.symptoms, int) else settings.symptoms
    symptoms = _choose_symptoms(training, asked)
    choice = None
    if isinstance(asked, int):
        choice = firmness(table.patient[training.unit], training.concept, training.concepts, symptoms, seed)
    if multilabel:
        whole = np.array([is_whole(name, whole_share) for name in table.patients])[table.patient]
        examples = _label_each(table, found.of(symptoms), split_of, once, whole, symptoms, settings, seed)
    else:
        examples = _label(table, mentions.of(symptoms), split_of, settings.unit)
    del table, found, mentions, wanted, in_train, once, training
    held_back = _choose_held_back(examples, units, symptoms, settings.hold_back, seed)
    examples = _without_forms(examples, units, held_back)
    _check_sizes(examples, symptoms)
    if settings.balance:
        examples = _balanced(examples, seed)
    splits = {split: _finished(examples, units, split, symptoms, settings, group_by) for split in SPLITS}
    return LabelledExamples(symptoms, splits, held_back, together.standard_texts, choice)


def _read(units: Units, positive: Sequence[str]) -> tuple[_Table, _Mentions]:
    patients, categories, concepts = _Codes(), _Codes(), _Codes()
    types = (np.int64, np.int32, np.int64, np.int32, np.int32, np.int64, np.int32, np.bool_)
    parts: list[tuple[NDArray[Any], ...]] = [tuple(np.empty(0, dtype) for dtype in types)]
    start = 0
    for batch in batches_of(units, ["note", "sentence", "copy", "patient", "category", "mentions"]):
        lists = batch["mentions"]
        values = lists.flatten()
        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        rows, found = np.repeat(np.arange(start, start + len(lists)), counts), concepts.of(values.field("concept"))
        positives = pc.is_in(values.field("assertion"), pa.array(positive)).to_numpy(zero_copy_only=False)
        numbers = batch["note"].to_numpy(), batch["sentence"].to_numpy(), batch["copy"].to_numpy()
        names = patients.of(batch["patient"]), categories.of(batch["category"])
        parts.append((*numbers, *names, rows, found, positives))
        start += len(lists)
    note, sentence, copy, patient, category, unit, concept, counts = map(np.concatenate, zip(*parts, strict=True))
    return (
        _Table(note, sentence, copy, patient, category, patients.names, categories.names),
        _Mentions(unit, concept, counts, concepts.names),
    )


class _Codes:
    """Numbers names in order of appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def of(self, names: pa.Array) -> NDArray[np.int32]:
        encoded = names.dictionary_encode()
        codes = [self._codes.setdefault(name, len(self._codes)) for name in encoded.dictionary.to_pylist()]
        taken: NDArray[np.int32] = np.array(codes, np.int32)[encoded.indices.to_numpy()]
        return taken

    @property
    def names(self) -> NDArray[np.object_]:
        return np.array(list(self._codes), dtype=object)


def _given_once(table: _Table) -> NDArray[np.bool_]:
    """Which units are of a note that is not the same patient's earlier one again."""
    pairs = np.unique(table.copy, return_inverse=True)[1] * len(table.patients) + table.patient
    _, first, of = np.unique(pairs, return_index=True, return_inverse=True)
    once: NDArray[np.bool_] = table.note == table.note[first][of]
    return once


def _choose_symptoms(training: _Mentions, symptoms: int | tuple[str, ...]) -> tuple[str, ...]:
    """The concepts asked for, most mentioned by the training patients first; ties by name."""
    found = np.bincount(training.concept, minlength=len(training.concepts))
    counts = {concept: count for concept, count in zip(training.concepts, found, strict=True) if count}
    ranked = sorted(counts, key=lambda concept: (-counts[concept], concept))
    if isinstance(symptoms, tuple):
        missing = [name for name in symptoms if name not in counts]
        if missing:
            message = f"{', '.join(missing)} never affirmed by the training patients"
            raise InputError(Problem("symptoms", message, f"the most frequent are {', '.join(ranked[:8])}"))
        return tuple(concept for concept in ranked if concept in symptoms)
    if len(ranked) < symptoms:
        message = f"{symptoms} were asked for, and the notes mention only {len(ranked)} ({', '.join(ranked)})"
        raise InputError(Problem("symptoms", message, "ask for fewer"))
    return tuple(ranked[:symptoms])


def split_folds(split: tuple[float, float, float]) -> tuple[int, tuple[Fraction, ...]]:
    """Into how many equal folds patients are dealt, and each split's share of them. Raises: InputError."""
    parts = tuple(Fraction(part).limit_denominator(100) for part in split)
    folds = lcm(*(part.denominator for part in parts))
    given = ",".join(f"{part:g}" for part in split)
    if sum(parts) != 1 or min(parts) <= 0:
        message = f"three fractions that add up to 1 are needed, such as 0.7,0.1,0.2, got {given}"
        raise InputError(Problem("split", message))
    if folds > _MOST_FOLDS:
        fix = "round it to steps of 0.05, such as 0.7,0.1,0.2"
        raise InputError(Problem("split", f"{given} would take {folds} folds", fix))
    return folds, parts


def _split_patients(
    table: _Table,
    mentions: _Mentions,
    groups: NDArray[np.int64],
    split: tuple[float, float, float],
    seed: int,
) -> NDArray[np.int8]:
    """Place in ``SPLITS`` by patient, from scikit-learn's stratified folds of whole patients.

    Patients of one group stay together.

    A unit's stratum is the concept that it mentions first, whichever concepts become classes later, so that the
    classes can be chosen on the training patients alone.
    """
    first = mentions.where(mentions.first())
    patients = table.patient[first.unit]
    folds, parts = split_folds(split)
    found = len(np.unique(groups[patients]))
    if found < folds:
        message = f"patients that mention a symptom: {found}; splitting {split} needs at least {folds}"
        raise InputError(Problem("notes", message, "use more notes or patients, or a coarser split"))
    rare = np.bincount(first.concept, minlength=len(first.concepts)) < folds
    strata = _ranks(np.where(rare, "(rare)", first.concepts))[first.concept]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")  # the rare ones, together
            dealt = splitter.split(np.empty((len(strata), 0)), strata, groups[patients])
            order = [test for _, test in dealt]
    except ValueError:
        message = f"{len(strata)} texts with a symptom are too few to split into {split}"
        raise InputError(Problem("notes", message, "use more notes")) from None
    in_test, in_validation = int(parts[2] * folds), int(parts[1] * folds)
    split_of = np.full(len(table.patients), SPLITS.index("train"), np.int8)
    for fold, rows in enumerate(order[: in_test + in_validation]):
        chosen = np.isin(groups, groups[patients[rows]])
        split_of[chosen] = SPLITS.index("test" if fold < in_test else "validation")
    return split_of


def _ranks(names: NDArray[np.object_]) -> NDArray[np.int64]:
    """Numbers in the order of the names: the folds depend on it."""
    return np.unique(names.astype(str), return_inverse=True)[1]


def _label(table: _Table, mentions: _Mentions, split_of: NDArray[np.int8], unit: UnitKind) -> pd.DataFrame:
    """Examples: the units that a symptom can be told of, with that symptom; the index is the unit's row."""
    is_first = mentions.first()
    first = mentions.where(is_first)
    if unit != "note":
        of = np.cumsum(is_first) - 1
        several = np.zeros(len(first.unit), bool)
        several[of[mentions.concept != first.concept[of]]] = True
        first = first.where(~several)
    symptom = pd.Categorical.from_codes(first.concept, pd.Index(first.concepts, dtype=str))
    return _examples(table, first.unit, split_of).assign(symptom=symptom)


def _label_each(
    table: _Table,
    mentions: _Mentions,
    split_of: NDArray[np.int8],
    once: NDArray[np.bool_],
    whole: NDArray[np.bool_],
    symptoms: Sequence[str],
    settings: LabelSettings,
    seed: int,
) -> pd.DataFrame:
    """Examples of a multilabel task, with a column of 0 and 1 for each symptom; the index is the unit's row.

    Args:
        mentions: of these symptoms, whatever their status.
        split_of: (patients,).
        once, whole: (units,) whether it is no copy, and whether all texts of its patient are there.
    """
    random = np.random.default_rng(seed)
    reported = mentions.where(mentions.counts)
    place_of = np.array([{name: i for i, name in enumerate(symptoms)}.get(name, -1) for name in mentions.concepts])
    labels = np.zeros((len(once), len(symptoms)), bool)
    labels[reported.unit, place_of[reported.concept]] = True
    mentioned = np.bincount(mentions.unit, minlength=len(once)) > 0
    split = split_of[table.patient]
    chosen = []
    for name in SPLITS:
        rows = np.flatnonzero((split == SPLITS.index(name)) & once & (whole | (name == "train")))
        if name == "train" and settings.unit != "row":
            reports = np.asarray(labels[rows].any(axis=1))
            rows = rows[training_texts(reports, mentioned[rows], settings.negatives, random)]
        elif name != "train":
            most = settings.most_test if name == "test" else settings.most_test // 2
            rows = rows[texts_of_some_patients(table.patient[rows], most, random)]
        chosen.append(rows)
    rows = np.sort(np.concatenate(chosen))
    columns = {f"{LABEL}{name}": labels[rows, i].astype(np.float32) for i, name in enumerate(symptoms)}
    return _examples(table, rows, split_of).assign(**columns)


def _examples(table: _Table, rows: NDArray[np.int64], split_of: NDArray[np.int8]) -> pd.DataFrame:
    """What is known of these units; the index is the unit's row."""
    patients = table.patient[rows]
    return pd.DataFrame(
        {
            "note": table.note[rows],
            "sentence": table.sentence[rows],
            "patient": pd.Categorical.from_codes(patients, pd.Index(table.patients, dtype=str)),
            "category": pd.Categorical.from_codes(table.category[rows], pd.Index(table.categories, dtype=str)),
            "split": pd.Categorical.from_codes(split_of[patients], pd.Index(SPLITS, dtype=str)),
        },
        index=rows,
    )


def _label_columns(frame: pd.DataFrame) -> list[str]:
    return ["symptom"] if "symptom" in frame else [str(name) for name in frame if str(name).startswith(LABEL)]


def _reports(examples: pd.DataFrame, symptom: str) -> pd.Series:
    """Whether each example reports the symptom."""
    if "symptom" in examples:
        return examples["symptom"] == symptom
    return examples[f"{LABEL}{symptom}"] >= 0.5


def _texts(examples: pd.DataFrame, units: Units) -> pd.Series:
    texts: pd.Series = rows_of(units, examples.index.to_numpy(), ["text"])["text"].to_pandas()
    return texts.set_axis(examples.index)


def _finished(
    examples: pd.DataFrame,
    units: Units,
    split: str,
    symptoms: Sequence[str],
    settings: LabelSettings,
    group_by: Sequence[str],
) -> pd.DataFrame:
    """One split's examples with all that is known of them."""
    soft = settings.task == "multilabel" and len(settings.columns) > 1
    examples = examples[examples["split"] == split]
    read = rows_of(
        units,
        examples.index.to_numpy(),
        ["text", *["mentions"] * (settings.mentions == "mask"), *["groups"] * bool(group_by), *["sure"] * soft],
    )
    texts = read["text"].to_pandas()
    numbers = examples["note"].astype(str)
    several = settings.unit == "sentence" or settings.in_windows
    ids = numbers + "-" + examples["sentence"].astype(str) if several else numbers
    groups = read["groups"].to_pylist() if group_by else []
    labels = {name: _plain(examples[name]) for name in _label_columns(examples)}
    if soft:
        sure = np.array(read["sure"].to_pylist(), np.float32).reshape(len(read), len(settings.columns))
        labels = {f"{LABEL}{name}": sure[:, settings.columns.index(name)] for name in symptoms}
    return pd.DataFrame(
        {
            "id": ids.array,
            **({NOTE: numbers.array} if settings.in_windows else {}),
            "text": _masked(texts, read["mentions"], symptoms) if settings.mentions == "mask" else texts,
            **labels,
            **{name: _plain(examples[name]) for name in ("patient", "category")},
            **{f"{GROUP}{name}": [of_groups[place] for of_groups in groups] for place, name in enumerate(group_by)},
        }
    )


def _plain(column: pd.Series) -> Any:
    """Its values, of categories their names."""
    return (column.astype(str) if isinstance(column.dtype, pd.CategoricalDtype) else column).array


def _choose_held_back(
    examples: pd.DataFrame, units: Units, symptoms: Sequence[str], hold_back: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """By class, forms drawn by the seed among those that its training examples show, but not too often."""
    if not hold_back:
        return {}
    random = np.random.default_rng(seed)
    chosen = {}
    for symptom in symptoms:
        rows = examples.index[(examples["split"] == "train") & _reports(examples, symptom)].to_numpy()
        read = rows_of(units, rows, ["text", "mentions"])
        texts = read["text"].to_pandas()
        shares = {form: _show(texts, [form]).mean() for form in _forms_of(symptom, read)}
        least = _LEAST_SHOWN / len(texts)
        usable = [form for form, share in sorted(shares.items()) if least <= share <= _MOST_HELD_BACK]
        chosen[symptom] = tuple(sorted(random.permutation(np.array(usable, dtype=object))[:hold_back]))
    return chosen


def _forms_of(symptom: str, units: pa.Table) -> set[str]:
    """The forms by which examples name their symptom."""
    return {
        " ".join(text[m["start"] : m["end"]].split())
        for batch in units.to_batches(max_chunksize=_ROWS_AT_ONCE)
        for text, mentions in zip(batch["text"].to_pylist(), batch["mentions"].to_pylist(), strict=True)
        for m in mentions
        if m["concept"] == symptom
    }


def _show(texts: pd.Series, forms: Sequence[str]) -> pd.Series:
    """Whether texts show any of these forms, as words of their own."""
    patterns = (r"\s+".join(map(re.escape, form.split())) for form in forms)
    return texts.str.contains(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", regex=True)


def _without_forms(examples: pd.DataFrame, units: Units, held_back: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Training and validation examples that show none of these forms, of whichever class; all of the test ones."""
    forms = [form for of_class in held_back.values() for form in of_class]
    if not forms:
        return examples
    return examples[~_show(_texts(examples, units), forms) | (examples["split"] == "test")]


def _masked(texts: pd.Series, mentions: pa.ChunkedArray, symptoms: Sequence[str]) -> list[str]:
    """Texts with every mention of a class hidden, negated ones too."""
    of_texts = (rows for chunk in mentions.chunks for rows in chunk.to_pylist())
    return [
        mask_mentions(text, [Mention(**row) for row in rows], symptoms)
        for text, rows in zip(texts, of_texts, strict=True)
    ]


def mask_mentions(text: str, mentions: Sequence[Mention], symptoms: Sequence[str]) -> str:
    """The text with ``MASK`` in place of the mentions of these symptoms.

    Args:
        mentions: in order of appearance, offsets into ``text``.
        symptoms: concepts to hide; mentions of other concepts stay.
    """
    hidden = {(mention.start, mention.end) for mention in mentions if mention.concept in symptoms}
    for start, end in sorted(hidden, reverse=True):  # several concepts may share a place
        text = text[:start] + MASK + text[end:]
    return text


def _check_sizes(examples: pd.DataFrame, symptoms: Iterable[str]) -> None:
    """Every symptom needs examples, so patients, in every split."""
    short = []
    for symptom in symptoms:
        rows = examples[_reports(examples, symptom)]
        lacking = [split for split in SPLITS if not (rows["split"] == split).any()]
        if lacking:
            patients = rows["patient"].nunique()
            short.append(f"{symptom} ({len(rows)} examples of {patients} patients: none in {', '.join(lacking)})")
    if short:
        message = f"too few examples to split: {'; '.join(short)}"
        raise InputError(Problem("symptoms", message, "use more notes, fewer symptoms, or name others"))


def _balanced(examples: pd.DataFrame, seed: int) -> pd.DataFrame:
    examples = examples.astype({"split": str, "symptom": str})
    smallest = examples.groupby("split")["symptom"].value_counts().groupby("split").min().to_dict()
    parts = [
        rows.sample(n=smallest[split], random_state=seed)
        for (split, _), rows in examples.groupby(["split", "symptom"], sort=True)
    ]
    return pd.concat(parts).sort_index()
