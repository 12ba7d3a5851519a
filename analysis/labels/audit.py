"""How good the rules' labels are: scored against texts that people have labelled."""

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.text_tables import FORMULA_STARTS
from clinical_notes.labeller import Labeller, Mention
from clinical_notes.lexicon import Lexicon
from clinical_notes.tables.columns import TEXTS_ALONE, is_usual
from clinical_notes.tables.delimited import delimiter_of
from clinical_notes.tables.errors import NotUtf8Error, TableError
from clinical_notes.tables.formats import DAMAGED, opened
from clinical_notes.tables.read import read_sheet
from clinical_notes.tables.values import BadValueError, canonical
from clinical_notes.units import AFFIRMED, NEGATED, RESOLVED, UNCERTAIN
from run_folder.errors import InputError, Problem
from run_folder.settings import STATUSES

REQUIRED = (AFFIRMED, NEGATED)
"""Statuses that every gold table has a column of; the others are scored where it has theirs."""
_WITHOUT_COLUMN = {UNCERTAIN: AFFIRMED, RESOLVED: NEGATED}
"""What a status counts as where the gold table has no column of it."""
MICRO, MACRO = "(micro)", "(macro)"
_RESAMPLES = 2000
_NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)
_LEAST_LABELLED, _LABELLED_SHARE = 3, 0.75
"""A parent is suggested where people label it in at least this number, and this share, of a concept's texts."""
_TEXT, _TEXT_NAMES = "text", ("text", "sentence")
_PATIENT = "patient"
_NOTHING = frozenset({"", "-", "none"})
_LONGEST_NAME = 40
_SURROGATE = re.compile("[\udc80-\udcff]")
_COUNTED = {"precision": [0, 1], "recall": [0, 2], "f1": [0, 1, 2]}
"""Positions in (tp, fp, fn) of the counts from which each figure is computed."""

Labels = Mapping[str, frozenset[str]]
"""Each scored status to the concepts that a text mentions with it."""


@dataclass(frozen=True)
class GoldText:
    """A labelled text.

    Attributes:
        row: counts the rows below the header from 1.
        patient: None where the table does not say.
    """

    row: int
    text: str
    labels: Labels
    patient: str | None = None


@dataclass(frozen=True)
class Mistake:
    """A concept that people and rules read differently in a text; none, one or both statuses each."""

    row: int
    concept: str
    labelled: tuple[str, ...]
    found: tuple[str, ...]


@dataclass(frozen=True)
class ParentHint:
    """A concept that people seem to count as another one too, such as hematuria as bleeding.

    Attributes:
        texts: those in which the rules find the concept, and not the parent.
        labelled: those of them that people label with the parent, with the status that the concept was found with.
    """

    concept: str
    parent: str
    labelled: int
    texts: int


@dataclass(frozen=True)
class Audit:
    """Rules against people.

    Attributes:
        scores: a row per status and concept, then micro and macro averages: concept, status, tp, fp, fn (numbers of
            texts), precision, recall, f1 (NaN where not defined), and each with ``_low`` and ``_high``, 95 % limits.
        elsewhere: concept to the concepts outside of the audit that the rules found where a label was missed.
        parents: what may be missing in the lexicon's ``parents``, the most frequent first.
    """

    texts: int
    scores: pd.DataFrame
    mistakes: Sequence[Mistake]
    elsewhere: Mapping[str, tuple[str, ...]]
    parents: Sequence[ParentHint] = ()


class Concepts(Protocol):
    """The names that a table of labels may give."""

    def concept_of(self, name: str) -> str | None:
        """The concept of a name or form; None where there is none."""

    def hint(self, name: str) -> str:
        """What to write in the place of an unknown name."""


