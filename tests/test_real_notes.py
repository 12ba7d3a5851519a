"""The labeller on real reports, where they are available."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.examples import make_examples
from clinical_notes.lexicon import load_lexicon
from clinical_notes.notes import read_notes
from run_folder.settings import LabelSettings

REPORTS = Path(__file__).parents[2] / "shared" / "data" / "NOTEEVENTS_mtsamples.csv.gz"

pytestmark = pytest.mark.skipif(not REPORTS.exists(), reason=f"the real reports are not here: {REPORTS}")


@pytest.fixture(scope="module")
def units() -> pa.Table:
    return pa.concat_tables(annotate_notes(read_notes(REPORTS), Annotator(load_lexicon(), "sentence"), workers=2))


def test_mentions_and_their_negation_are_as_frequent_as_a_simple_count_says(units: pa.Table) -> None:
    mentions = [m for found in units["mentions"].to_pylist() for m in found]
    counts = Counter(m["concept"] for m in mentions)
    # 841 forms of bleeding, and 254 of hematoma, hematuria, hemoptysis and hematemesis, which are bleeding too.
    for concept, expected in {"pain": 2184, "bleeding": 841 + 254, "edema": 642, "cough": 204, "nausea": 250}.items():
        assert counts[concept] == pytest.approx(expected, rel=0.15)
    negated = sum(m["assertion"] == "negated" for m in mentions)
    assert 0.25 < negated / len(mentions) < 0.45


def test_the_reports_make_a_data_set(units: pa.Table) -> None:
    examples = make_examples(units, LabelSettings(task="multiclass"))
    assert examples.symptoms[0] == "pain"
    assert sum(map(len, examples.splits.values())) > 1500
