"""How a search is run: what decides its speed and what it keeps, and nothing that a trial computes."""

from dataclasses import dataclass, field
from typing import Literal, NewType

from run_folder.logs import Level
from run_folder.options import option

SMALLEST_SHARE = 0.01
"""The smallest share of a core or GPU that a trial can ask for; Ray itself counts in ten-thousandths."""
LONGEST = 10**8
"""Seconds of the longest time limit: three years."""


Bytes = NewType("Bytes", int)
"""A size that a user gives with its unit."""
Seconds = NewType("Seconds", float)
"""A time that a user gives with its unit."""


@dataclass(frozen=True)
class AskedResources:
    """What one trial gets, as a user asks for it; ``auto`` is found out once the cluster is there."""

    cpus_per_trial: float | Literal["auto"] = field(
        default="auto",
        metadata=option(
            "a fraction shares a core", metavar="N|auto", low=SMALLEST_SHARE,
            default="auto: 1, or more where memory does not hold a trial on every core",
        ),
    )  # fmt: skip
    gpus_per_trial: float | Literal["auto"] = field(
        default=0.0,
        metadata=option(
            "1, or a fraction that shares a GPU; auto: as many trials on each as fit, by measuring one",
            metavar="N|auto", default="0", low=SMALLEST_SHARE, high=1, unless=0,
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class TrialResources:
    """What one trial asks of the cluster; fractions share a device."""

    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Execution:
    """How a search is run; none of it changes what a trial computes.

    Attributes:
        fit_cpus: replace the resources' CPUs by as many as leave each trial enough memory.
        measure_gpus: replace the resources' GPUs by what one trial is found to need.
        time_budget: seconds after which no result is waited for; None for no limit.
        epoch_limit: seconds that an epoch may take before its trial is given up; None for no limit.
        retry_failed: run failed trials again.
        train_to: train each strategy's best trial for longer, to this many epochs.
        seeds: train each strategy's best configuration with this many seeds in the end.
        only_seeds: do that alone.
        optuna_storage: URL of the database that holds the studies; None for a journal file in the run's folder.
    """

    resources: TrialResources = field(default_factory=TrialResources)
    fit_cpus: bool = False
    measure_gpus: bool = False
    max_concurrent: int | None = field(
        default=None,
        metadata=option(
            "number of trials that run at once; on an existing cluster, trials that do not fit yet wait for nodes",
            metavar="N", default="as many as fit", above=0,
        ),
    )  # fmt: skip
    time_budget: float | None = field(
        default=None,
        metadata=option("stop searching after this time, and evaluate", metavar="SECONDS", above=0, high=LONGEST),
    )
    epoch_limit: float | None = field(
        default=None,
        metadata=option(
            "give up a trial when one of its epochs takes longer", metavar="SECONDS", default="no limit", above=0,
            high=LONGEST,
        ),
    )  # fmt: skip
    address: str | None = field(
        default=None,
        metadata=option(
            "HOST:PORT of an existing Ray cluster, auto, or ray://HOST:10001 from outside it", metavar="ADDRESS",
            default="RAY_ADDRESS, else a cluster started here",
        ),
    )  # fmt: skip
    optuna_storage: str | None = field(
        default=None,
        metadata=option(
            "database for the studies, such as postgresql://USER@HOST/DB", metavar="URL",
            default="a journal file in the run",
        ),
    )  # fmt: skip
    keep: int = field(
        default=3, metadata=option("number of finished models that are kept per strategy", metavar="N", above=0)
    )
    verbose: bool = field(default=False, metadata=option("show Ray's own output"))
    seeds: int = field(
        default=1,
        metadata=option(
            "number of seeds for each strategy's best configuration, trained after the search; 1 adds none",
            metavar="N", low=1, high=1000, default="3; the demonstration 1",
        ),
    )  # fmt: skip
    log_level: Level = field(
        default="info", metadata=option("lowest level of the messages in the logs in the run's folder")
    )
    retry_failed: bool = False
    train_to: int | None = None
    only_seeds: bool = False

    @property
    def growing(self) -> bool:
        """Whether more trials were asked for than an existing cluster may hold yet."""
        return self.address is not None and self.max_concurrent is not None


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated after a search, and by which rule.

    Attributes:
        margin, prefer, at_most, faster, latency: None for what was given last, or the default.
    """

    top: int = field(
        default=1, metadata=option("number of best trials of each strategy to evaluate", metavar="N", above=0)
    )
    margin: float | None = field(
        default=None,
        metadata=option(
            "largest loss of macro F1 that still counts as no worse than the baseline", metavar="M", above=0, high=1,
            default="0.01, or as last given",
        ),
    )  # fmt: skip
    prefer: Literal["bytes", "latency"] | None = field(
        default=None,
        metadata=option(
            "recommend the proven model of fewest bytes, or of lowest latency",
            default="latency where --faster or --latency is given, else bytes; or as last given",
        ),
    )
    at_most: Bytes | None = field(
        default=None,
        metadata=option(
            "recommend a model of at most this size, such as 20MB; with launch, the search prefers such models too",
            metavar="SIZE", above=0, default="any",
        ),
    )  # fmt: skip
    faster: float | None = field(
        default=None,
        metadata=option(
            "recommend a model whose latency is at most an Nth of the baseline's", metavar="N", above=1, default="any"
        ),
    )
    latency: Seconds | None = field(
        default=None,
        metadata=option(
            "recommend a model that reads a text on one thread within this time, such as 5ms", metavar="TIME", above=0,
            default="any",
        ),
    )  # fmt: skip
    smallest_group: int = field(
        default=20,
        metadata=option(
            "smallest number of test examples for figures of one group; smaller groups are merged", metavar="N", low=1
        ),
    )
