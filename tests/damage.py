"""A finished run, damaged in many ways, and every command on each: ``python -m tests.damage``.

A command must end with a line that says what is wrong, or with a warning, or with what it says of the undamaged run.
``--run FOLDER`` damages copies of a run that there is; ``--only WORDS`` tries the damages whose names have these words.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow.parquet as pq

from analysis.evaluation import costs
from analysis.report import build
from run_folder.folder import Folder
from run_folder.names import LABEL
from tests.tiny_runs import finished_run, save_tiny_model, settings_for
from tune_jobs.cli import main
from tune_jobs.commands import results

RUN, OUT, TEXTS = Path("runs/r"), Path("out"), Path("texts.csv")
COMMANDS: Mapping[str, Sequence[str]] = {
    "status": ("status", "r"),
    "dry run": ("resume", "r", "--dry-run", "--seeds", "1"),
    "export": ("export", "r", "--strategy", "baseline", "--to", str(OUT)),
    "compare-paper": ("compare-paper", "r"),
    "report": ("report", "r"),
    "leaderboard": ("leaderboard", "r"),
    "evaluate": ("evaluate", "r", "--seeds", "1"),
    "resume": ("resume", "r", "--seeds", "1"),
}
ON_EXPORT: Mapping[str, Sequence[str]] = {"predict": ("predict", str(OUT), str(TEXTS))}
WHOLE = ("evaluate", "resume")
"""Commands after which all results must be as they were."""
PAGE = RUN / "results" / "report.html"
PAGE_FILES = RUN / "results" / "report"
"""Files of the page, and ``paper.*`` likewise, that are written by one command alone, and whole each time."""
SAYS = ("symptune: error: ", "symptune: warning: ", "not evaluated", "ot been ", "Stopped: ")

Apply = Callable[[Path], None]


@dataclass(frozen=True)
class Damage:
    """One damage, to a run or to an exported folder.

    Attributes:
        apply: changes the folder that it is given.
    """

    name: str
    apply: Apply
    commands: Mapping[str, Sequence[str]] = field(default_factory=lambda: COMMANDS)


def _replace(path: Path, data: bytes) -> None:
    _remove(path)
    path.write_bytes(data)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _to_folder(path: Path) -> None:
    _remove(path)
    path.mkdir()
    (path / "x").write_text("x")


def _to_link(path: Path) -> None:
    _remove(path)
    path.symlink_to("nowhere")


WAYS: Mapping[str, Apply] = {
    "deleted": _remove,
    "emptied": lambda path: _replace(path, b""),
    "cut": lambda path: _replace(path, path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: _replace(path, b"\x00\xff garbage \xfe" * 9),
    "a list": lambda path: _replace(path, b"[]"),
    "a number": lambda path: _replace(path, b"7"),
    "a folder": _to_folder,
    "a dead link": _to_link,
}
TEXT_WAYS = ("deleted", "emptied", "cut", "garbage", "a list", "a folder")


def _first(home: Path, pattern: str) -> Path:
    return sorted(home.glob(pattern))[0]


def _file(pattern: str, way: str) -> Damage:
    return Damage(f"{pattern} {way}", lambda home: WAYS[way](_first(home, pattern)))


def _value(pattern: str, place: str, change: Callable[[Any], Any], word: str, *, last: bool = False) -> Damage:
    """A JSON file in which one value is another; ``place`` is dotted, ``*`` takes the first key."""

    def apply(home: Path) -> None:
        path = sorted(home.glob(pattern))[-1 if last else 0]
        values = json.loads(path.read_bytes())
        holder, *_ = [values]
        *parents, leaf = place.split(".")
        for name in parents:
            holder = holder[next(iter(holder)) if name == "*" else name]
        leaf = next(iter(holder)) if leaf == "*" else leaf
        holder[leaf] = change(holder[leaf])
        _replace(path, json.dumps(values).encode())

    return Damage(f"{pattern} {place} {word}", apply)


def _taken_from(pattern: str, source: str) -> Damage:
    """One file or folder in the place of another of its kind."""

    def apply(home: Path) -> None:
        target = _first(home, pattern)
        of = [path for path in sorted(home.glob(source)) if path != target][-1]
        _remove(target)
        shutil.copytree(of, target) if of.is_dir() else shutil.copyfile(of, target)

    return Damage(f"{pattern} is another one", apply)


def _events_gone(number: int) -> Damage:
    def apply(home: Path) -> None:
        for path in sorted((home / "ledger").glob("*.json"))[-number:]:
            path.unlink()

    return Damage(f"the last {number} events deleted", apply)


def _swapped(home: Path) -> None:
    one, two, *_ = sorted((home / "ledger").glob("*-epoch.json"))
    data = one.read_bytes()
    _replace(one, two.read_bytes())
    _replace(two, data)


def _event_added(home: Path) -> None:
    last = sorted((home / "ledger").glob("*.json"))[-1]
    shutil.copyfile(last, last.with_name(f"{int(last.name[:8]) + 1:08d}{last.name[8:]}"))


def _without_ledger(home: Path) -> None:
    _remove(home / "ledger")
    _remove(home / "ledger.json")


def _other_number(value: float) -> float:
    return value + 1 if isinstance(value, int) else value / 2 + 0.1


def _text(value: object) -> str:
    return "many"


def _ledger_damages() -> Iterator[Damage]:
    yield Damage("ledger deleted", lambda home: shutil.rmtree(home / "ledger"))
    yield Damage("ledger and ledger.json deleted", _without_ledger)
    yield Damage("ledger a file", lambda home: _replace(home / "ledger", b"x"))
    yield _events_gone(1)
    yield _events_gone(9)
    yield Damage("two events swapped", _swapped)
    yield Damage("an event twice", _event_added)
    yield _file("ledger/00000000-*.json", "deleted")
    yield _file("ledger/00000004-*.json", "deleted")
    yield _value("ledger/*.json", "trial", _text, "changed", last=True)
    for kind in ("suggested", "epoch", "finished", "teacher"):
        for way in ("emptied", "cut", "a list"):
            yield _file(f"ledger/*-{kind}.json", way)
    yield _value("ledger/*-suggested.json", "hyperparameters.*", _other_number, "changed")
    yield _value("ledger/*-suggested.json", "seed", _text, "a text")
    yield _value("ledger/*-epoch.json", "result.f1", _other_number, "changed")
    yield _value("ledger/*-epoch.json", "result.f1", _text, "a text")
    yield _value("ledger/*-finished.json", "final.validation.f1", _other_number, "changed")
    yield _value("ledger/*-finished.json", "final.bytes", _other_number, "changed", last=True)
    yield _taken_from("ledger/*-finished.json", "ledger/*-finished.json")
    for way in ("deleted", "cut", "a list", "garbage", "a folder"):
        yield _file("ledger.json", way)
    yield _value("ledger.json", "events", _other_number, "changed")
    yield _value("ledger.json", "events", _text, "a text")


def _created_damages() -> Iterator[Damage]:
    """What the run was created with."""
    for way in (*TEXT_WAYS, "a number", "a dead link"):
        yield _file("run.json", way)
    for place in ("pad_token_id", "settings.trials", "symptoms", "counts", "objectives.*"):
        yield _value("run.json", place, _text, "a text")
    yield _value("run.json", "pad_token_id", _other_number, "changed")
    yield _value("run.json", "counts.train.*", _other_number, "changed")
    yield _value("run.json", "symptoms", lambda names: names[::-1], "reversed")
    for way in ("deleted", "cut", "garbage"):
        yield _file("model/tokenizer.json", way)
    yield _file("model/config.json", "a list")
    yield _file("model/*.safetensors", "cut")
    yield Damage("model deleted", lambda home: shutil.rmtree(home / "model"))
    yield Damage("model/vocab.txt added", lambda home: _write(home / "model" / "vocab.txt", b"pain\n"))
    for split in ("train", "validation", "test"):
        yield _file(f"data/{split}.parquet", "cut")
    yield _file("data/test.parquet", "deleted")
    yield _file("data/test.parquet", "garbage")
    yield _taken_from("data/test.parquet", "data/validation.parquet")
    yield Damage("data deleted", lambda home: shutil.rmtree(home / "data"))
    for way in ("deleted", "cut", "a list"):
        yield _file("lexicon.json", way)
    yield _value("lexicon.json", "*.forms", lambda forms: ["nonsense"], "changed")


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _renamed(folder: Path) -> None:
    folder.rename(folder.with_name(f"{folder.name}-old"))


def _model_damages() -> Iterator[Damage]:
    for way in ("deleted", "cut", "a list"):
        yield _file("trials/baseline-*/deployed/deployed.json", way)
    yield _value("trials/baseline-*/deployed/deployed.json", "macs", _other_number, "changed")
    yield _value("trials/baseline-*/deployed/deployed.json", "symptoms", lambda names: names[::-1], "reversed")
    for way in ("deleted", "cut", "garbage"):
        yield _file("trials/baseline-*/deployed/model.safetensors", way)
    yield _taken_from("trials/baseline-*/deployed", "trials/*/deployed")
    yield Damage("a trial's folder renamed", lambda home: _renamed(_first(home, "trials/baseline-*")))
    yield Damage("a trial's deployed/ renamed", lambda home: _renamed(_first(home, "trials/baseline-*/deployed")))
    yield Damage("trials deleted", lambda home: shutil.rmtree(home / "trials"))
    for name in ("model.onnx", "agreement.json"):
        yield _file(f"trials/baseline-*/onnx/{name}", "cut")
        yield _file(f"trials/baseline-*/onnx/{name}", "deleted")
    yield _value("trials/baseline-*/onnx/agreement.json", "max_logit_difference", _other_number, "changed")


def _result_damages() -> Iterator[Damage]:
    for name in ("statistics", "costs", "robustness", "insight", "paper"):
        yield _file(f"results/{name}.json", "cut")
        yield _file(f"results/{name}.json", "deleted")
        yield _file(f"results/{name}.json", "a list")
    yield _value("results/statistics.json", "margin", _other_number, "changed")
    yield _value("results/statistics.json", "strategies.baseline.figures.*.f1.point", _other_number, "changed")
    yield _value("results/costs.json", "cpu.*.latency_median", _other_number, "changed")
    yield _value("results/costs.json", "cpu", _text, "a text")
    for way in ("cut", "emptied", "deleted"):
        yield _file("results/trials/baseline-*.json", way)
    yield _value("results/trials/baseline-*.json", "test.f1", _other_number, "changed")
    yield _taken_from("results/trials/baseline-*.json", "results/trials/*.json")
    for way in ("cut", "garbage", "deleted", "emptied"):
        yield _file("results/predictions/baseline-*[0-9].parquet", way)
    yield _file("results/predictions/baseline-*-validation.parquet", "cut")
    yield Damage("predictions written by another program", lambda home: _reversed_answers(home))
    yield Damage("figures without their seal", lambda home: _unsealed(home))
    yield _taken_from("results/predictions/baseline-*[0-9].parquet", "results/predictions/[d-z]*-[0-9]*[0-9].parquet")
    for name in ("leaderboard.csv", "insight.csv", "robustness.csv", "table1.md", "report.html"):
        yield _file(f"results/{name}", "cut")
    for name in ("leaderboard.csv", "table1.md", "costs.json"):
        yield _file(f"results/{name}", "a folder")
    yield Damage("results deleted", lambda home: shutil.rmtree(home / "results"))
    yield Damage("results a file", lambda home: _replace(home / "results", b"x"))


def _reversed_answers(home: Path) -> None:
    path = _first(home, "results/predictions/baseline-*[0-9].parquet")
    table = pd.read_parquet(path)
    columns = [name for name in table if name.startswith("probability_")]
    table[columns] = table[columns[::-1]].to_numpy()
    table.to_parquet(path)


def _unsealed(home: Path) -> None:
    path = _first(home, "results/trials/baseline-*.json")
    record = json.loads(path.read_text())
    del record["content_sha256"]
    record["test"]["f1"] = 0.99
    path.write_text(json.dumps(record))


def _other_damages() -> Iterator[Damage]:
    for way in ("deleted", "garbage", "a folder"):
        yield _file("studies.journal", way)
    yield _file("lock", "a folder")
    yield Damage("a file put into ledger", lambda home: _write(home / "ledger" / "notes.txt", b"x"))
    yield Damage("left by a kill", lambda home: _write(home / "results" / ".costs.json.0123abcd.tmp", b"x"))


def _export_damages() -> Iterator[Damage]:
    for name in ("model.onnx", "tokenizer.json", "input.json", "known_tokens.json", "metrics.json"):
        for way in ("deleted", "cut", "garbage", "a list", "a folder"):
            damage = _file(name, way)
            yield Damage(f"exported {damage.name}", damage.apply, ON_EXPORT)
    for name, place in (("input.json", "max_length"), ("metrics.json", "format")):
        damage = _value(name, place, _other_number, "changed")
        yield Damage(f"exported {damage.name}", damage.apply, ON_EXPORT)
    for place in ("model", "sha256", "settings"):
        damage = _value("metrics.json", place, _text, "a text")
        yield Damage(f"exported {damage.name}", damage.apply, ON_EXPORT)


def multilabel_damages() -> list[Damage]:
    """Of what only a multilabel run has, by the commands that read it."""
    commands = {name: COMMANDS[name] for name in ("status", "export", "leaderboard", "evaluate")}
    found = [
        _value("ledger/*-finished.json", "final.temperatures.*", _other_number, "changed"),
        _value("ledger/*-finished.json", "final.thresholds.*", _other_number, "changed"),
        _value("ledger/*-finished.json", "final.thresholds", _text, "a text"),
        Damage("predictions without thresholds", _without_thresholds),
        Damage("predictions without a symptom's labels", _without_a_label),
        _file("results/predictions/baseline-*[0-9].parquet", "cut"),
    ]
    return [replace(damage, commands=commands) for damage in found]


def _without_thresholds(home: Path) -> None:
    path = _first(home, "results/predictions/baseline-*[0-9].parquet")
    table = pq.read_table(path)
    kept = {name: value for name, value in (table.schema.metadata or {}).items() if name != b"thresholds"}
    pq.write_table(table.replace_schema_metadata(kept), path)


def _without_a_label(home: Path) -> None:
    path = _first(home, "results/predictions/baseline-*[0-9].parquet")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([next(name for name in table.column_names if name.startswith(LABEL))]), path)


def damages() -> list[Damage]:
    """All of them."""
    makers = (_ledger_damages, _created_damages, _model_damages, _result_damages, _other_damages, _export_damages)
    return [damage for maker in makers for damage in maker()]


@dataclass(frozen=True)
class Said:
    """What a command left behind.

    Attributes:
        code: None where it ended in a traceback.
        files: SHA-256 by path, of results and of what was exported.
        written: paths of those that the command wrote.
    """

    code: int | None
    out: str
    err: str
    files: Mapping[str, str]
    written: frozenset[str]


def _files() -> dict[str, str]:
    found = [path for home in (RUN / "results", OUT) for path in home.rglob("*") if path.is_file()]
    found = [path for path in found if not path.is_relative_to(PAGE_FILES) and path.stem != "paper"]
    return {str(path): hashlib.sha256(_content(path)).hexdigest() for path in found if path.suffix != ".onnx"}


def _content(path: Path) -> bytes:
    """What a file holds, without hashes of graphs: the same model, exported again, has other bytes."""
    data = path.read_bytes()
    if path == OUT / "metrics.json":
        with contextlib.suppress(ValueError, AttributeError):  # a damaged one
            return json.dumps({name: value for name, value in json.loads(data).items() if name != "sha256"}).encode()
    return data


def said_by(command: Sequence[str]) -> Said:
    """Run a command in this process, in the folder with the run; ``report`` alone writes the page, to save time."""
    before = {path: path.stat().st_mtime_ns for home in (RUN, OUT) for path in home.rglob("*") if path.is_file()}
    out, err = io.StringIO(), io.StringIO()
    pages = contextlib.nullcontext() if command[0] == "report" else mock.patch.object(results, "_write_report")
    with pages, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | None = main(command)
        except BaseException:  # whatever would be a traceback
            code = None
            traceback.print_exc()
    files = _files()
    written = {name for name in files if before.get(Path(name)) != Path(name).stat().st_mtime_ns}
    return Said(code, out.getvalue(), err.getvalue(), files, frozenset(written))


def verdict(found: Said, expected: Said, *, whole: bool) -> str:
    """What came of a damage: ``wrong`` is another answer with exit code 0 and nothing said; ``told`` says why."""
    if found.code is None or "Traceback" in found.err:
        return "traceback"
    if found.code:
        return "refused" if any(words in found.err + found.out for words in SAYS) else "wrong"
    if "symptune: warning: " in found.err:
        return "warned"
    names = (found.files.keys() | expected.files.keys()) - {str(PAGE)} if whole else expected.written
    if found.out == expected.out and all(found.files.get(name) == expected.files.get(name) for name in names):
        return "same"
    new = set(found.out.splitlines()) - set(expected.out.splitlines())
    texts = [*new, *(page.read_text() for page in [PAGE] if str(page) in found.written)]
    return "told" if any(words in text for text in texts for words in SAYS) else "wrong"


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Costs that are the same each time, and figures that are not drawn: neither is what is damaged here."""

    def same(models: Mapping[str, object], *_: object, **__: object) -> dict[str, costs.ModelCosts]:
        return {name: costs.ModelCosts(latency_median=0.001, latency_p95=0.002, throughput=500.0) for name in models}

    drawing = {"svg": b'<svg viewBox="0 0 1 1"></svg>', "png": b""}
    with (
        mock.patch.object(costs, "time_models", same),
        mock.patch.object(costs, "peak_memory", return_value=1_000_000),
        mock.patch.object(build, "images", return_value=drawing),
    ):
        yield


