"""Synthetic notes in MIMIC-III's style and layout, for a demonstration that needs no data of anyone's.

Most sentences name several symptoms and affirm one, so that words alone don't tell which: the others are denied,
a relative's, or only to be watched for.
"""

import csv
import gzip
import io
import textwrap
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from clinical_notes.units import AFFIRMED, HYPOTHETICAL, NEGATED, OTHER, RESOLVED

DEFAULT_PATIENTS = 75
"""Default number of patients: enough for about 500 training sentences."""

COLUMNS = (
    "ROW_ID",
    "SUBJECT_ID",
    "HADM_ID",
    "CHARTDATE",
    "CHARTTIME",
    "STORETIME",
    "CATEGORY",
    "DESCRIPTION",
    "CGID",
    "ISERROR",
    "TEXT",
)

_FORMS: dict[str, tuple[str, ...]] = {
    "pain": ("pain", "discomfort", "soreness", "aching", "tenderness", "incisional pain", "flank pain"),
    "edema": ("edema", "swelling", "oedema", "pedal edema", "leg swelling", "pitting edema", "puffiness"),
    "fever": ("fever", "fevers", "pyrexia", "temperature spikes", "low-grade fever", "hyperthermia"),
    "bleeding": ("bleeding", "oozing", "hemorrhage", "melena", "epistaxis", "blood loss", "hematochezia"),
    "cough": ("cough", "coughing", "productive cough", "dry cough", "hacking cough"),
    "dyspnea": ("shortness of breath", "dyspnea", "SOB", "orthopnea"),
    "nausea": ("nausea", "queasiness"),
    "headache": ("headache", "headaches"),
    "rash": ("rash", "hives"),
    "dizziness": ("dizziness", "lightheadedness", "vertigo"),
    "fatigue": ("fatigue", "malaise"),
    "chills": ("chills", "rigors"),
}
_CLASSES = ("pain", "edema", "fever", "bleeding", "cough")
_CLASS_SHARES = (0.30, 0.22, 0.20, 0.16, 0.12)
_DISTRACTORS = ("dyspnea", "nausea", "headache", "rash", "dizziness", "fatigue", "chills")

# What the context tells where the symptom's name is hidden; a hint is sometimes another symptom's.
_HINTS: dict[str, tuple[str, ...]] = {
    "pain": ("over the left knee", "at the incision site", "rated 7 out of 10", "after the fall", "treated with oxycodone",
             "relieved by morphine", "worse with movement", "in the lower back", "despite ibuprofen"),
    "edema": ("of both ankles", "up to the shins", "after missing furosemide", "with 4 kg over dry weight", "on both feet",
              "better with leg elevation", "since the diuretic was held", "of the right calf", "around the eyes"),
    "fever": ("to 101.3", "overnight with cultures sent", "treated with acetaminophen", "since the line was placed",
              "to 38.9 on vancomycin", "with a white count of 14", "every evening", "for which cefepime was given"),
    "bleeding": ("from the surgical wound", "with a hematocrit of 24", "on warfarin with an INR of 5",
                 "requiring two units of red cells", "from the left nostril", "per rectum", "around the catheter",
                 "after heparin was started"),
    "cough": ("with yellow sputum", "worse at night", "since the upper respiratory infection", "on lisinopril",
              "treated with benzonatate", "with clear phlegm in the morning", "when lying flat", "for three weeks"),
}  # fmt: skip
_NEUTRAL = ("since admission", "this morning", "for two days", "overnight", "on arrival", "today", "at rest", "after dinner",
            "per the family", "on the floor", "in the ED", "yesterday", "over the past week", "on exam", "")  # fmt: skip
_WHO = ("Pt", "Patient", "The patient", "He", "She", "This [**Age over 90**] year old", "[**Known lastname 4418**]",
        "Mr. [**Known lastname 512**]", "Mrs. [**Last Name (Titles) 2210**]")  # fmt: skip
