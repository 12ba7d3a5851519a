"""What a user does with an installed package: python .ci/use_wheel.py VENV"""

import sys
from pathlib import Path

import symptune

if not Path(symptune.__file__).is_relative_to(sys.argv[1]):
    sys.exit(f"symptune was imported from {symptune.__file__}")
run = symptune.search(
    name="wheel", strategies=["baseline"], trials=1, epochs=1, seeds=1, patients=60, progress=False
)  # reads the lexicon and the embedded encoder's space, and writes the report with its style and script
page = (Path(run.path) / "results" / "report.html").read_text()
assert "<style" in page, "the report has no style"
assert "<script" in page, "the report has no script"
assert len(run.leaderboard())
labels = run.export(run.best("baseline"), "model").predict(["Patient reports severe pain.", "No fever."])
assert labels[list(run.symptoms)].isin(["yes", "no"]).all(axis=None), labels
print(f"symptune {symptune.__version__} from the wheel searched, exported and predicted")