class Bench:
    """Copies of one run, each damaged once.

    Args:
        run: a finished run; it is evaluated again, in a copy.
        home: an empty folder to work in.
    """

    def __init__(self, run: Path, home: Path) -> None:
        self._home, self._pristine = home, home / "pristine"
        shutil.copytree(run, self._pristine, ignore=shutil.ignore_patterns("ray"))
        TEXTS.write_text("TEXT\nhas fever and pain\nno cough\n")
        self._put(self._pristine)
        (RUN / "results" / "costs.json").unlink(missing_ok=True)
        for name in ("resume", "compare-paper", "resume", "report"):
            assert said_by(COMMANDS[name]).code == 0, name
        assert said_by(COMMANDS["export"]).code == 0
        shutil.rmtree(self._pristine)
        shutil.copytree(RUN, self._pristine)
        shutil.copytree(OUT, home / "exported")
        self._expected: dict[str, Said] = {}

    def _put(self, run: Path) -> None:
        for path in (RUN, OUT):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(run, RUN)

    def try_one(self, damage: Damage) -> dict[str, tuple[str, Said]]:
        """By command, what came of it."""
        found = {}
        for name, command in damage.commands.items():
            if name not in self._expected:
                self._begin(damage)
                self._expected[name] = said_by(command)
            self._begin(damage)
            damage.apply(OUT if damage.commands is ON_EXPORT else RUN)
            said = said_by(command)
            found[name] = (verdict(said, self._expected[name], whole=name in WHOLE), said)
        return found

    def _begin(self, damage: Damage) -> None:
        if damage.commands is ON_EXPORT:
            shutil.rmtree(OUT, ignore_errors=True)
            shutil.copytree(self._home / "exported", OUT)
        else:
            self._put(self._pristine)