_DENY = ("denies", "denied", "denies any", "continues to deny", "denies recent", "has no", "has had no", "is without",
         "reports no", "does not have any", "never had")  # fmt: skip
_REPORT = ("reports", "complains of", "has", "c/o", "notes", "describes", "presents with", "developed", "endorses")
_PERSIST = ("persists", "continues", "has worsened", "is still present", "recurred", "remains the main problem",
            "has increased", "began")  # fmt: skip
_ADJECTIVES = ("new", "recent", "mild", "significant", "intermittent", "occasional", "severe", "further", "obvious",
               "some", "associated", "episodic", "marked", "diffuse")  # fmt: skip
"""Adjectives for affirmed and denied symptoms alike, so that a pair of neighbouring words tells little."""
_BUT = ("but", "however", "although", "though", "yet")
_RELATIVE = ("Mother", "Her father", "His brother", "Her sister", "His grandmother", "Her aunt")
_FILLER = ("Vital signs stable.", "Tolerating a regular diet.", "Plan discussed with the team.", "IV fluids at 75 cc/hr.",
           "Labs pending.", "Seen by physical therapy.", "Foley in place with good urine output.", "Ambulated in the hallway.",
           "Med list reviewed with [**First Name8 (NamePattern2) 77**].", "Continue home meds.", "Slept well.",
           "Lungs examined by the team.", "s/p CABG x3 on [**2151-7-16**].", "Transferred from [**Hospital1 18**].",
           "Plan of care reviewed with family at 14:30.", "Wt 82.4 kg.", "Full code.")  # fmt: skip
_CATEGORIES = ("Nursing", "Physician ", "Discharge summary", "Radiology", "Nursing/other")
_CATEGORY_SHARES = (0.35, 0.25, 0.15, 0.05, 0.2)

_WRONG_SHARE = 0.03
_TYPO_SHARE = 0.01
_WIDTH = 70


@dataclass(frozen=True)
class Truth:
    """One mention as it was meant, in the order of the text."""

    concept: str
    assertion: str


@dataclass(frozen=True)
class SyntheticNote:
    category: str
    text: str
    mentions: tuple[Truth, ...]


