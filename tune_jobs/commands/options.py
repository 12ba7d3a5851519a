"""What the command line takes."""

import argparse
import math
import os
from importlib.metadata import version

from clinical_notes.synthetic import DEFAULT_PATIENTS
from search_spaces import STRATEGIES

AUTO = "auto"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="symptune",
        description="Find the best way to compress a clinical language model for symptom classification.",
    )
    top.add_argument("--version", action="version", version=f"symptune {version('symptune')}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")

    launch = commands.add_parser("launch", help="start a search, or continue the one that this very line started")
    _add_notes_options(launch)
    _add_model_options(launch)
    _add_search_options(launch)
    _add_execution_options(launch)

    resume = commands.add_parser("resume", help="continue an interrupted search")
    resume.add_argument("run", metavar="RUN", help="the run's name or folder")
    _add_resume_options(resume)
    _add_execution_options(resume)

    for name, text in (
        ("status", "how a run stands"),
        ("evaluate", "re-evaluate the best trials on the test set"),
        ("leaderboard", "print and write the tables of what has been evaluated"),
        ("report", "write a page of all that is known of a run, with its figures and tables"),
    ):
        parser_of = commands.add_parser(name, help=text)
        parser_of.add_argument("run", metavar="RUN", help="the run's name or folder")
        if name == "evaluate":
            _add_execution_options(parser_of)
            continue
        _add_storage_option(parser_of)
        if name == "leaderboard":
            _add_top_option(parser_of)

    export = commands.add_parser("export", help="write a trial's model as a folder that stands alone")
    export.add_argument("run", metavar="RUN", help="the run's name or folder")
    which = export.add_mutually_exclusive_group()
    which.add_argument("--strategy", metavar="NAME", help="its best trial (default: the best of all strategies)")
    which.add_argument("--trial", metavar="ID", help="a trial of the leaderboard")
    export.add_argument("--to", metavar="DIR", required=True, help="a new folder")
    _add_storage_option(export)

    predict = commands.add_parser("predict", help="label texts with an exported model")
    predict.add_argument("model", metavar="DIR", help="what export wrote")
    predict.add_argument("file", metavar="FILE", help=".csv, .csv.gz or .parquet; -: a text per line of standard input")
    predict.add_argument("--out", metavar="FILE", help=".csv or .parquet (default: CSV to standard output)")
    predict.add_argument("--text-column", metavar="NAME", default="TEXT", help="default TEXT")
    predict.add_argument("--sentences", action="store_true", help="label each sentence of every text")
    predict.add_argument("--threads", metavar="N", type=int, default=os.cpu_count() or 1, help="default: all cores")

    paper = commands.add_parser("compare-paper", help="lay the run's tables beside the paper's, and judge its claims")
    paper.add_argument("run", metavar="RUN", help="the run's name or folder")
    _add_storage_option(paper)

    dashboard = commands.add_parser("dashboard", help="open the studies in optuna-dashboard, the trials in TensorBoard")
    _add_dashboard_options(dashboard)

    audit = commands.add_parser("audit-labels", help="score the labelling rules against labels made by people")
    _add_audit_options(audit)
    return top


def cluster_address(options: argparse.Namespace) -> str | None:
    """The cluster that a command is to use, if it is one that uses any."""
    return (options.address or os.environ.get("RAY_ADDRESS") or None) if "address" in options else None


