"""Options that are not, or have values that cannot be."""

import pytest

from tests.inputs.said import Row, check, table
from tune_jobs.preparing import create_run

NEAR = (
    Row("launch --trails 3", ("no option '--trails'", "did you mean '--trials'?")),
    Row("launch --trails=3", ("no option '--trails'", "did you mean '--trials'?")),
    Row("launch --trial 3", ("--trial is an option of export, not of launch; did you mean '--trials'?",)),
    Row("launch --strategy baseline", ("is an option of export, not of launch; did you mean '--strategies'?",)),
    Row("launch --strategy=baseline", ("is an option of export, not of launch; did you mean '--strategies'?",)),
    Row("export r --to x --strategies a", ("of launch, not of export; did you mean '--strategy'?",)),
    Row("export r --to x --trials 3", ("not of export; did you mean '--trial'?",)),
    Row("audit-labels g.tsv --symptom a", ("no option '--symptom'; did you mean '--symptoms'?",)),
    Row("launch --patient 3", ("no option '--patient'", "did you mean '--patients'?")),
    Row("launch --qqqqqqqq", ("no option '--qqqqqqqq'", "symptune launch --help")),
    Row("launch -x", ("no option '-x'",)),
    Row("resume r --strategies baseline", ("--strategies is an option of launch, not of resume; see `symptune",)),
    Row("launch --dry-run", ("--dry-run is an option of resume, not of launch",)),
    Row("status r --top 2", ("--top is an option of launch, resume, evaluate, leaderboard, not of status",)),
    Row("report r --out x.html", ("--out is an option of predict, audit-labels, not of report",)),
    Row("predict m f --storage runs", ("--storage is an option of", "not of predict")),
    Row("lunch", ("COMMAND", "'lunch'", "did you mean 'launch'?")),
    Row("leader-board r", ("'leader-board'", "did you mean 'leaderboard'?")),
    Row("", ("COMMAND", "launch, resume")),
    Row((), ("required: COMMAND",)),
    Row("--trials 3 launch", ("COMMAND",)),
    Row("status", ("required: RUN", "symptune status --help")),
    Row("status r s", ("'s' is one argument too many",)),
    Row("launch notes.csv", ("'notes.csv' is one argument too many",)),
    Row("export r", ("required: --to",)),
    Row("predict m", ("required: FILE",)),
    Row("launch --trials", ("--trials: expected one argument",)),
    Row("launch --unit sentance", ("--unit", "did you mean 'sentence'?")),
    Row("launch --mentions hide", ("--mentions", "there are keep, mask")),
    Row("launch --precision float16", ("--precision", "did you mean 'bfloat16'?")),
    Row("launch --log-level warn", ("--log-level", "did you mean 'warning'?")),
    Row("launch --protocol Paper", ("--protocol", "did you mean 'paper'?")),
    Row("launch --class-weights balance", ("--class-weights", "did you mean 'balanced'?")),
    Row("launch --strategies basline", ("--strategies", "did you mean 'baseline'?")),
    Row("launch --strategies baseline;pruning", ("--strategies", "unknown strategy 'baseline;pruning'")),
    Row("launch --strategies ,", ("--strategies", "name at least one")),
    Row("launch --strategies pruning", ("--strategies", "add baseline")),
    Row("launch --symptoms fevr,pain", ("--symptoms", "did you mean 'fever'?")),
    Row("launch --symptoms FEVER,pain", ("--symptoms", "no 'FEVER'")),
    Row("launch --symptoms ,", ("--symptoms", "at least 2")),
    Row("launch --symptoms pain,pain", ("--symptoms", "at least 2")),
    Row("launch --symptoms 1", ("--symptoms", "at least 2", "got 1")),
    Row("launch --symptoms -3", ("--symptoms", "at least 2", "got -3")),
    Row(("launch", "--symptoms", "²,pain"), ("--symptoms", "no '²'")),
    Row(("launch", "--symptoms", "9" * 5000), ("--symptoms", "whole number")),
    Row("launch --absorb pain", ("--absorb", "'pain' is not of the form")),
    Row("launch --absorb pain=", ("--absorb",)),
    Row("launch --absorb =pain", ("--absorb",)),
    Row("launch --absorb pain=chest_pain", ("--absorb", "no 'chest_pain'", "did you mean 'chest pain'?")),
)