class _Writer:
    """Writes sentences and keeps what it meant by them."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._random = generator
        self.mentions: list[Truth] = []

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self._random.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self._random.random() < probability)

    def symptom(self) -> str:
        return str(self._random.choice(_CLASSES, p=_CLASS_SHARES))

    def others(self, concept: str, most: int) -> list[str]:
        """One to ``most`` further symptoms, usually of the classes."""
        classes = [name for name in _CLASSES if name != concept]
        names = [self.pick(classes) if self.chance(0.8) else self.pick(_DISTRACTORS) for _ in range(most)]
        return list(dict.fromkeys(names))[: int(self._random.integers(1, most + 1))]

    def name(self, concept: str, assertion: str) -> str:
        self.mentions.append(Truth(concept, assertion))
        forms = _FORMS[concept]
        form = forms[0] if self.chance(0.4) else self.pick(forms)
        return f"{self.pick(_ADJECTIVES)} {form}" if self.chance(0.65) else form

    def listed(self, concepts: Sequence[str], assertion: str) -> str:
        names = [self.name(concept, assertion) for concept in concepts]
        if len(names) == 1:
            return names[0]
        return ", ".join(names[:-1]) + self.pick((" or ", ", or ", " and ")) + names[-1]

    def context(self, concept: str) -> str:
        if self.chance(0.4):
            return self.pick(_HINTS[concept])
        if self.chance(0.2):
            return self.pick(_HINTS[self.pick(_CLASSES)])
        return self.pick(_NEUTRAL)


def _denial_then_complaint(w: _Writer, concept: str) -> str:
    who, deny = w.pick(_WHO), w.pick(_DENY)
    denied = w.listed(w.others(concept, 3), NEGATED)
    where = w.pick(_NEUTRAL)
    return f"{who} {deny} {denied} {where}, {w.pick(_BUT)} {w.pick(_REPORT)} {w.name(concept, AFFIRMED)} {w.context(concept)}."


def _complaint_without(w: _Writer, concept: str) -> str:
    named = w.name(concept, AFFIRMED)
    context = w.context(concept)
    cue = w.pick(
        ("without", "without any", "not accompanied by", "with no", "in the absence of", "and denies", "and has no")
    )
    return f"{w.pick(_WHO)} {w.pick(_REPORT)} {named} {context} {cue} {w.listed(w.others(concept, 3), NEGATED)}."


def _complaint_semicolon(w: _Writer, concept: str) -> str:
    named = w.name(concept, AFFIRMED)
    end = w.pick(("no", "no further", "no evidence of", "no sign of", "negative for", "denies"))
    return f"{named.capitalize()} {w.context(concept)} {w.pick(_PERSIST)}; {end} {w.listed(w.others(concept, 2), NEGATED)}."


def _negative_first(w: _Writer, concept: str) -> str:
    start = w.pick(("No", "There was no", "No further", "No evidence of", "Exam shows no", "Negative for"))
    denied = w.listed(w.others(concept, 2), NEGATED)
    bridge = w.pick(("however", "but", "although", "though"))
    return f"{start} {denied} {w.pick(_NEUTRAL)}, {bridge} {w.name(concept, AFFIRMED)} {w.context(concept)} {w.pick(_PERSIST)}."


def _resolved(w: _Writer, concept: str) -> str:
    gone = w.name(w.others(concept, 1)[0], NEGATED)
    cue = w.pick(("has resolved", "has completely resolved", "has subsided", "was ruled out", "has now resolved"))
    if cue != "was ruled out":
        w.mentions[-1] = replace(w.mentions[-1], assertion=RESOLVED)
    return f"{gone.capitalize()} {w.pick(_NEUTRAL)} {cue}, but {w.name(concept, AFFIRMED)} {w.context(concept)} {w.pick(_PERSIST)}."


def _relatives(w: _Writer, concept: str) -> str:
    named = w.name(w.others(concept, 1)[0], OTHER)
    return f"{w.pick(_RELATIVE)} had {named} last month; {w.pick(_WHO)} {w.pick(_REPORT)} {w.name(concept, AFFIRMED)} {w.context(concept)}."


def _watched(w: _Writer, concept: str) -> str:
    named = w.name(concept, AFFIRMED)
    cue = w.pick(("monitor for", "call for", "will watch for", "at risk for", "return if there is"))
    return f"{w.pick(_WHO)} {w.pick(_REPORT)} {named} {w.context(concept)}; {cue} {w.listed(w.others(concept, 2), HYPOTHETICAL)}."


def _plain(w: _Writer, concept: str) -> str:
    return f"{w.pick(_WHO)} {w.pick(_REPORT)} {w.name(concept, AFFIRMED)} {w.context(concept)}."


def _several(w: _Writer, concept: str) -> str:
    named = w.listed([concept, *w.others(concept, 2)], AFFIRMED)
    return f"{w.pick(_WHO)} {w.pick(_REPORT)} {named} {w.pick(_NEUTRAL)}."


_TEMPLATES = (_denial_then_complaint, _complaint_without, _complaint_semicolon, _negative_first, _resolved, _relatives,
              _watched, _plain, _several)  # fmt: skip
_TEMPLATE_SHARES = (0.12, 0.12, 0.08, 0.1, 0.09, 0.11, 0.12, 0.04, 0.22)


def _sentence(w: _Writer, generator: np.random.Generator, usual: str) -> str:
    concept = usual if w.chance(0.35) else w.symptom()
    template = _TEMPLATES[int(generator.choice(len(_TEMPLATES), p=_TEMPLATE_SHARES))]
    return " ".join(template(w, concept).replace(" ,", ",").replace(" .", ".").replace(" ;", ";").split())


def _note(generator: np.random.Generator, category: str, usual: str) -> SyntheticNote:
    w = _Writer(generator)
    sections: list[tuple[str, list[str]]] = [("HISTORY OF PRESENT ILLNESS", [])]
    for _ in range(int(generator.integers(1, 4))):
        sections[0][1].append(_sentence(w, generator, usual))
        if w.chance(0.6):
            sections[0][1].append(w.pick(_FILLER))
    if w.chance(0.3):
        denied = w.listed(w.others("", 3), NEGATED)
        sections.append(("REVIEW OF SYSTEMS", [f"Negative for {denied}."]))
    if w.chance(0.2):
        sections.append(("FAMILY HISTORY", [f"Notable for {w.name(w.symptom(), OTHER)} in several relatives."]))
    sections.append(("ASSESSMENT AND PLAN", []))
    for _ in range(int(generator.integers(0, 3))):
        sections[-1][1].append(_sentence(w, generator, usual))
    sections[-1][1].append(w.pick(_FILLER))
    if w.chance(0.3):
        sections[-1][1].append(f"If {w.name(w.symptom(), HYPOTHETICAL)} occurs, call the team.")
    head = f"[**2151-{generator.integers(1, 13)}-{generator.integers(1, 29)}**] {generator.integers(0, 24)}:{generator.integers(10, 60)}"
    parts = [f"{title}:\n{textwrap.fill(_misspelt(w, ' '.join(lines)), _WIDTH)}" for title, lines in sections if lines]
    return SyntheticNote(category, "\n\n".join([head, *parts]) + "\n", tuple(w.mentions))


_PROTECTED = frozenset(word for forms in _FORMS.values() for form in forms for word in form.lower().split())


def _misspelt(w: _Writer, text: str) -> str:
    """Swap two letters of a long word now and then; never in a symptom's name, nor in a word that decides negation."""
    words = text.split(" ")
    for i, word in enumerate(words):
        if len(word) > 7 and word.isalpha() and word.islower() and word not in _PROTECTED and w.chance(_TYPO_SHARE):
            words[i] = word[:3] + word[4] + word[3] + word[5:]
    return " ".join(words)


