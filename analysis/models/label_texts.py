"""Label texts with an exported model: in a stream, in bounded memory."""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.models.export import INPUT_FILE, KNOWN_TOKENS_FILE, check_export
from analysis.text_tables import defused
from clinical_notes.batches import TokenisedExamples, tokenise
from clinical_notes.inputs import InputMaker, InputSettings
from clinical_notes.known_tokens import KnownTokens
from clinical_notes.tables.columns import ID, NoteColumns
from clinical_notes.tables.read import read_rows
from clinical_notes.tables.tally import Tally
from run_folder.errors import InputError
from run_folder.folder import private_opener
from run_folder.lock import held, staged_next_to
from trainables.parts.deployed import ONNX_FILE, OnnxRunner, int8_overflows, predict
from trainables.parts.model.stored import load_tokenizer
from trainables.parts.tasks import NOTE_RULES, TASKS

ENDINGS = (".csv", ".parquet")
"""Of a file of labels."""
_MANY_UNLIKE = 0.05
"""Share of texts unlike the training texts above which a line says so; about 0.01 is usual."""
_MANY_UNKNOWN = 0.01
"""Share of unknown tokens above which a line says so."""
CHUNK = 4_096
"""Texts that are sorted by length and labelled together."""


@dataclass
class Summary:
    """What was labelled.

    Attributes:
        texts: rows written.
        empty: texts with nothing to read, written without a label.
        cut: texts that fill all that the model reads, or are longer.
        tokens, unknown, unseen: tokens that were read, those of them that the tokenizer does not know, and those that
            no training text has.
        inputs, unlike: texts, sentences or windows that were read, and those of them with a larger share of unseen
            tokens than nearly all of the run's validation examples.
    """

    texts: int = 0
    empty: int = 0
    cut: int = 0
    tokens: int = 0
    unknown: int = 0
    unseen: int = 0
    inputs: int = 0
    unlike: int = 0

    @property
    def warnings(self) -> list[str]:
        """What a reader of the labels must know of the texts."""
        found = []
        if self.unlike > _MANY_UNLIKE * self.inputs:
            found.append(
                f"{self.unlike / self.inputs:.0%} of the texts or their parts have words that training did not show, "
                f"{self.unseen / max(1, self.tokens):.1%} of all tokens: check the labels of some"
            )
        if self.unknown > _MANY_UNKNOWN * self.tokens:
            found.append(f"{self.unknown / self.tokens:.1%} of all tokens are unknown to the tokenizer")
        return found


class ExportedModel:
    """An exported folder, ready to label texts.

    Args:
        threads: of ONNX Runtime, within one operator.

    Attributes:
        thresholds: (symptoms,) from which probability on each is said; None where the likeliest is, always one.
        in_windows: whole notes are read, in windows.
        known: tokens of the training texts; None in exports of version 0.2.
        unknown_token_id: None where the tokenizer knows every text.

    Raises:
        InputError: the folder is no whole export, was changed, or holds no ONNX graph.
    """

    def __init__(self, directory: str | Path, threads: int = 1) -> None:
        path = Path(directory)
        self._header = check_export(path)
        if not (path / ONNX_FILE).exists():
            raise InputError(f"{path}: has no {ONNX_FILE}; the model was made for GPUs, export it from a run on a CPU")
        settings = InputSettings.from_record(json.loads((path / INPUT_FILE).read_text("utf-8")))
        if self._header.model.thresholds is not None:
            settings = replace(settings, task="multilabel")  # which the first of such exports do not say
        self.symptoms, self.max_length = settings.symptoms, settings.max_length
        self._model = OnnxRunner(path / ONNX_FILE, threads)
        self._tokenizer = load_tokenizer(path)
        self.unknown_token_id: int | None = self._tokenizer.unk_token_id
        self.inputs = InputMaker(settings, self._tokenizer)
        self.combined = NOTE_RULES[settings.note_rule]
        self.in_windows = settings.in_windows
        thresholds = self._header.model.thresholds
        self.thresholds = None if thresholds is None else np.array([thresholds[name] for name in self.symptoms])
        self._task = TASKS[settings.task]
        known = path / KNOWN_TOKENS_FILE  # which exports of version 0.2 lack
        self.known = KnownTokens.from_record(json.loads(known.read_text("utf-8"))) if known.exists() else None

    def overflows_here(self) -> bool:
        """Whether this CPU's INT8 kernels would overflow on the model's 8-bit weights."""
        is_int8 = self._header.model.runtime == "onnxruntime"
        return is_int8 and not self._header.settings.get("reduce_range", False) and int8_overflows()

    def read(self, inputs: list[str]) -> "Reading":
        """Tokens of texts that ``inputs`` has made, and (n, symptoms) probabilities.

        They run in batches of similar length. A dynamically quantized model's activations share a scale in a batch,
        so that its figures for a text move a little (in the third decimal or so) with the other texts of the batch.
        """
        encoded = self._tokenise(inputs)
        logits = predict(self._model.logits, encoded, self._tokenizer.pad_token_id)
        return Reading(encoded, self._task.probabilities(logits))

    def _tokenise(self, inputs: list[str]) -> TokenisedExamples:
        # A word is at least one piece, so that what comes after max_length words is not read.
        heads = [" ".join(text.split(maxsplit=self.max_length)[: self.max_length]) for text in inputs]
        return tokenise(self._tokenizer, [""] * len(heads), heads, None, self.max_length)


