"""A run: what a search found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_folder.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from run_folder import run as stored
    from run_folder.trials import State, TrialRecord
    from symptune._model import Model


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration that was trained.

    Attributes:
        name: ``<strategy>-<number>``.
        state: ``running``, ``stopped`` early, ``failed`` or ``finished``.
        seed: of its training.
        hyperparameters: the configuration.
        f1: macro F1 of the deployed model on validation; None unless finished.
        bytes: of the deployed model's weights on disk; None unless finished.
        parameters: of the deployed model; None unless finished.
        reason: why it failed.
    """

    name: str
    strategy: str
    state: State
    seed: int
    hyperparameters: Mapping[str, Any]
    f1: float | None
    bytes: int | None
    parameters: int | None
    reason: str | None


class Run:
    """A run as it was when it was opened; made by ``search`` and ``open_run``.

    Attributes:
        name: of the run.
        path: its folder, or the URI of it.
        strategies: that it searched.
        symptoms: that its models tell apart, in the order of their classes.
    """

    def __init__(self, stored_run: stored.Run) -> None:
        self._run = stored_run
        self.name: str = stored_run.folder.name
        self.path: str = stored_run.folder.uri
        self.strategies: tuple[str, ...] = stored_run.strategies
        self.symptoms: tuple[str, ...] = stored_run.symptoms

    def __repr__(self) -> str:
        return f"Run({self.path!r})"

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they began."""
        return tuple(_trial(record) for record in self._run.trials.values())

    def leaderboard(self, top: int = 1) -> pd.DataFrame:
        """The best trials, one row each, best validation macro F1 first, then the control rows.

        The columns are those of ``results/leaderboard.csv`` in the run's folder: figures on validation and test,
        sizes, measured costs and searched parameters (``hp_…``).

        Args:
            top: trials of each strategy; of a strategy with several objectives its whole Pareto front is shown.

        Raises:
            InputError: ``top`` is not at least 1.
        """
        from analysis.evaluation.leaderboard import build_leaderboard

        if top < 1:
            raise InputError(f"top: must be at least 1, got {top}")
        return build_leaderboard(self._run, top).best

    def best(self, strategy: str) -> Trial:
        """The strategy's finished trial with the highest macro F1 on validation.

        Raises:
            InputError: the run has no such strategy, or none of its trials has finished.
        """
        if strategy not in self.strategies:
            raise InputError(f"strategy: run {self.name} has no {strategy!r}; it has {', '.join(self.strategies)}")
        found = self._run.best(strategy, 1)
        if not found:
            raise InputError(f"strategy: no trial of {strategy} has finished in run {self.name}; continue the search")
        return _trial(found[0])

    def export(self, trial: Trial | str, to: str | Path) -> Model:
        """Write a finished trial's model to a new folder that can be used without the run, and open it.

        Args:
            trial: the trial or its name.
            to: a folder that does not exist or is empty.

        Raises:
            InputError: the folder is not empty, the trial has not finished, or its model was not kept.
        """
        from analysis.models.export import export
        from symptune._model import load

        name = trial if isinstance(trial, str) else trial.name
        record = self._run.trials.get(name)
        if record is None:
            raise InputError(f"trial: run {self.name} has no trial {name!r}; see run.trials")
        if record.state != "finished":
            raise InputError(f"trial: {name} is {record.state}, so it has no model; choose a finished one")
        export(self._run, name, Path(to))
        return load(to)


def _trial(record: TrialRecord) -> Trial:
    finished = record.state == "finished"
    return Trial(
        name=record.name,
        strategy=record.strategy,
        state=record.state,
        seed=record.seed,
        hyperparameters=dict(record.hyperparameters),
        f1=record.score if finished else None,
        bytes=int(record.figure("bytes")) if finished else None,
        parameters=int(record.figure("parameters")) if finished else None,
        reason=record.reason,
    )


def open_run(path: str | Path) -> Run:
    """Open a run by its folder, or by the URI of it.

    Raises:
        InputError: there is no run, it is damaged, or another version wrote it.
    """
    from run_folder.folder import Folder, refusing
    from run_folder.run import open_run as open_stored

    with refusing("path"):
        folder = Folder(path)
        folder.answers()
        return Run(open_stored(folder))