def synthetic_notes(patients: int, seed: int) -> Iterator[tuple[int, SyntheticNote]]:
    """Patients (numbers from 10001) with two to six notes each."""
    for patient in range(patients):
        generator = np.random.default_rng((seed, patient))
        usual = str(generator.choice(_CLASSES, p=_CLASS_SHARES))
        for _ in range(int(generator.integers(2, 7))):
            category = str(generator.choice(_CATEGORIES, p=_CATEGORY_SHARES))
            yield 10_001 + patient, _note(generator, category, usual)


def write_synthetic_notes(path: Path, *, patients: int, seed: int) -> int:
    """Write a NOTEEVENTS table (.csv or .csv.gz), whole or not at all; returns the number of notes.

    The same patients and seed give the same bytes. A few rows are marked ISERROR = 1, as in MIMIC-III.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed:
                    count = _write(packed, patients, seed)
            else:
                count = _write(raw, patients, seed)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(raw: IO[bytes] | gzip.GzipFile, patients: int, seed: int) -> int:
    errors = np.random.default_rng((seed, 0xE))
    count = 0
    stream = io.TextIOWrapper(raw, encoding="utf-8", newline="")  # type: ignore[type-var]
    # Text is quoted and numbers are bare, as in MIMIC-III.
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(COLUMNS)
    for patient, note in synthetic_notes(patients, seed):
        count += 1
        day = f"2151-{1 + count % 12:02d}-{1 + count % 28:02d}"
        is_error = 1 if errors.random() < _WRONG_SHARE else None
        row = (count, patient, 100_000 + patient, day, f"{day} 08:00:00", f"{day} 09:00:00")
        writer.writerow((*row, note.category, "Report", 15_000 + count % 40, is_error, note.text))
    stream.flush()
    stream.detach()  # leaves the file below open for its owner
    return count
