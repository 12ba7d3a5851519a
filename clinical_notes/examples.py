"""From units of text with their mentions to labelled examples, split by patient."""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.model_selection import StratifiedGroupKFold

from clinical_notes.batches import MASK
from clinical_notes.errors import InputError
from clinical_notes.units import AFFIRMED, GROUP, UnitKind

SPLITS = ("train", "validation", "test")
_MOST_FOLDS = 40
_LEAST_SHOWN = 3
"""Training examples of its class that a form must have to be held back."""
_MOST_HELD_BACK = 0.2
"""Of a class's training examples; a form that more of them show is not held back."""


@dataclass(frozen=True)
class LabelSettings:
    """How examples are made of units.

    Attributes:
        unit: ``note``: the symptom mentioned first; ``sentence``: the only symptom mentioned.
        symptoms: how many of the most frequent concepts become classes, or their names.
        mentions: whether the text keeps or masks the names of the classes.
        negated: ``drop`` counts affirmed mentions alone; ``keep`` counts every mention, as the paper's author did.
        balance: cut every class down to the size of the rarest, in each split.
        split: fractions of train, validation and test.
        hold_back: surface forms of each class that train and validation never show.
        group_by: the notes' columns to group by, as the notes were read with.
        seed: of the split, the cut and the forms held back.
    """

    unit: UnitKind = "sentence"
    symptoms: int | tuple[str, ...] = 5
    mentions: Literal["keep", "mask"] = "keep"
    negated: Literal["drop", "keep"] = "drop"
    balance: bool = False
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    hold_back: int = 0
    group_by: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class LabelledExamples:
    """Examples by split, each a frame of id, text, symptom, patient, category and ``group_<column>`` for each group.

    Attributes:
        symptoms: the classes, most frequent first.
        held_back: by class, the surface forms that train and validation never show.
    """

    symptoms: tuple[str, ...]
    splits: Mapping[str, pd.DataFrame]
    held_back: Mapping[str, tuple[str, ...]]

    def fingerprint(self) -> str:
        """SHA-256 of all examples, their labels and their splits."""
        digest = hashlib.sha256("\0".join(self.symptoms).encode())
        for name in SPLITS:
            frame = self.splits[name]
            for row in zip(frame["id"], frame["symptom"], frame["patient"], frame["text"], strict=True):
                digest.update("\0".join((name, *row)).encode())
        return digest.hexdigest()


def make_examples(units: pa.Table, settings: LabelSettings) -> LabelledExamples:
    """Choose the symptoms on the training patients, then label, mask, balance and split.

    Raises:
        InputError: too few symptoms, or a symptom with too few examples or patients.
    """
    table = units.drop_columns(["mentions", "groups"]).to_pandas()
    mentions = _mentions(units, settings.negated)
    if not len(mentions):
        raise InputError("no symptom of the lexicon is mentioned in these notes: check --category, --sample, --lexicon")
    named = settings.symptoms if isinstance(settings.symptoms, tuple) else None
    wanted = mentions if named is None else mentions[mentions["concept"].isin(named)]
    split_of = _split_patients(table, wanted, settings)
    table["split"] = table["patient"].map(split_of)
    in_train = (table["split"] == "train").to_numpy()[mentions["unit"]]
    symptoms = _choose_symptoms(mentions[in_train], settings.symptoms)
    examples = _label(table, mentions[mentions["concept"].isin(symptoms)], settings.unit)
    held_back = _choose_held_back(examples, units, symptoms, settings)
    examples = _without_forms(examples, held_back)
    if settings.mentions == "mask":
        examples["text"] = _masked(examples["text"], units, symptoms)
    groups = units["groups"].take(pa.array(examples.index)).to_pylist()
    for place, name in enumerate(settings.group_by):
        examples[f"{GROUP}{name}"] = [of_groups[place] for of_groups in groups]
    _check_sizes(examples, symptoms)
    if settings.balance:
        examples = _balanced(examples, settings.seed)
    columns = ["id", "text", "symptom", "patient", "category", *(f"{GROUP}{name}" for name in settings.group_by)]
    return LabelledExamples(
        symptoms,
        {s: examples.loc[examples["split"] == s, columns].reset_index(drop=True) for s in SPLITS},
        held_back,
    )