class Reading(NamedTuple):
    """What a model read, and what it made of it."""

    tokens: TokenisedExamples
    probabilities: NDArray[np.float64]


class Text(NamedTuple):
    """A text to label.

    Attributes:
        row: from 0.
        id: what its table calls it; None where no column of identifiers was asked for.
    """

    row: int
    text: str
    id: str | None = None


def rows_of_file(path: str | Path, columns: NoteColumns, tally: Tally | None = None) -> Iterator[Text]:
    """The texts of a table, with their identifiers where ``columns`` names some. Raises: InputError."""
    for frame in read_rows(path, columns=columns, chunk_rows=CHUNK, setting="file", tally=tally):
        ids = frame[f"{ID}{columns.id}"].tolist() if columns.id else [None] * len(frame)
        yield from map(Text, frame["note"].tolist(), frame["text"].tolist(), ids)


def rows_of_lines(stream: IO[bytes]) -> Iterator[Text]:
    """The lines of a stream as texts. Raises: InputError: undecodable bytes."""
    for number, line in enumerate(stream):
        try:
            yield Text(number, line.decode())
        except UnicodeDecodeError:
            raise InputError(f"standard input: line {number + 1} is not UTF-8; convert it to UTF-8") from None


@dataclass(frozen=True)
class LabelFormat:
    """What is written of a text.

    Attributes:
        by_sentence: a line per sentence.
        id_column: name of the column of identifiers; None: there is none.
        unsure: probabilities less than this from a threshold are neither yes nor no.
    """

    by_sentence: bool = False
    id_column: str | None = None
    unsure: float = 0.0


def label(model: ExportedModel, rows: Iterable[Text], out: "Writer", form: LabelFormat) -> Summary:
    """Write a line per text, or per sentence of each: its row, what it reports and the probabilities; no text.

    A model that says of each symptom whether it is reported reads all sentences or windows of a text; the text's
    probability is the largest of theirs, or as the run's note rule says.
    """
    summary = Summary()
    units = _units(model, rows, form.by_sentence)
    while chunk := _next_chunk(units):
        inputs = [text for unit in chunk for text in unit.inputs]
        of_unit = np.repeat(np.arange(len(chunk)), [len(unit.inputs) for unit in chunk])
        found = np.empty((0, len(model.symptoms)))
        if inputs:
            read = model.read(inputs)
            found = read.probabilities
            _count(summary, model, read.tokens, of_unit)
        probabilities = model.combined(found, of_unit, len(chunk))
        out.write(_frame(model, chunk, probabilities, form))
        summary.texts += len(chunk)
        summary.empty += sum(not unit.inputs for unit in chunk)
    if not summary.texts:  # a file with its header alone
        out.write(_frame(model, [], np.empty((0, len(model.symptoms))), form))
    return summary