def read_gold(path: str | Path, lexicon: Concepts) -> list[GoldText]:
    """Texts with the concepts that people say they affirm and deny, and with other statuses where they labelled them.

    Args:
        path: a table, as .csv, .tsv or .xlsx, with the columns text (or sentence), affirmed and negated, and perhaps
            resolved, uncertain, historical, hypothetical and other; concepts, or forms of them, stand apart by
            semicolons or commas. A column of patients, such as patient or subject_id, is read too.
        lexicon: the concepts, such as a ``Lexicon``.

    Raises:
        InputError: no such table, or a concept that the lexicon lacks; the message names the row.
    """
    path = Path(path)
    header, rows = _table(path)
    columns = _places(header, path)
    gold: list[GoldText] = []
    problems: dict[str, str] = {}
    for number, fields in enumerate(rows, 1):
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            raise InputError(f"{path}: row {number} has {len(fields)} fields, the header {len(header)}; quote the text")
        if not fields[columns["text"]].strip():
            raise InputError(f"{path}: row {number} has no text; add it, or delete the row")
        labels = {}
        for status in _scored(columns):
            names = [name.strip() for name in re.split("[;,]", fields[columns[status]])]
            names = [name for name in names if name.lower() not in _NOTHING]
            found = {name: lexicon.concept_of(name) for name in names}
            for name, concept in found.items():
                if concept is None:
                    problems.setdefault(name, f"{path}: row {number}, {status}: {_unknown(name, lexicon)}")
            labels[status] = frozenset(concept for concept in found.values() if concept is not None)
        patient = _patient(fields[columns[_PATIENT]], number, path) if _PATIENT in columns else None
        gold.append(GoldText(number, _plain(fields[columns["text"]]), labels, patient))
    if problems:
        raise InputError(*list(problems.values())[:5])
    if not any(text.labels[status] for text in gold for status in REQUIRED):
        raise InputError(f"{path}: no row names a concept under affirmed or negated; label some")
    return gold


def _patient(cell: str, row: int, path: Path) -> str | None:
    """As the notes' patients are written. Raises: InputError: an identifier that lost digits, or a truth value."""
    try:
        return canonical(cell) or None
    except BadValueError as error:
        raise InputError(Problem(None, f"{path}: row {row}: {error}", error.fix)) from None


def _unknown(name: str, lexicon: Concepts) -> str:
    if len(name) > _LONGEST_NAME:  # a text, perhaps
        return f"a cell of {len(name)} characters is no concept; give names, apart by semicolons"
    return f"the lexicon has no concept {name!r}; {lexicon.hint(name)}"


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with opened(path) as file:
            if file.kind == "delimited":
                content = file.text().read()
        header, rows = read_sheet(path) if file.kind != "delimited" else _rows(content, path)
    except TableError as error:
        raise InputError(Problem(None, f"{path}{error}", error.fix)) from None
    except UnicodeError:
        raise InputError(f"{path} is damaged {file.encoding.upper()}; write it again as UTF-8") from None
    except DAMAGED:
        raise InputError(f"{path} cannot be read; fetch or compress it again") from None
    if not rows:
        raise InputError(f"{path}: has no rows below a header; give the columns text, affirmed and negated")
    return header, rows


def _rows(content: str, path: Path) -> tuple[list[str], list[list[str]]]:
    if bad := _SURROGATE.search(content):
        raise NotUtf8Error(f": line {content.count(chr(10), 0, bad.start()) + 1}", ord(bad[0]) - 0xDC00)
    lines = content.splitlines(keepends=True)
    delimiter = delimiter_of(next(iter(lines), ""), TEXTS_ALONE)
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if delimiter != "\t":
            raise InputError(f"{path}: broken quoting ({error}); quote texts and double the quotes inside") from None
        rows = []
    if delimiter == "\t" and (not rows or any("\t" in field for row in rows for field in row)):
        rows = [line.rstrip("\r\n").split("\t") for line in lines]  # its quotes are plain characters
    return (rows[0], rows[1:]) if rows else ([], [])


def _places(header: Sequence[str], path: Path) -> dict[str, int]:
    """Column of each part, by names such as "Affirmed concepts"."""
    words = [re.split(r"[\W_]+", name.strip().lower())[0] for name in header]
    words = [_TEXT if word in _TEXT_NAMES else word for word in words]
    words = [_PATIENT if is_usual(name, _PATIENT) else word for name, word in zip(header, words, strict=True)]
    missing = [name for name in (_TEXT, *REQUIRED) if name not in words]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}; the first row must be: text, affirmed, negated")
    return {name: words.index(name) for name in (_TEXT, _PATIENT, *STATUSES) if name in words}