def _mentions(units: pa.Table, negated: str) -> pd.DataFrame:
    """One row per mention that counts: unit (row of the table) and concept, in order of appearance."""
    column = units["mentions"].combine_chunks()
    values = column.flatten()
    frame = pd.DataFrame(
        {
            "unit": np.repeat(
                np.arange(len(column)), column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            ),
            "concept": values.field("concept").to_pandas(),
        }
    )
    if negated == "drop":
        frame = frame[(values.field("assertion").to_pandas() == AFFIRMED).to_numpy()]
    return frame


def _choose_symptoms(training: pd.DataFrame, symptoms: int | tuple[str, ...]) -> tuple[str, ...]:
    """The concepts asked for, most mentioned by the training patients first; ties by name."""
    counts = training["concept"].value_counts()
    ranked = sorted(counts.index, key=lambda concept: (-counts[concept], concept))
    if isinstance(symptoms, tuple):
        missing = [name for name in symptoms if name not in counts.index]
        if missing:
            raise InputError(
                f"--symptoms: {', '.join(missing)} never affirmed by the training patients; "
                f"the most frequent are {', '.join(ranked[:8])}"
            )
        return tuple(concept for concept in ranked if concept in symptoms)
    if len(ranked) < symptoms:
        raise InputError(
            f"--symptoms {symptoms}: the notes mention only {len(ranked)} ({', '.join(ranked)}); ask for fewer"
        )
    return tuple(ranked[:symptoms])


def split_folds(split: tuple[float, float, float]) -> tuple[int, tuple[Fraction, ...]]:
    """Into how many equal folds patients are dealt, and each split's share of them. Raises: InputError."""
    parts = tuple(Fraction(part).limit_denominator(100) for part in split)
    folds = lcm(*(part.denominator for part in parts))
    given = ",".join(f"{part:g}" for part in split)
    if sum(parts) != 1 or min(parts) <= 0:
        raise InputError(f"--split: three fractions that add up to 1 are needed, such as 0.7,0.1,0.2, got {given}")
    if folds > _MOST_FOLDS:
        raise InputError(f"--split: {given} would take {folds} folds; round it to steps of 0.05, such as 0.7,0.1,0.2")
    return folds, parts


def _split_patients(table: pd.DataFrame, mentions: pd.DataFrame, settings: LabelSettings) -> dict[str, str]:
    """Patient to split, by scikit-learn's stratified folds of whole patients.

    A unit's stratum is the concept that it mentions first, whichever concepts become classes later, so that the
    classes can be chosen on the training patients alone.
    """
    first = mentions.drop_duplicates("unit")
    strata = first["concept"].to_numpy(dtype=str)
    patients = table["patient"].to_numpy(dtype=str)[first["unit"]]
    folds, parts = split_folds(settings.split)
    found = len(set(patients))
    if found < folds:
        raise InputError(
            f"--notes: patients that mention a symptom: {found}; splitting {settings.split} needs at least {folds}; "
            "use more notes or patients, or a coarser --split"
        )
    names, sizes = np.unique(strata, return_counts=True)
    rare = set(names[sizes < folds])
    strata = np.array(["(rare)" if concept in rare else concept for concept in strata])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=settings.seed)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")  # the rare ones, together
            order = [test for _, test in splitter.split(np.zeros(len(strata)), strata, patients)]
    except ValueError:
        raise InputError(f"{len(strata)} texts with a symptom are too few to split into {settings.split}") from None
    in_test, in_validation = int(parts[2] * folds), int(parts[1] * folds)
    split_of = dict.fromkeys(table["patient"], "train")
    for fold, rows in enumerate(order[: in_test + in_validation]):
        split_of |= dict.fromkeys(patients[rows], "test" if fold < in_test else "validation")
    return split_of


