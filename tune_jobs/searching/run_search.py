"""Run or resume the search of a run's folder on a Ray cluster."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ray import tune
from ray.exceptions import RayError
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, TuneError
from rich.console import Console

from run_folder.errors import SearchHaltedError, first_line
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.settings import RunSettings
from run_folder.trials import TrialRecord
from trainables.base import TrainSettings
from trainables.references import BASELINE
from tune_jobs.cluster.connection import Capacity, check_slots, connected, slots
from tune_jobs.cluster.cpu_memory import fitting_resources
from tune_jobs.cluster.gpu_memory import measured_resources
from tune_jobs.execution import Execution
from tune_jobs.preparing.create_run import Prepared
from tune_jobs.searching.asha import StrategyASHA
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.progress import Progress
from tune_jobs.searching.ray_adapters import HaltStopper, LedgerCallback, RaySearcher, record_of
from tune_jobs.searching.search import Search
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import DATABASE_ERRORS, database_reason, study_storage
from tune_jobs.searching.trial_actor import RunTrainable
from tune_jobs.signals import interruptible, was_interrupted


def search(folder: Folder, settings: RunSettings, prepared: Prepared, execution: Execution, console: Console) -> Ledger:
    """Run what remains of the search and return the ledger as it stands then.

    Raises:
        KeyboardInterrupt: stopped by the user; everything reported so far is in the ledger.
        SearchHaltedError: the storage or the studies' database can't be written, so that nothing more would be kept;
            or Ray did not start, or died.
        InputError: the cluster cannot be reached, or cannot hold a trial.
    """
    try:
        return _search(folder, settings, prepared, execution, console)
    except DATABASE_ERRORS as error:
        raise SearchHaltedError(database_reason(error)) from error
    except (RayError, TuneError) as error:
        raise SearchHaltedError(f"Ray failed ({first_line(error)})") from error


def _search(
    folder: Folder, settings: RunSettings, prepared: Prepared, execution: Execution, console: Console
) -> Ledger:
    ledger, wanted = Ledger(folder), settings.search
    with study_storage(folder, execution.optuna_storage) as storage, ThreadPoolExecutor(1) as discarding:
        studies = {
            strategy: StrategyStudy(
                strategy,
                storage,
                wanted.seed,
                wanted.space.get(strategy, {}),
                warm=wanted.warm_configurations.get(strategy, ()),
                width=prepared.width,
                at_most=wanted.at_most,
            )
            for strategy in wanted.strategies
        }
        progress: Progress | None = None

        def changed(record: TrialRecord) -> None:
            if progress is not None:
                progress.changed(record, ledger.trials, ledger.skipped)

        def warned(record: TrialRecord, message: str) -> None:
            if progress is not None:
                progress.warned(record, message)

        scheduler = StrategyASHA(wanted.strategies, wanted.epochs, wanted.reduction_factor, known=ledger.events)
        state = Search(
            folder,
            ledger,
            studies,
            SearchPlan(
                wanted.trials,
                wanted.seed,
                keep=execution.keep,
                retry_failed=execution.retry_failed,
                train_to=execution.train_to,
                cycles=wanted.cycles,
                patience=wanted.patience,
                seeds=execution.seeds,
                only_seeds=execution.only_seeds,
            ),
            stopped=scheduler.stopped,
            discarding=discarding,
            on_change=changed,
            on_warning=warned,
        )
        if state.done:
            return ledger
        # In this order: Ray sets a signal handler, which would end the process at once.
        with connected(execution.address, execution.verbose), interruptible():
            execution = _fitting_the_cluster(execution, settings, prepared, console)
            ended = sum(trial.state != "running" for trial in ledger.trials.values())
            with (
                Progress(
                    console,
                    folder.name,
                    wanted.strategies,
                    wanted.trials,
                    wanted.epochs,
                    ended,
                    execution.seeds,
                    wanted.cycles if BASELINE in wanted.strategies else 0,
                ) as progress,
                state.halting_on_storage_errors(),  # Ray keeps its own state there too
            ):
                _tuner(folder, settings, prepared, execution, state, scheduler).fit()
        if state.halted is None:
            ledger.note_end()
        if was_interrupted():
            discarding.shutdown(cancel_futures=True)  # the next start sees to it
            raise KeyboardInterrupt
        if state.halted is not None:
            raise SearchHaltedError(state.halted)
    return ledger


def _fitting_the_cluster(
    execution: Execution, settings: RunSettings, prepared: Prepared, console: Console
) -> Execution:
    """With the resources of a trial measured where that was asked for; some node must be able to hold a trial."""
    if execution.fit_cpus:
        resources = fitting_resources(execution.resources, settings, prepared, console)
        execution = replace(execution, resources=resources)
    if execution.measure_gpus:
        resources = measured_resources(execution.resources, settings, prepared, console)
        execution = replace(execution, resources=resources)
    if not execution.growing:
        check_slots(execution.resources)
    elif not slots(execution.resources):
        console.print("No node of the cluster can hold a trial yet; waiting for one to join.")
    return execution


def _tuner(
    folder: Folder,
    settings: RunSettings,
    prepared: Prepared,
    execution: Execution,
    state: Search,
    scheduler: StrategyASHA,
) -> tune.Tuner:
    resources = execution.resources
    capacity = Capacity(resources, execution.max_concurrent, execution.growing)
    train = TrainSettings(
        epochs=settings.search.epochs,
        threads=max(1, int(resources.cpus)),
        device="cuda" if resources.gpus else "cpu",
        reduce_range=settings.model.reduce_range,
        precision=settings.model.precision,
        deploy=settings.model.deploy,
    )
    trainable = tune.with_parameters(
        RunTrainable,
        data=prepared.data,
        encoder=prepared.encoder,
        settings=train,
        folder=folder,
        epoch_limit=execution.epoch_limit,
        log_level=execution.log_level,
    )
    return tune.Tuner(
        trainable,
        tune_config=TuneConfig(
            metric="f1",
            mode="max",
            search_alg=RaySearcher(state, {"cpus": resources.cpus, "gpus": resources.gpus}, capacity),
            scheduler=scheduler,
            num_samples=-1,  # the searcher says when it is finished
            max_concurrent_trials=sys.maxsize,  # the searcher counts; without a limit Ray starts one at a time
            reuse_actors=True,
            time_budget_s=execution.time_budget,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=folder.uri,
            callbacks=[LedgerCallback(state)],
            stop=HaltStopper(state),
            failure_config=FailureConfig(max_failures=0),  # a lost trial is dealt again by ``Search``
            checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=1 if execution.verbose else 0,
        ),
    )


def _trial_name(trial: tune.experiment.Trial) -> str:
    return record_of(trial.config).name