def _count(summary: Summary, model: ExportedModel, read: TokenisedExamples, of_unit: NDArray[np.int64]) -> None:
    if not model.in_windows:  # which are filled to the end, and cut nothing
        summary.cut += len(np.unique(of_unit[read.lengths >= model.max_length]))
    summary.tokens += len(read.tokens)
    summary.unknown += int((read.tokens == model.unknown_token_id).sum()) if model.unknown_token_id is not None else 0
    if model.known is not None:
        unseen = model.known.unseen(read)
        summary.unseen += int(unseen.sum())
        summary.inputs += len(read)
        summary.unlike += int((unseen > model.known.most_unseen * read.lengths).sum())


@dataclass(frozen=True)
class _Unit:
    """What gets a line: a text, or a sentence of one; and what the model reads of it."""

    of: Text
    sentence: int
    inputs: Sequence[str]


def _units(model: ExportedModel, rows: Iterable[Text], by_sentence: bool) -> Iterator[_Unit]:
    for of in rows:
        if by_sentence:
            for sentence, cleaned in model.inputs.sentences(of.text):
                yield _Unit(of, sentence, [cleaned] if cleaned.strip() else [])
        else:
            yield _Unit(of, 0, model.inputs.inputs(of.text))


def _next_chunk(units: Iterator[_Unit]) -> list[_Unit]:
    """The next units, as many as have ``CHUNK`` inputs together."""
    chunk: list[_Unit] = []
    inputs = 0
    for unit in units:
        chunk.append(unit)
        inputs += max(1, len(unit.inputs))
        if inputs >= CHUNK:
            break
    return chunk


def _frame(
    model: ExportedModel, chunk: Sequence[_Unit], probabilities: NDArray[np.float64], form: LabelFormat
) -> pd.DataFrame:
    empty = np.isnan(probabilities[:, 0])
    frame = pd.DataFrame({"row": [unit.of.row for unit in chunk]})
    if form.id_column is not None:
        frame[form.id_column] = pd.Series([unit.of.id for unit in chunk], dtype=object)
    if form.by_sentence:
        frame["sentence"] = [unit.sentence for unit in chunk]
    if model.thresholds is None:
        best = np.nan_to_num(probabilities).argmax(axis=1)
        frame["symptom"] = [None if none else model.symptoms[c] for none, c in zip(empty, best, strict=True)]
    else:
        said = probabilities >= model.thresholds
        for column, symptom in enumerate(model.symptoms):
            answers = np.where(said[:, column], "yes", "no").astype(object)
            answers[np.abs(probabilities[:, column] - model.thresholds[column]) < form.unsure] = "unsure"
            answers[empty] = None
            frame[symptom] = answers
    for column, symptom in enumerate(model.symptoms):
        frame[f"probability_{symptom}"] = probabilities[:, column]
    return frame


class Writer(Protocol):
    """Where labels are written, a frame at a time."""

    def write(self, frame: pd.DataFrame) -> None: ...


class _CsvWriter:
    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._header = stream, True

    def write(self, frame: pd.DataFrame) -> None:
        if "symptom" in frame:
            frame["symptom"] = frame["symptom"].map(defused)
        frame.rename(columns=defused).to_csv(
            self._stream, index=False, header=self._header, float_format="%.6f", lineterminator="\n"
        )
        self._header = False


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, frame: pd.DataFrame) -> None:
        words = {str(name): "string" for name in frame if frame[name].dtype.kind == "O" or name == "symptom"}
        table = pa.Table.from_pandas(frame.astype(words), preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def writer_to(path: Path | None) -> Iterator[Writer]:
    """Writes CSV to standard output, or a .csv or .parquet file that appears when it is whole, for its owner alone."""
    if path is None:
        yield _CsvWriter(sys.stdout)
        return
    temporary = staged_next_to(path)
    try:
        with open(temporary, "x", encoding="utf-8", newline="", opener=private_opener) as stream, held(temporary):
            if path.suffix == ".csv":
                yield _CsvWriter(stream)
            else:
                with contextlib.closing(_ParquetWriter(temporary)) as parquet:
                    yield parquet
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