def _run() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="the folder of a finished run; without it one is made")
    parser.add_argument("--only", default="", metavar="WORDS", help="damages whose names have these words")
    parser.add_argument("--each", type=int, default=1, metavar="N", help="try each Nth damage alone")
    parser.add_argument("--verbose", action="store_true", help="also print what each command said")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    start = time.process_time()
    with tempfile.TemporaryDirectory(prefix="symptune-damage-") as temporary, quick():
        run = options.run.absolute() if options.run else _new_run(Path(temporary))
        home = Path(temporary, "bench")
        home.mkdir()
        os.chdir(home)
        bench = Bench(run, home)
        tried = [damage for damage in damages() if options.only in damage.name][:: options.each]
        for number, damage in enumerate(tried):
            if number % 10 == 0:
                print(f"{number} of {len(tried)}: {dict(counts)}", file=sys.stderr, flush=True)
            for name, (how, said) in bench.try_one(damage).items():
                counts[how] += 1
                if options.verbose or how in ("traceback", "wrong"):
                    last = (said.err.strip().splitlines() or ["-"])[-1]
                    print(f"{how:9} {damage.name}: {name}: {said.code} {last}", flush=True)
        os.chdir("/")
    seconds = time.process_time() - start
    print(f"{len(tried)} damages, {sum(counts.values())} commands: {dict(counts)}, {seconds:.0f} s of CPU")
    return 1 if counts["traceback"] or counts["wrong"] else 0


def _new_run(home: Path) -> Path:
    strategies = ("baseline", "quantization")
    settings = settings_for(save_tiny_model(home / "encoder"), strategies=strategies, trials=2, epochs=2)
    return Path(finished_run(Folder(home / "new"), settings).run.folder.uri)


if __name__ == "__main__":
    sys.exit(_run())