TWICE = (
    Row("launch --trials 3 --trials 4", ("--trials: given as 3 and as 4", "give it once")),
    Row("launch --notes a.csv --notes b.csv", ("--notes: a.csv is not a file",)),  # it may be given again
    Row("launch --storage a --storage=b", ("--storage: given as 'a' and as 'b'",)),
    Row("launch --seed 0 --seed 1", ("--seed: given as 0 and as 1",)),
    Row("launch --task multi-label", ("--task", "did you mean 'multilabel'?")),
    Row("launch --task multilabel --unit note", ("--unit", "sentence by sentence")),
    Row("launch --task multilabel --balance", ("--balance", "no classes to cut")),
    Row("launch --task multilabel --symptoms 0", ("--symptoms", "at least 1", "got 0")),
    Row("launch --task multilabel --negatives 0", ("--negatives", "must be in (0, 1000]")),
    Row("launch --task multilabel --sensitivity 2", ("--sensitivity", "(0, 1]")),
    Row("launch --negatives 3", ("--negatives", "multilabel tasks alone")),
    Row("launch --sensitivity .9", ("--sensitivity", "multilabel tasks alone")),
    Row("launch --balance --no-balance", ("--balance", "give it once")),
    Row("launch --no-reduce-range --reduce-range", ("--reduce-range", "give it once")),
    Row("export r --to x --strategy baseline --trial t", ("--trial", "not allowed with argument --strategy")),
    Row("launch --notes n.csv --patients 5", ("--patients", "leave it out where --notes is given"),
        {"n.csv": "TEXT,SUBJECT_ID\nfever,1\n"}),
    Row("launch --hold-back 1 --mentions mask", ("--hold-back", "mentions are masked")),
    Row("launch --warm-start a --name a", ("--warm-start", "a is the run itself")),
    Row("audit-labels g.tsv --export-sample 3", ("GOLD", "give either this file, or --export-sample")),
    Row("audit-labels", ("GOLD", "give either this file, or --export-sample")),
    Row("audit-labels g.tsv --notes n.csv", ("--notes", "is for --export-sample")),
    Row("audit-labels g.tsv --seed 2", ("--seed", "is for --export-sample")),
    Row("audit-labels g.tsv --key k.tsv", ("--key", "is for --export-sample")),
    Row("audit-labels --export-sample 5", ("--notes", "needed with --export-sample")),
    Row("predict m same.csv --out same.csv", ("--out", "is the file to be read"), {"same.csv": "TEXT\nx\n"}),
)  # fmt: skip

_WHOLE = (
    ("patients", "at least 1"), ("window-chars", "at least 1"), ("layers", "at least 1"), ("max-length", "at least 8"),
    ("trials", "at least 1"), ("epochs", "at least 1"), ("max-concurrent", "more than 0"), ("keep", "more than 0"),
    ("seeds", "at least 1"), ("top", "more than 0"), ("smallest-group", "at least 1"),
)  # fmt: skip
"""Options of launch that are whole numbers of which 0 is too small."""
_PARTS = ("sample", "time-budget", "epoch-limit", "margin")
"""Options of launch that must be more than 0."""