def _scored(columns: Mapping[str, object]) -> tuple[str, ...]:
    """The statuses that a table has, in order."""
    return tuple(status for status in STATUSES if status in columns)


def _plain(text: str) -> str:
    """Undo ``text_tables.defused``."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA_STARTS) else text


def folded(lexicon: Lexicon, named: Sequence[str]) -> dict[str, list[str]]:
    """What to absorb where people labelled with fewer concepts than the lexicon has.

    Of "chest pain" and "pain", those who name the wider one alone mean both.
    """
    merges = {
        wide: [concept for concept in lexicon.concepts if concept.endswith(f" {wide}") and concept not in named]
        for wide in named
    }
    return {wide: narrow for wide, narrow in merges.items() if narrow}


def audit(gold: Sequence[GoldText], lexicon: Lexicon, symptoms: Sequence[str], labeller: Labeller) -> Audit:
    """Score the concepts that a labeller finds affirmed and negated, as one set of each per text.

    Args:
        lexicon: the labeller's.
        symptoms: concepts to score.
    """
    statuses = tuple(gold[0].labels)
    mentions = [labeller.find(text.text) for text in gold]
    found = [
        {status: frozenset(m.concept for m in of_text if _counted_as(m, statuses) == status) for status in statuses}
        for of_text in mentions
    ]
    by_people, by_rules = ([text.labels for text in gold], symptoms), (found, symptoms)
    scores = _scores(_indicators(*by_people), _indicators(*by_rules), statuses, symptoms)
    mistakes = [
        Mistake(text.row, symptom, labelled, seen)
        for text, labels in zip(gold, found, strict=True)
        for symptom in symptoms
        if (labelled := _statuses(text.labels, symptom)) != (seen := _statuses(labels, symptom))
    ]
    elsewhere = _elsewhere(gold, mentions, lexicon, symptoms)
    hints = [hint for hint in _parents(gold, found, symptoms) if hint.concept not in elsewhere.get(hint.parent, ())]
    return Audit(len(gold), scores, mistakes, elsewhere, hints)


def _counted_as(mention: Mention, statuses: Sequence[str]) -> str:
    """The status that a mention is scored with: for who did not label them apart, uncertain is affirmed and resolved
    is negated.
    """
    status = mention.assertion
    return _WITHOUT_COLUMN.get(status, status) if status not in statuses else status


def _statuses(labels: Labels, symptom: str) -> tuple[str, ...]:
    return tuple(status for status in labels if symptom in labels[status])


def _indicators(labels: Sequence[Labels], symptoms: Sequence[str]) -> NDArray[np.bool_]:
    """(texts, statuses, symptoms)."""
    return np.array(
        [[[symptom in text_labels[status] for symptom in symptoms] for status in text_labels] for text_labels in labels]
    )


def _elsewhere(
    gold: Sequence[GoldText], mentions: Sequence[Sequence[Mention]], lexicon: Lexicon, symptoms: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Where a labelled symptom was not found: the other concepts whose mentions hold its name ("chest pain")."""
    others: dict[str, set[str]] = {}
    for text, of_text in zip(gold, mentions, strict=True):
        for symptom in symptoms:
            if _statuses(text.labels, symptom) and all(m.concept != symptom for m in of_text):
                forms = set(lexicon.concepts[symptom].forms)
                holding = {
                    m.concept
                    for m in of_text
                    if m.concept not in symptoms and forms & set(text.text[m.start : m.end].lower().split())
                }
                others.setdefault(symptom, set()).update(holding)
    return {symptom: tuple(sorted(concepts)) for symptom, concepts in others.items() if concepts}