def _label(table: pd.DataFrame, mentions: pd.DataFrame, unit: UnitKind) -> pd.DataFrame:
    """Examples: the units that a symptom can be told of, with that symptom; the index is the unit's row."""
    first = mentions.drop_duplicates("unit").set_index("unit")["concept"]
    if unit == "sentence":
        several = mentions.groupby("unit")["concept"].nunique()
        first = first[several[first.index].to_numpy() == 1]
    examples = table.loc[first.index].assign(symptom=first)
    numbers = examples["note"].astype(str)
    examples["id"] = numbers if unit == "note" else numbers + "-" + examples["sentence"].astype(str)
    return examples


def _choose_held_back(
    examples: pd.DataFrame, units: pa.Table, symptoms: Sequence[str], settings: LabelSettings
) -> dict[str, tuple[str, ...]]:
    """By class, forms drawn by the seed among those that its training examples show, but not too often."""
    if not settings.hold_back:
        return {}
    training = examples[examples["split"] == "train"]
    random = np.random.default_rng(settings.seed)
    chosen = {}
    for symptom in symptoms:
        texts = training.loc[training["symptom"] == symptom, "text"]
        shares = {form: _show(texts, [form]).mean() for form in _forms_of(symptom, texts, units)}
        least = _LEAST_SHOWN / len(texts)
        usable = [form for form, share in sorted(shares.items()) if least <= share <= _MOST_HELD_BACK]
        chosen[symptom] = tuple(sorted(random.permutation(np.array(usable, dtype=object))[: settings.hold_back]))
    return chosen


def _forms_of(symptom: str, texts: pd.Series, units: pa.Table) -> set[str]:
    """The forms by which examples name their symptom."""
    found = units["mentions"].take(pa.array(texts.index)).to_pylist()
    return {
        " ".join(text[m["start"] : m["end"]].split())
        for text, mentions in zip(texts, found, strict=True)
        for m in mentions
        if m["concept"] == symptom
    }


def _show(texts: pd.Series, forms: Sequence[str]) -> pd.Series:
    """Whether texts show any of these forms, as words of their own."""
    patterns = (r"\s+".join(map(re.escape, form.split())) for form in forms)
    return texts.str.contains(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", regex=True)


def _without_forms(examples: pd.DataFrame, held_back: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Training and validation examples that show none of these forms, of whichever class; all of the test ones."""
    forms = [form for of_class in held_back.values() for form in of_class]
    if not forms:
        return examples
    return examples[~_show(examples["text"], forms) | (examples["split"] == "test")]


def _masked(texts: pd.Series, units: pa.Table, symptoms: Sequence[str]) -> list[str]:
    """Texts with every mention of a class hidden, negated ones too."""
    hidden = []
    for text, mentions in zip(texts, units["mentions"].take(pa.array(texts.index)).to_pylist(), strict=True):
        hidden.append(mask_mentions(text, mentions, symptoms))
    return hidden


def mask_mentions(text: str, mentions: Sequence[Mapping[str, Any]], symptoms: Sequence[str]) -> str:
    """The text with the mentions of these symptoms hidden; ``mentions`` are as in ``units.MENTION``, in order."""
    for mention in reversed(mentions):
        if mention["concept"] in symptoms:
            text = text[: mention["start"]] + MASK + text[mention["end"] :]
    return text


def _check_sizes(examples: pd.DataFrame, symptoms: Iterable[str]) -> None:
    """Every symptom needs examples, so patients, in every split."""
    short = []
    for symptom in symptoms:
        rows = examples[examples["symptom"] == symptom]
        lacking = [split for split in SPLITS if not (rows["split"] == split).any()]
        if lacking:
            patients = rows["patient"].nunique()
            short.append(f"{symptom} ({len(rows)} examples of {patients} patients: none in {', '.join(lacking)})")
    if short:
        raise InputError(
            f"too few examples to split: {'; '.join(short)}; use more notes, --symptoms fewer, or name others"
        )


def _balanced(examples: pd.DataFrame, seed: int) -> pd.DataFrame:
    smallest = examples.groupby("split")["symptom"].value_counts().groupby("split").min().to_dict()
    parts = [
        rows.sample(n=smallest[split], random_state=seed)
        for (split, _), rows in examples.groupby(["split", "symptom"], sort=True)
    ]
    return pd.concat(parts).sort_index()
