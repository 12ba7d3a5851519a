"""The settings of a run: all that decides what it finds."""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from run_folder.options import name_of, option
from run_folder.records import from_plain

SYNTHETIC = "synthetic"
"""Value of ``path`` where the program makes the notes itself."""
NO_PATIENTS = "none"
"""Value of ``patient_column`` where each note counts as one patient."""
EMBEDDED_MODEL = "all-MiniLM-L6-v2"
"""The encoder that is installed with the program."""
DeployedEpoch = Literal["best", "last"]
"""Which epoch's model a trial deploys, of those that could be: the best by macro F1 on validation, or the last."""

LARGEST_SEED = 2**32 - 1
"""What NumPy's and scikit-learn's generators take."""
MOST_PATIENTS, MOST_TRIALS, MOST_EPOCHS, MOST_CYCLES = 1_000_000, 100_000, 10_000, 100
"""More than any search needs: what is larger was mistyped."""


@dataclass(frozen=True)
class NotesSettings:
    """Which notes are read, and from which columns.

    Attributes:
        path: one table or folder of notes, or several that hold the notes together.
        text_column, patient_column, category_column: a default also takes the usual names of such a column.
    """

    path: str | tuple[str, ...] = field(
        default=SYNTHETIC,
        metadata=option(
            "a table of notes (CSV, JSON lines, Parquet or .xlsx), or a folder of tables or of .txt files; repeatable",
            name="notes", metavar="PATH", default="synthetic notes", repeatable=True,
        ),
    )  # fmt: skip
    patients: int = field(
        default=0,
        metadata=option("number of synthetic patients", metavar="N", low=1, high=MOST_PATIENTS),
    )
    text_column: str = field(
        default="TEXT",
        metadata=option("column of the texts", metavar="NAME", default="TEXT, or another usual name"),
    )
    patient_column: str = field(
        default="SUBJECT_ID",
        metadata=option(
            "column of the patients; none: each note counts as one patient; folder: the name of a .txt file's folder",
            metavar="NAME", default="SUBJECT_ID, or another usual name",
        ),
    )  # fmt: skip
    category_column: str = field(
        default="CATEGORY",
        metadata=option("column of the notes' categories", metavar="NAME", default="CATEGORY, or another usual name"),
    )
    sample: float = field(
        default=1.0,
        metadata=option(
            "read this fraction of the notes, drawn by the seed", metavar="FRACTION", default="all", above=0, high=1
        ),
    )
    category: tuple[str, ...] = field(
        default=(), metadata=option("read only notes of this category; repeatable", metavar="TYPE", repeatable=True)
    )
    group_by: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "also give test figures by this column of the notes; repeatable", metavar="COLUMN", repeatable=True,
            default="by category alone",
        ),
    )  # fmt: skip

    @property
    def is_synthetic(self) -> bool:
        return self.path == SYNTHETIC

    @property
    def paths(self) -> tuple[str, ...]:
        """The tables or folders; none where the notes are synthetic."""
        if self.is_synthetic:
            return ()
        return (self.path,) if isinstance(self.path, str) else self.path


STATUSES = ("affirmed", "negated", "resolved", "uncertain", "historical", "hypothetical", "other")
"""How a mention is asserted: resolved was there and is gone, hypothetical are risks, instructions and allergies too,
other is of someone else."""
POSITIVE = ("affirmed", "uncertain")
"""Statuses of mentions that count where nothing else is said."""
LABELLERS = ("rules", "medspacy")
"""What may tell the statuses of mentions, besides a class of the user's."""