NUMBERS = (
    *(Row(f"launch --{name} 0", (f"--{name}: must be {least}, got 0",)) for name, least in _WHOLE),
    *(Row(f"launch --{name} -3", (f"--{name}: must be {least}, got -3",)) for name, least in _WHOLE),
    *(Row(f"launch --{name} 1.5", (f"--{name}: give a whole number, not '1.5'",)) for name, _ in _WHOLE),
    *(Row(f"launch --{name} 0", (f"--{name}: must be ", "got 0")) for name in _PARTS),
    *(Row(f"launch --{name} -0.5", (f"--{name}: must be ", "got -0.5")) for name in _PARTS),
    *(Row(f"launch --{name} nan", (f"--{name}: give a number, not 'nan'",)) for name in _PARTS),
    *(Row(f"launch --{name} inf", (f"--{name}: give a number, not 'inf'",)) for name in _PARTS),
    *(Row(f"launch --{name} 1e300", (f"--{name}: must be in (0, ", "got 1e+300")) for name in _PARTS),
    Row("launch --margin 5", ("--margin: must be in (0, 1], got 5",)),
    Row("launch --sample 1.5", ("--sample: must be in (0, 1], got 1.5",)),
    Row("launch --seed -1", ("--seed: must be at least 0, got -1",)),
    Row("launch --seed 4294967296", ("--seed: must be at most 4294967295, got 4294967296",)),
    Row("launch --seed 0x10", ("--seed: give a whole number, not '0x10'",)),
    Row(("launch", "--seed", "9" * 5000), ("--seed: give a whole number, not '999", "...")),
    Row(("launch", "--trials", "9" * 4000), ("--trials", "is too large")),
    Row("launch --trials 100001", ("--trials: must be at most 100000",)),
    Row("launch --epochs 1000000000", ("--epochs: must be at most 10000",)),
    Row("launch --patients 1000000000", ("--patients: must be at most 1000000",)),
    Row("launch --max-length 9999", ("--max-length", "9999")),
    Row("launch --layers 99", ("--layers", "got 99")),
    Row("launch --reduction-factor 1", ("--reduction-factor: must be 0, or at least 2, got 1",)),
    Row("launch --reduction-factor -1", ("--reduction-factor: must be 0, or at least 2, got -1",)),
    Row("launch --hold-back -1", ("--hold-back: must be at least 0, got -1",)),
    Row("launch --hold-back 99999", ("--hold-back: must be at most 1000",)),
    Row("launch --cpus-per-trial 0", ("--cpus-per-trial: must be at least 0.01, got 0",)),
    Row("launch --cpus-per-trial 1e-9", ("--cpus-per-trial: must be at least 0.01, got 1e-09",)),
    Row("launch --cpus-per-trial -1", ("--cpus-per-trial: must be at least 0.01",)),
    Row("launch --cpus-per-trial nan", ("--cpus-per-trial: give a number or auto, not 'nan'",)),
    Row("launch --cpus-per-trial inf", ("--cpus-per-trial: give a number or auto, not 'inf'",)),
    Row("launch --cpus-per-trial 1e6", ("--cpus-per-trial: this machine has",)),
    Row("launch --cpus-per-trial Auto", ("--cpus-per-trial: give a number or auto, not 'Auto'",)),
    Row("launch --gpus-per-trial 2", ("--gpus-per-trial: must be 0, or at most 1, got 2",)),
    Row("launch --gpus-per-trial 1e-9", ("--gpus-per-trial: must be 0, or at least 0.01, got 1e-09",)),
    Row("launch --gpus-per-trial -1", ("--gpus-per-trial: must be 0, or at least 0.01, got -1",)),
    Row("launch --gpus-per-trial nan", ("--gpus-per-trial: give a number or auto",)),
    Row("launch --split 0.7,0.3", ("--split: give three fractions",)),
    Row("launch --split 0.7,nan,0.3", ("--split: give three fractions",)),
    Row("launch --split 1,0,0", ("--split",)),
    Row("launch --split 1.2,-0.1,-0.1", ("--split",)),
    Row("launch --split 0.5,0.1,0.1", ("--split", "add up to 1")),
    Row("launch --split 0.34,0.33,0.33", ("--split", "steps")),
    Row("resume r --trials 0", ("--trials: must be at least 1",)),
    Row("resume r --epochs -1", ("--epochs: must be at least 1",)),
    Row("resume r --cpus-per-trial 1e-9", ("--cpus-per-trial",)),
    Row("evaluate r --seeds 0", ("--seeds: must be at least 1",)),
    Row("evaluate r --margin 5", ("--margin",)),
    Row("leaderboard r --margin 5", ("--margin: must be in (0, 1], got 5",)),
    Row("leaderboard r --margin nan", ("--margin: give a number",)),
    Row("leaderboard r --top 0", ("--top: must be more than 0, got 0",)),
    Row("leaderboard r --top -1", ("--top: must be more than 0, got -1",)),
    Row("predict m f.csv --threads 0", ("--threads: must be at least 1, got 0",)),
    Row("predict m f.csv --threads 1000000", ("--threads: must be at most 1024",)),
    Row("predict m f.csv --threads two", ("--threads: give a whole number, not 'two'",)),
    Row("dashboard r --port 0", ("--port: must be at least 1, got 0",)),
    Row("dashboard r --port 70000", ("--port: must be at most 65535, got 70000",)),
    Row("dashboard r --tensorboard-port -1", ("--tensorboard-port: must be at least 1",)),
    Row("audit-labels --export-sample 0 --notes n --out s.tsv", ("--export-sample: must be at least 1, got 0",)),
    Row("audit-labels --export-sample 3 --seed -1 --notes n --out s.tsv", ("--seed: must be at least 0, got -1",)),
    Row("audit-labels --export-sample 3 --seed 4294967296 --notes n --out s.tsv", ("--seed: must be at most",)),
)


@pytest.fixture(autouse=True)
def _notes_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small notes are read even where an option is wrong, for what else there is to say; that takes seconds."""
    monkeypatch.setattr(create_run, "notes_are_small", lambda notes: False)


@table(*NEAR, *TWICE, *NUMBERS)
def test_an_option_that_cannot_be_is_told_in_one_line(row: Row, capfd: pytest.CaptureFixture[str]) -> None:
    check(row, capfd)
