"""The search, as a function."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from run_folder.errors import InputError, Problem
from symptune._frame import as_table
from symptune._launch import launch
from symptune._run import Run, open_run

if TYPE_CHECKING:
    import pandas as pd

_FRAMES = ".frames"
"""Folder under the storage that holds a DataFrame's notes while they are searched."""


class SearchOptions(TypedDict, total=False):
    """Options of ``search``: those of ``symptune launch``, which ``symptune launch --help`` explains.

    Several values are a sequence. What is not given has the default of the command line.
    """

    # notes
    patients: int
    text_column: str
    patient_column: str
    category_column: str
    sample: float
    category: str | Sequence[str]
    group_by: str | Sequence[str]
    # examples
    protocol: Literal["paper", "author"]
    task: Literal["multilabel", "multiclass"]
    negatives: float
    most_test: int
    unit: Literal["note", "sentence", "row"]
    stride: int
    note_rule: Literal["largest", "noisy-or"]
    labels: Sequence[str]
    window_chars: int
    symptoms: int | Sequence[str]
    mentions: Literal["keep", "mask"]
    negated: Literal["drop", "keep"]
    positive: Sequence[str]
    labeller: str
    lexicon: str | Path
    absorb: str | Sequence[str]
    balance: bool
    hold_back: int
    split: tuple[float, float, float]
    # model
    model: str | Path
    layers: int
    max_length: int
    reduce_range: bool
    precision: Literal["auto", "float32", "bfloat16"]
    deploy: Literal["best", "last"]
    class_weights: Literal["none", "balanced"]
    sensitivity: float
    # search
    strategies: Sequence[str]
    trials: int
    epochs: int
    reduction_factor: int
    space: str | Path | Mapping[str, Mapping[str, Any]]
    cycles: int
    patience: int
    warm_start: str | Path
    seed: int
    name: str
    # execution
    cpus_per_trial: float | Literal["auto"]
    gpus_per_trial: float | Literal["auto"]
    max_concurrent: int
    time_budget: float
    epoch_limit: float
    address: str
    optuna_storage: str
    keep: int
    verbose: bool
    log_level: Literal["debug", "info", "warning", "error"]
    seeds: int
    storage: str | Path
    top: int
    margin: float
    prefer: Literal["bytes", "latency"]
    at_most: str
    faster: float
    latency: str
    smallest_group: int


def search(
    notes: str | Path | Sequence[str | Path] | pd.DataFrame | None = None,
    *,
    progress: bool = True,
    **options: Unpack[SearchOptions],
) -> Run:
    """Search, evaluate and write the results, as ``symptune launch`` does; called again, it continues.

    A call whose run exists keeps what is finished and does the rest. An interrupted call (Ctrl-C) can be repeated.

    Args:
        notes: a table of notes or a folder of them, as ``launch --notes`` takes it, or several; or a DataFrame with
            such columns (as ``TEXT`` and ``SUBJECT_ID``; the patient may be its index); synthetic notes by default. A
            DataFrame's notes lie under ``storage`` until the call returns, in a file that its owner alone can read.
        progress: print the progress and the tables.
        options: see ``SearchOptions``. ``space`` may also be a dictionary of what its file would hold.

    Returns:
        The run, evaluated on the test set.

    Raises:
        InputError: bad notes or options; every problem that was found, a line each. Nothing was written.
        SearchError: the storage failed, or no trial finished.
        KeyboardInterrupt: stopped; everything reported so far is kept.
        TypeError: no such option.
    """
    _check_names(options)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    with _as_files(notes, given) as paths, _space_file(given):
        try:
            folder = launch(_arguments(paths, given), progress=progress)
        except InputError as error:
            files = {} if notes is None or _paths_of(notes) else {paths[0]: "the DataFrame"}
            if isinstance(options.get("space"), Mapping):
                files[str(given["space"])] = "the dictionary"
            raise InputError(*(_in_words_of_python(problem, files) for problem in error.problems)) from None
    return open_run(folder)


def _check_names(options: Mapping[str, Any]) -> None:
    known = list(SearchOptions.__annotations__)
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"search() has no option {name!r}{hint}")


def _paths_of(notes: object) -> list[str]:
    """The paths that are given, if paths are."""
    given = [notes] if isinstance(notes, str | Path) else list(notes) if isinstance(notes, list | tuple) else []
    return [str(path) for path in given] if all(isinstance(path, str | Path) for path in given) else []


@contextmanager
def _as_files(
    notes: str | Path | Sequence[str | Path] | pd.DataFrame | None, options: Mapping[str, Any]
) -> Iterator[list[str]]:
    """The paths of the notes; a DataFrame's are in a file, named by its content, while the block runs."""
    if notes is None or _paths_of(notes):
        yield _paths_of(notes)
        return
    import pandas as pd

    from run_folder.folder import remove_empty

    if not isinstance(notes, pd.DataFrame):
        raise InputError(f"notes: give a path or a pandas DataFrame, not {type(notes).__name__}")
    notes = as_table(notes, options)
    storage = str(options.get("storage", "runs"))
    if "://" in storage:
        raise InputError(
            f"notes: with the storage {storage!r} a DataFrame has no place; write it to a file and give its path"
        )
    frames = Path(storage) / _FRAMES
    made = [frames, *(parent for parent in frames.parents if not parent.exists())]
    try:
        frames.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"storage: {storage} cannot be written ({error.strerror}); name another") from None
    # CSV, since its bytes, by which a run knows its notes again, depend on no version of a package.
    text = notes.to_csv(index=False, lineterminator="\n").encode(errors="surrogatepass")
    path = frames / f"{hashlib.sha256(text).hexdigest()[:16]}.csv"
    try:
        path.touch(mode=0o600)
        path.write_bytes(text)
        yield [str(path)]
    finally:
        path.unlink(missing_ok=True)
        remove_empty(made)


@contextmanager
def _space_file(options: dict[str, Any]) -> Iterator[None]:
    """Puts a file in the place of a space that is given as a dictionary."""
    if not isinstance(options.get("space"), Mapping):
        yield
        return
    import json
    import tempfile

    with tempfile.TemporaryDirectory(prefix="symptune-") as folder:
        file = Path(folder) / "space.yaml"
        file.write_text(json.dumps(options["space"]))  # JSON is YAML
        options["space"] = file
        yield


_REPEATED = ("absorb", "category", "group_by")
_SWITCHES = ("verbose",)
"""Options without a ``--no-`` form."""


def _arguments(notes: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The command line that says the same."""
    arguments = [f"--notes={path}" for path in notes]
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            if value or name not in _SWITCHES:
                arguments.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, str | Path) or not isinstance(value, Sequence):
            arguments.append(f"--{option}={value}")
        elif name in _REPEATED:
            arguments += [f"--{option}={one}" for one in value]
        else:
            arguments.append(f"--{option}={','.join(map(str, value))}")
    return arguments


def _in_words_of_python(problem: Problem, files: Mapping[str, str]) -> Problem:
    """The problem with options by their Python names, and with words in the place of these files."""
    texts = []
    for text in (problem.message, problem.fix):
        for file, words in files.items():
            text = text.replace(file, words)
        texts.append(_with_python_names(text))
    return Problem(problem.field, *texts)


def _with_python_names(text: str) -> str:
    """Outside command lines, which are between backquotes."""
    parts = text.split("`")
    for number in range(0, len(parts), 2):
        for name in SearchOptions.__annotations__:
            parts[number] = parts[number].replace(f"--{name.replace('_', '-')}", name)
    return "`".join(parts)