@dataclass(frozen=True)
class LabelSettings:
    """How labelled examples are made from notes.

    Attributes:
        task: ``multilabel``: an example reports none, one or several symptoms; ``multiclass``: exactly one, as in the
            paper.
        negatives: training texts that report no symptom, for each one that does; those that deny one come first.
        most_test: the test patients' texts are all read, patient by patient, up to this number; half of it in
            validation.
        unit: ``note``: the symptom mentioned first, or of a multilabel task all symptoms of a whole note, which is read
            in windows; ``sentence``: the only symptom mentioned, or all of them; ``row``: a row of a table that has
            labels.
        stride: tokens of a window's end that the next one begins with again.
        note_rule: how a note's probability follows from its windows'.
        columns: of labels made by people or another model, in the place of the rules.
        raw_window: the author's reading of a note: its first characters, in lower case and otherwise as they are.
        symptoms: how many of the most frequent concepts become classes, or their names.
        mentions: whether the text keeps or masks the names of the classes.
        negated: ``drop`` counts the mentions of a status in ``positive``; ``keep`` counts every mention, as the paper's
            author did.
        positive: statuses of mentions that count.
        labeller: what tells the status of a mention: one of ``LABELLERS``, or ``MODULE:CLASS``.
        balance: cut every class down to the size of the rarest, in each split.
        split: fractions of train, validation and test.
        hold_back: surface forms of each class that train and validation never show.
    """

    task: Literal["multilabel", "multiclass"] = field(
        default="multilabel", metadata=option("a text reports none, one or several symptoms, or exactly one")
    )
    negatives: float = field(
        default=4.0,
        metadata=option(
            "training texts without a symptom, for each one with", metavar="N", above=0, high=1000,
            default="4; for multilabel",
        ),
    )  # fmt: skip
    most_test: int = field(
        default=20_000,
        metadata=option(
            "most texts in the test set; validation has at most half as many", metavar="N", low=100,
            default="20000; for multilabel",
        ),
    )  # fmt: skip
    unit: Literal["note", "sentence", "row"] = field(
        default="sentence",
        metadata=option(
            "an example is a sentence, a note (all of it in windows, or for multiclass its start), or a row that has "
            "labels already"
        ),
    )  # fmt: skip
    stride: int = field(
        default=32,
        metadata=option(
            "tokens by which windows of a note overlap, in whole sentences", metavar="N", low=0,
            default="32; for multilabel notes",
        ),
    )  # fmt: skip
    note_rule: Literal["largest", "noisy-or"] = field(
        default="largest",
        metadata=option(
            "a note's probability: the largest of its windows', or that of any of them if they were independent; for "
            "multilabel notes"
        ),
    )  # fmt: skip
    columns: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "columns of labels, in the place of the rules: one with names apart by ;, or one of 0 and 1 for each "
            "symptom; with unit row", name="labels", metavar="NAMES", default="the rules",
        ),
    )  # fmt: skip
    window_chars: int = field(
        default=1000,
        metadata=option("number of characters of a note that are read; for multiclass", metavar="N", low=1),
    )
    raw_window: bool = False
    symptoms: int | tuple[str, ...] = field(
        default=5, metadata=option("the K most frequent symptoms, or their names", metavar="K|NAMES")
    )
    mentions: Literal["keep", "mask"] = field(
        default="keep", metadata=option("keep the symptoms' names in the texts, or mask them")
    )
    negated: Literal["drop", "keep"] = field(
        default="drop", metadata=option("drop negated mentions, or count them as well")
    )
    positive: tuple[str, ...] = field(
        default=POSITIVE,
        metadata=option(
            f"statuses of the mentions that count, of {', '.join(STATUSES)}", metavar="STATUSES",
            default=",".join(POSITIVE),
        ),
    )  # fmt: skip
    labeller: str = field(
        default="rules",
        metadata=option(
            "what tells whether a mention is affirmed: rules, medspacy, or a class of your own",
            metavar="NAME|MODULE:CLASS",
        ),
    )  # fmt: skip
    lexicon: str | None = field(
        default=None,
        metadata=option("symptoms and their surface forms, in YAML", metavar="FILE", default="the built-in lexicon"),
    )
    absorb: tuple[str, ...] = field(
        default=(),
        metadata=option(
            'merge concepts into one, such as "pain=chest pain,back pain"; repeatable', metavar="RULE", repeatable=True
        ),
    )
    balance: bool = field(default=False, metadata=option("cut every class to the size of the rarest"))
    hold_back: int = field(
        default=0,
        metadata=option("surface forms of each symptom that training never shows", metavar="N", low=0, high=1000),
    )
    split: tuple[float, float, float] = field(
        default=(0.7, 0.1, 0.2), metadata=option("fractions of train, validation and test", metavar="A,B,C")
    )

    @property
    def in_windows(self) -> bool:
        """Whether a text is a whole note that is read in several windows."""
        return self.task == "multilabel" and self.unit == "note"


