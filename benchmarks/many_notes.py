"""A NOTEEVENTS table of invented notes with as many rows, and rows as long, as MIMIC-III's.

    python -m benchmarks.many_notes --notes 2083180 NOTEEVENTS.csv.gz

How many notes each category has is MIMIC-III v1.4's own count. How long they are is not published in this detail:
lengths are log-normal, with means near those reported of MIMIC's notes, so that all of it is about 4 GB, as the real
file is. A note is a stretch of one long text of sentences without a symptom and, among them, the demonstration's
sentences with symptoms, as often as real reports have such (1.4 per 1,000 characters in MTSamples' transcriptions).
"""

import argparse
import csv
import gzip
import io
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clinical_notes.synthetic import COLUMNS, synthetic_notes

MIMIC_NOTES, MIMIC_PATIENTS = 2_083_180, 46_146

CATEGORIES: dict[str, tuple[int, int, float]] = {
    "Nursing/other": (822_497, 900, 0.6),
    "Radiology": (522_279, 1_700, 0.6),
    "Nursing": (223_556, 1_800, 0.6),
    "ECG": (209_051, 200, 0.4),
    "Physician ": (141_624, 7_500, 0.5),
    "Discharge summary": (59_652, 9_700, 0.5),
    "Echo": (45_794, 2_700, 0.3),
    "Respiratory ": (31_739, 1_400, 0.4),
    "Nutrition": (9_418, 2_000, 0.5),
    "General": (8_301, 1_400, 0.8),
    "Rehab Services": (5_431, 2_100, 0.4),
    "Social Work": (2_670, 1_700, 0.6),
    "Case Management ": (967, 1_300, 0.5),
    "Pharmacy": (103, 1_600, 0.7),
    "Consult": (98, 6_000, 0.6),
}
"""By category: MIMIC-III's count of notes, then their lengths' approximate mean and their logarithms' deviation."""

_SYMPTOM_SHARE = 0.14
"""Share of sentences that mention a symptom, so that 1.4 in 1,000 characters mention one."""
_PARAGRAPHS = 4_000
_LONGEST = 60_000
_ROWS_PER_DRAW = 10_000
_WIDTH = 70

_TITLES = (
    "FINDINGS",
    "IMPRESSION",
    "ASSESSMENT",
    "PLAN",
    "HOSPITAL COURSE",
    "Neuro",
    "Resp",
    "GI/GU",
    "Social",
    "Labs",
)
_PLAIN = (
    "The endotracheal tube ends {} cm above the carina.",
    "Heart size is at the upper limit of normal, as on [**2151-{}-4**].",
    "Sinus rhythm at a rate of {} per minute with a leftward axis.",
    "Compared to the previous tracing the QTc interval is {} msec longer.",
    "Pt received on CMV {} x 14, weaned to PSV over the shift.",
    "Suctioned q{}h for small amounts of thick white secretions.",
    "K repleted with {} meq, recheck with the next labs.",
    "Left ventricular ejection fraction is estimated at {} percent.",
    "Right IJ line in good position, {} ml flushed with ease.",
    "Metoprolol {} mg po bid, lisinopril held for the creatinine.",
    "Family at the bedside, updated by Dr. [**Last Name (STitle) {}**].",
    "UOP {} cc/hr via foley, clear and yellow.",
    "Abd soft with bowel sounds in all {} quadrants.",
    "MAE to command, PERRL at {} mm, follows all directions.",
    "Tube feeds of Promote with fiber advanced to {} cc/hr.",
    "Hct stable at {}.4 after the second unit.",
    "Turned and repositioned every {} hours, skin intact over the coccyx.",
    "Glucose {} covered per the sliding scale.",
    "Continue the present course of vancomycin, level {} this morning.",
    "The patient was extubated on day {} and transferred to the floor.",
    "Mild mitral regurgitation and {} mm of septal thickness.",
    "Infant in servo isolette at {}.6 degrees, swaddled, with stable temp.",
    "Weight {} grams, up from yesterday, on 140 cc/kg/day of PE24.",
    "Case manager [**First Name8 (NamePattern2) {}**] will follow for rehab placement.",
)


def text_to_cut(random: np.random.Generator) -> tuple[str, list[int]]:
    """The text that notes are cut from, and where its paragraphs start."""
    with_symptoms = [
        sentence
        for _, note in synthetic_notes(600, seed=int(random.integers(2**31)))
        for paragraph in note.text.split("\n\n")[1:]
        for sentence in re.split(r"(?<=\.) ", " ".join(paragraph.partition(":\n")[2].split()))
    ]
    paragraphs = []
    for _ in range(_PARAGRAPHS):
        lines = [
            with_symptoms[int(random.integers(len(with_symptoms)))]
            if random.random() < _SYMPTOM_SHARE
            else _PLAIN[int(random.integers(len(_PLAIN)))].format(random.integers(2, 200))
            for _ in range(int(random.integers(2, 9)))
        ]
        paragraph = textwrap.fill(" ".join(lines), _WIDTH)
        titled = random.random() < 0.5
        paragraphs.append(f"{_TITLES[int(random.integers(len(_TITLES)))]}:\n{paragraph}" if titled else paragraph)
    starts = np.cumsum([0, *(len(paragraph) + 2 for paragraph in paragraphs)]).tolist()
    text = "\n\n".join(paragraphs)
    return text + "\n\n" + text[:_LONGEST], starts[:-1]


def many_notes(notes: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Patient, category and text of each note, always the same by number and seed, in constant memory."""
    random = np.random.default_rng(seed)
    text, paragraphs = text_to_cut(random)
    names = list(CATEGORIES)
    counts, means, deviations = (np.array(column, dtype=float) for column in zip(*CATEGORIES.values(), strict=True))
    patients = max(notes * MIMIC_PATIENTS // MIMIC_NOTES, 10)
    for first in range(0, notes, _ROWS_PER_DRAW):
        rows = min(_ROWS_PER_DRAW, notes - first)
        kinds = random.choice(len(names), rows, p=counts / counts.sum())
        locations = np.log(means[kinds]) - deviations[kinds] ** 2 / 2
        lengths = np.clip(random.lognormal(locations, deviations[kinds]), 20, _LONGEST).astype(int)
        starts = random.choice(paragraphs, rows)
        of = random.integers(10_001, 10_001 + patients, rows)
        for patient, kind, start, length in zip(
            of.tolist(), kinds.tolist(), starts.tolist(), lengths.tolist(), strict=True
        ):
            yield patient, names[kind], text[start : start + length]


def write_many_notes(path: Path, notes: int, seed: int = 0) -> None:
    """Write the table as .csv.gz, whole or not at all; the same bytes by number of notes and seed."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as packed:
            stream = io.TextIOWrapper(packed, encoding="utf-8", newline="")
            writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row, (patient, category, text) in enumerate(many_notes(notes, seed), 1):
                day = f"2151-{1 + row % 12:02d}-{1 + row % 28:02d}"
                time = f"{day} 08:00:00"
                writer.writerow(
                    (
                        row,
                        patient,
                        100_000 + patient,
                        day,
                        time,
                        time,
                        category,
                        "Report",
                        15_000 + row % 40,
                        None,
                        text,
                    )
                )
            stream.flush()
            stream.detach()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="to write, .csv.gz")
    parser.add_argument("--notes", type=int, default=MIMIC_NOTES, help="rows (default: MIMIC-III's 2,083,180)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    write_many_notes(options.file, options.notes, options.seed)


if __name__ == "__main__":
    main()
