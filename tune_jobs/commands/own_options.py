"""Options of single commands; those of a run are in ``run_folder.settings``, those of a search in ``execution``."""

from dataclasses import dataclass, field

from run_folder.options import option
from run_folder.settings import LARGEST_SEED, MOST_EPOCHS, MOST_TRIALS


@dataclass(frozen=True)
class StorageOptions:
    """Where the runs are."""

    storage: str = field(
        default="runs",
        metadata=option("folder or URI that holds the runs", metavar="FOLDER|URI", default="./runs"),
    )


@dataclass(frozen=True)
class ResumeOptions:
    """What a resume adds to the search that it continues."""

    trials: int | None = field(
        default=None,
        metadata=option("extend the search to N trials per strategy", metavar="N", low=1, high=MOST_TRIALS),
    )
    epochs: int | None = field(
        default=None,
        metadata=option(
            "train each strategy's best trial for longer, to N epochs, as a new trial", metavar="N", low=1,
            high=MOST_EPOCHS,
        ),
    )  # fmt: skip
    retry_failed: bool = field(default=False, metadata=option("run failed trials again, as new trials"))
    dry_run: bool = field(default=False, metadata=option("show what would be done, and do nothing"))
    force: bool = field(default=False, metadata=option("continue although the data, model or versions have changed"))


@dataclass(frozen=True)
class GoldOptions:
    """Labels that people made, to judge the models by."""

    gold: str | None = field(
        default=None,
        metadata=option(
            "also judge models, controls and the rules by people's labels: a table as audit-labels reads, or of a run "
            "with --labels, one with the same columns", metavar="TABLE",
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class PredictOptions:
    """How texts are labelled."""

    out: str | None = field(
        default=None, metadata=option(".csv or .parquet", metavar="FILE", default="CSV to standard output")
    )
    overwrite: bool = field(default=False, metadata=option("replace the file of --out if it exists"))
    sentences: bool = field(default=False, metadata=option("label each sentence of every text"))
    id_column: str | None = field(
        default=None, metadata=option("copy this column of FILE, so that the labels can be joined", metavar="NAME")
    )
    unsure: float = field(
        default=0.0,
        metadata=option(
            "write unsure where a probability is less than this from its threshold; of multilabel models",
            metavar="WIDTH", low=0, high=1,
        ),
    )  # fmt: skip
    threads: int | None = field(
        default=None, metadata=option("number of threads", metavar="N", default="all cores", low=1, high=1024)
    )


@dataclass(frozen=True)
class DashboardOptions:
    """Where the two pages are served, and from what."""

    port: int = field(default=8080, metadata=option("port of optuna-dashboard", metavar="N", low=1, high=65_535))
    tensorboard_port: int = field(default=6006, metadata=option("port of TensorBoard", metavar="N", low=1, high=65_535))
    optuna_storage: str | None = field(
        default=None,
        metadata=option("the database that has the studies, if launch was given one", metavar="URL"),
    )


@dataclass(frozen=True)
class AuditOptions:
    """What is scored, and where the scores go."""

    symptoms: tuple[str, ...] | None = field(
        default=None, metadata=option("score these symptoms", metavar="NAMES", default="those that GOLD names")
    )
    keep_apart: bool = field(
        default=False, metadata=option("do not count chest pain as pain where GOLD names pain alone")
    )
    show_errors: bool = field(
        default=False, metadata=option("print the texts on which the rules and the labels differ")
    )
    out: str | None = field(
        default=None, metadata=option("scores as .csv or .json; the sheet as .tsv or .csv", metavar="FILE")
    )
    overwrite: bool = field(default=False, metadata=option("replace the files of --out and --key if they exist"))


@dataclass(frozen=True)
class SheetOptions:
    """A sheet of sentences for people to label."""

    export_sample: int | None = field(
        default=None, metadata=option("write N sentences of --notes to --out", metavar="N", low=1)
    )
    key: str | None = field(
        default=None, metadata=option("also write the rules' labels of them, as .tsv or .csv", metavar="FILE")
    )
    seed: int = field(default=0, metadata=option("seed of the sample", metavar="N", low=0, high=LARGEST_SEED))