@dataclass(frozen=True)
class ModelSettings:
    """The encoder, and how it is trained and deployed."""

    name: str = field(
        default=EMBEDDED_MODEL,
        metadata=option(
            "hub name or folder of a BERT-type encoder", name="model", metavar="NAME|FOLDER",
            default=f"the built-in {EMBEDDED_MODEL}",
        ),
    )  # fmt: skip
    layers: int | None = field(
        default=None, metadata=option("keep only the encoder's first N layers", metavar="N", low=1)
    )
    max_length: int = field(
        default=128, metadata=option("number of tokens after which a text is truncated", metavar="N", low=8)
    )
    reduce_range: bool = field(
        default=False,
        metadata=option(
            "7-bit INT8 weights, for models that will run on CPUs without VNNI or AMX", default="what this CPU needs"
        ),
    )
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="auto",
        metadata=option("precision of the forward passes in training", default="auto: bfloat16 where it is fast"),
    )
    deploy: DeployedEpoch = field(
        default="best",
        metadata=option("a trial deploys its best epoch's model by macro F1 on validation, or its last epoch's"),
    )
    class_weights: Literal["none", "balanced"] = field(
        default="none", metadata=option("class weights of the cross-entropy")
    )
    sensitivity: float | None = field(
        default=None,
        metadata=option(
            "recall that each symptom's threshold is to reach on validation; for multilabel", metavar="SHARE",
            above=0, high=1, default="the threshold of largest F1",
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class SearchSettings:
    """What is searched, and for how long.

    Attributes:
        at_most: bytes of the models that are searched for.
        space: by strategy, what narrows its search space.
        seed: of sample, split, suggestions and training.
        warm_start: the earlier run whose best configurations are tried first.
        warm_configurations: by strategy, those configurations, as they were found when the run was created.
    """

    strategies: tuple[str, ...] = field(metadata=option("strategies to search, separated by commas", metavar="NAMES"))
    trials: int = field(
        default=4,
        metadata=option(
            "number of trials per strategy",
            metavar="N",
            low=1,
            high=MOST_TRIALS,
            default="20; 4 with synthetic notes, 2 in the demonstration",
        ),
    )
    epochs: int = field(default=5, metadata=option("number of epochs per trial", metavar="N", low=1, high=MOST_EPOCHS))
    reduction_factor: int = field(
        default=4,
        metadata=option(
            "ASHA continues 1 in N trials at each rung; 0 stops no trial early", metavar="N", low=2, high=MOST_TRIALS,
            unless=0,
        ),
    )  # fmt: skip
    cycles: int = field(
        default=3,
        metadata=option(
            "further cycles of as many epochs that the best baseline may gain by; one more is trained to compare with",
            metavar="N", low=0, high=MOST_CYCLES,
        ),
    )  # fmt: skip
    patience: int = field(
        default=3,
        metadata=option(
            "a trial ends, and deploys its model, after N epochs that gain nothing on validation; 0: never",
            metavar="N", low=0, high=MOST_EPOCHS,
        ),
    )  # fmt: skip
    at_most: int | None = None
    space: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata=option("narrow or fix hyperparameters, in YAML; replaces the built-in encoder's file", metavar="FILE"),
    )
    seed: int = field(
        default=0,
        metadata=option("seed of sample, split, suggestions and training", metavar="N", low=0, high=LARGEST_SEED),
    )
    warm_start: str | None = field(
        default=None,
        metadata=option("try the best configurations of an earlier run first; its name or folder", metavar="RUN"),
    )
    warm_configurations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All that decides what a run finds; two runs with equal settings on equal data are the same run."""

    notes: NotesSettings = NotesSettings()
    labels: LabelSettings = LabelSettings()
    model: ModelSettings = ModelSettings()
    search: SearchSettings

    def record(self) -> dict[str, Any]:
        """All fields by name, as ``run.json`` holds them: names are unique across the parts."""
        parts = (getattr(self, part.name) for part in dataclasses.fields(self))
        return {name_of(f): getattr(part, f.name) for part in parts for f in dataclasses.fields(part)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], where: str = "settings") -> "RunSettings":
        """Read what ``record`` gave; unknown names are ignored, and missing ones have their default.

        Args:
            where: the file, for the error.

        Raises:
            InputError: a value has another type.
        """
        parts = {
            part: {f.name: record[name_of(f)] for f in dataclasses.fields(of) if name_of(f) in record}
            for part, of in PARTS.items()
        }
        return cls(**{part: from_plain(values, PARTS[part], where) for part, values in parts.items()})

    @classmethod
    def of_run(cls, record: Mapping[str, Any], where: str = "settings") -> "RunSettings":
        """As ``from_record``, of a run that may be older than the choice of a task, than cycles, or than patience."""
        return cls.from_record({"task": "multiclass", "cycles": 0, "patience": 0, **record}, where)

    def changed(self, **values: Any) -> "RunSettings":
        """A copy with other values, by the names of ``record``. Raises: TypeError: there is no such name."""
        record = self.record()
        if unknown := set(values) - set(record):
            raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
        return RunSettings.from_record(record | values)


PARTS: Mapping[str, type[Any]] = typing.get_type_hints(RunSettings)
"""The parts of the settings by name."""
NAMES: Mapping[str, frozenset[str]] = {
    part: frozenset(map(name_of, dataclasses.fields(of))) for part, of in PARTS.items()
}
"""Names of the settings in each part, as in ``RunSettings.record``."""