def _parents(gold: Sequence[GoldText], found: Sequence[Labels], symptoms: Sequence[str]) -> list[ParentHint]:
    """Concepts beside which people nearly always label a symptom that the rules do not find there."""
    texts: Counter[tuple[str, str]] = Counter()
    labelled: Counter[tuple[str, str]] = Counter()
    for text, of_text in zip(gold, found, strict=True):
        absent = [symptom for symptom in symptoms if not _statuses(of_text, symptom)]
        for concept in frozenset[str]().union(*of_text.values()):
            statuses = _statuses(of_text, concept)
            if _statuses(text.labels, concept):
                continue  # people tell the two apart
            for symptom in absent:
                texts[concept, symptom] += 1
                labelled[concept, symptom] += any(symptom in text.labels[status] for status in statuses)
    return [
        ParentHint(concept, symptom, count, texts[concept, symptom])
        for (concept, symptom), count in labelled.most_common()
        if count >= _LEAST_LABELLED and count >= _LABELLED_SHARE * texts[concept, symptom]
    ]


def _scores(
    labelled: NDArray[np.bool_], found: NDArray[np.bool_], statuses: Sequence[str], symptoms: Sequence[str]
) -> pd.DataFrame:
    """Figures by status and concept and their averages.

    A concept counts once per text, so that its limits are those of a proportion (Wilson; F1 = 2J / (1 + J) of the
    Jaccard index J). Those of the averages are percentiles of a bootstrap over texts, labels of one text being
    dependent; of one without a mistake, which has no spread there, Wilson's limits of the same number of texts.
    """
    counts = np.stack([labelled & found, ~labelled & found, labelled & ~found])  # (tp fp fn, texts, statuses, symptoms)
    totals = counts.sum(axis=1)
    texts = labelled.shape[0]
    weights = np.random.default_rng(0).multinomial(texts, np.full(texts, 1 / texts), size=_RESAMPLES)
    resampled = np.stack([np.tensordot(weights, count.astype(np.float64), axes=1) for count in counts])
    rows = []
    for j, status in enumerate(statuses):
        for k, symptom in enumerate(symptoms):
            tp, fp, fn = (int(n) for n in totals[:, j, k])
            limits = {
                "precision": wilson(tp, tp + fp),
                "recall": wilson(tp, tp + fn),
                "f1": tuple(2 * jaccard / (1 + jaccard) for jaccard in wilson(tp, tp + fp + fn)),
            }
            rows.append(_row(symptom, status, (tp, fp, fn), _figures(totals[:, j, k]), limits))
        for name, average in ((MICRO, _micro), (MACRO, _macro)):
            averages, spread = average(totals[:, j]), average(resampled[:, :, j])
            limits = {
                figure: wilson(n := int(counts[counted, :, j].any(axis=(0, 2)).sum()), n)
                if value == 1
                else _ends(values)
                for (figure, counted), value, values in zip(_COUNTED.items(), averages, spread, strict=True)
            }
            rows.append(_row(name, status, tuple(totals[:, j].sum(axis=-1).tolist()), averages, limits))
    return pd.DataFrame(rows)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    if np.isnan(values).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _row(
    concept: str,
    status: str,
    counts: Sequence[int],
    figures: NDArray[np.float64],
    limits: Mapping[str, Sequence[float]],
) -> dict[str, object]:
    row: dict[str, object] = {"concept": concept, "status": status}
    row |= zip(("tp", "fp", "fn"), counts, strict=True)
    for name, value in zip(_COUNTED, figures, strict=True):
        row |= {name: float(value), f"{name}_low": limits[name][0], f"{name}_high": limits[name][1]}
    return row


def wilson(successes: int, total: int) -> tuple[float, float]:
    """95 % limits of a share (Wilson 1927); NaN where there is nothing to share."""
    if not total:
        return np.nan, np.nan
    z = _NORMAL_QUANTILE
    share, scale = successes / total, 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / scale
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / scale
    # Rounding must not take a limit past what it cannot pass.
    return max(centre - reach, 0.0) if successes else 0.0, min(centre + reach, 1.0) if successes < total else 1.0


def _figures(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Precision, recall and F1 of (3, …) counts of tp, fp and fn."""
    tp, fp, fn = counts.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.stack([tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)])


def _micro(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    return _figures(counts.sum(axis=-1))


def _macro(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Means over the concepts for which a figure is defined."""
    figures = _figures(counts)
    defined = (~np.isnan(figures)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = np.nansum(figures, axis=-1) / defined
    return means