def _number(text: str) -> float:
    """A finite number; every comparison with NaN is false, so that no later check would see it."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"give a number, not {text!r}")
    return number


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"give a whole number from 1, not {text!r}")
    return int(text)


def _number_or_auto(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        return _number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"give a number or {AUTO}, not {text!r}") from None


def _fractions(text: str) -> tuple[float, ...]:
    try:
        train, validation, test = (_number(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"give three fractions, train,validation,test, not {text!r}") from None
    return train, validation, test


def _symptoms(text: str) -> int | tuple[str, ...]:
    return int(text) if text.isdigit() else _names(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _add_notes_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("notes")
    group.add_argument(
        "--notes", metavar="FILE", help="NOTEEVENTS as .csv, .csv.gz or .parquet (default: synthetic notes)"
    )
    group.add_argument("--patients", metavar="N", type=int, help=f"synthetic patients (default {DEFAULT_PATIENTS})")
    group.add_argument("--text-column", metavar="NAME", help="default TEXT")
    group.add_argument(
        "--patient-column", metavar="NAME", help="default SUBJECT_ID; without it every note is a patient of its own"
    )
    group.add_argument("--category-column", metavar="NAME", help="default CATEGORY")
    group.add_argument("--sample", type=_number, metavar="FRACTION", help="draw this fraction of the notes by the seed")
    group.add_argument("--category", metavar="TYPE", action="append", help="only notes of this type; repeatable")
    group.add_argument(
        "--group-by",
        metavar="COLUMN",
        action="append",
        help="also give test figures by this column of the notes; repeatable (default: by category alone)",
    )
    group = parser.add_argument_group("examples")
    group.add_argument("--protocol", choices=["paper"], help="the author's run; single options still override it")
    group.add_argument("--unit", choices=["note", "sentence"], help="what one example is (default sentence)")
    group.add_argument(
        "--window-chars", metavar="N", type=int, help="characters of a note that are read (default 1000)"
    )
    group.add_argument(
        "--symptoms", type=_symptoms, metavar="K|NAMES", help="the K most frequent, or names (default 5)"
    )
    group.add_argument("--mentions", choices=["keep", "mask"], help="whether texts keep the symptom's name")
    group.add_argument("--negated", choices=["drop", "keep"], help="whether negated mentions count (default drop)")
    group.add_argument("--lexicon", metavar="FILE", help="symptom concepts and their surface forms, in YAML")
    group.add_argument(
        "--absorb",
        action="append",
        metavar="RULE",
        help='concepts merged into one: "pain=chest pain,back pain"; repeatable',
    )
    group.add_argument(
        "--balance", action=argparse.BooleanOptionalAction, default=None, help="cut classes to the rarest one's size"
    )
    group.add_argument(
        "--hold-back", metavar="N", type=int, help="surface forms of each symptom that training never shows (default 0)"
    )
    group.add_argument("--split", type=_fractions, metavar="A,B,C", help="train,validation,test (default 0.7,0.1,0.2)")


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "gold", metavar="GOLD", nargs="?", help=".tsv or .csv with the columns text, affirmed and negated"
    )
    parser.add_argument("--symptoms", type=_names, metavar="NAMES", help="default: those that GOLD names")
    parser.add_argument("--lexicon", metavar="FILE", help="symptom concepts and their surface forms, in YAML")
    parser.add_argument(
        "--absorb", action="append", metavar="RULE", default=[], help='as in launch: "pain=chest pain,back pain"'
    )
    parser.add_argument(
        "--keep-apart", action="store_true", help="do not read chest pain as pain where GOLD names pain alone"
    )
    parser.add_argument("--show-errors", action="store_true", help="print the texts that are read otherwise")
    parser.add_argument("--out", metavar="FILE", help="scores as .csv or .json; the sheet as .tsv or .csv")
    group = parser.add_argument_group("a sheet to label instead")
    group.add_argument("--export-sample", metavar="N", type=int, help="write N sentences of --notes to --out")
    group.add_argument("--notes", metavar="FILE", help="NOTEEVENTS as .csv, .csv.gz or .parquet")
    group.add_argument("--text-column", metavar="NAME", default="TEXT", help="default TEXT")
    group.add_argument("--key", metavar="FILE", help="also write what the rules say of them, as .tsv or .csv")
    group.add_argument("--seed", metavar="N", type=int, default=0, help="of the sample (default 0)")


def _add_dashboard_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's name or folder")
    parser.add_argument("--port", metavar="N", type=int, default=8080, help="of optuna-dashboard (default 8080)")
    parser.add_argument("--tensorboard-port", metavar="N", type=int, default=6006, help="default 6006")
    parser.add_argument(
        "--optuna-storage", metavar="URL", help="the database that has the studies, if launch was given one"
    )
    _add_storage_option(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="hub name or folder of a BERT-type encoder (default: the embedded MiniLM)",
    )
    group.add_argument("--layers", metavar="N", type=int, help="cut the encoder to its first layers")
    group.add_argument("--max-length", metavar="N", type=int, help="word pieces of a text that are read (default 128)")
    group.add_argument(
        "--reduce-range",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="7-bit INT8 weights, for models that will run on CPUs without VNNI or AMX (default: as this CPU needs)",
    )
    group.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        help="of forward passes in training (default auto: bfloat16 where it is fast)",
    )
    group.add_argument("--class-weights", choices=["none", "balanced"], help="of the cross-entropy (default none)")


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument("--strategies", type=_names, metavar="NAMES", help=f"default {','.join(STRATEGIES)}")
    group.add_argument("--trials", metavar="N", type=int, help="per strategy (default 4)")
    group.add_argument("--epochs", metavar="N", type=int, help="per trial (default 5)")
    group.add_argument(
        "--reduction-factor", metavar="N", type=int, help="ASHA keeps 1 in so many at a rung; 0 stops none (default 4)"
    )
    group.add_argument(
        "--space", metavar="FILE", help="narrow or fix parameters, in YAML (replaces the embedded encoder's)"
    )
    group.add_argument(
        "--warm-start", metavar="RUN", help="try an earlier run's best configurations first; its name or folder"
    )
    group.add_argument("--seed", metavar="N", type=int, help="of sample, split, suggestions and training (default 0)")
    group.add_argument("--name", metavar="NAME", help="of the run (default: made of its settings)")


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to add")
    group.add_argument("--trials", metavar="N", type=int, help="extend the search to so many per strategy")
    group.add_argument(
        "--epochs", metavar="N", type=int, help="train each strategy's best trial on, to so many, as a new trial"
    )
    group.add_argument("--retry-failed", action="store_true", help="run failed trials again, as new trials")
    group.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    group.add_argument(
        "--force", action="store_true", help="go on although the data, model or versions are not the run's any more"
    )


def _add_execution_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    group.add_argument(
        "--cpus-per-trial",
        metavar="N|auto",
        type=_number_or_auto,
        default=AUTO,
        help="fractions share a core (default auto: 1, or more where memory would not hold a trial on every core)",
    )
    group.add_argument(
        "--gpus-per-trial",
        metavar="N|auto",
        type=_number_or_auto,
        default=0.0,
        help="fractions share a GPU; auto: as many trials on each as a measured one leaves room for (default 0)",
    )
    group.add_argument(
        "--max-concurrent",
        metavar="N",
        type=int,
        help="trials at once; those that an existing cluster does not hold yet wait for nodes to join "
        "(default: as many as it holds)",
    )
    group.add_argument("--time-budget", type=_number, metavar="SECONDS", help="stop searching then, and evaluate")
    group.add_argument(
        "--epoch-limit",
        type=_number,
        metavar="SECONDS",
        help="give a trial up whose epoch takes longer (default: none)",
    )
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help="HOST:PORT of an existing Ray cluster, auto, or ray://HOST:10001 from outside it "
        "(default: RAY_ADDRESS, else start one here)",
    )
    group.add_argument(
        "--optuna-storage",
        metavar="URL",
        help="database for the studies, such as postgresql://USER@HOST/DB (default: a journal file in the run)",
    )
    group.add_argument("--keep", metavar="N", type=int, default=3, help="finished models kept per strategy (default 3)")
    group.add_argument("--verbose", action="store_true", help="show Ray's own output")
    group.add_argument(
        "--seeds",
        metavar="N",
        type=int,
        default=3,
        help="seeds that each strategy's best configuration is trained with in the end; 1: none again (default 3)",
    )
    _add_storage_option(parser)
    _add_top_option(parser)
    _add_smallest_group_option(parser)


def _add_storage_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage", metavar="FOLDER|URI", default="runs", help="folder or URI that holds the runs (default ./runs)"
    )


def _add_top_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--top", metavar="N", type=int, default=1, help="best trials of each strategy to evaluate (default 1)"
    )
    parser.add_argument(
        "--margin",
        metavar="M",
        type=_number,
        help="of macro F1: a strategy worse than the baseline by less still does (default 0.01, or as last given)",
    )


def _add_smallest_group_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--smallest-group",
        metavar="N",
        type=_at_least_one,
        default=20,
        help="test examples that a group of its own has; smaller ones are taken together (default 20)",
    )
