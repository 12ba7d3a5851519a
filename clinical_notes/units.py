"""The table that passes from the annotated notes to the labelled examples: one row per unit of text."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

UnitKind = Literal["note", "sentence", "row"]

GROUP = "group_"
"""Prefix of the columns that examples are grouped by."""

AFFIRMED, NEGATED, UNCERTAIN = "affirmed", "negated", "uncertain"
RESOLVED, HISTORICAL, HYPOTHETICAL, OTHER = "resolved", "historical", "hypothetical", "other"
"""Statuses of mentions; see ``run_folder.settings.STATUSES``."""

_ROWS_PER_BATCH = 50_000

MENTION = pa.struct(
    [
        pa.field("concept", pa.string()),
        pa.field("assertion", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
    ]
)

UNITS = pa.schema(
    [
        pa.field("note", pa.int64()),  # 0-based data row of the source table
        pa.field("sentence", pa.int32()),  # index within the note; 0 for unit = note
        pa.field("copy", pa.int64()),  # the same in all units of notes with the same text
        pa.field("patient", pa.string()),
        pa.field("category", pa.string()),
        pa.field("groups", pa.list_(pa.string())),  # values of the columns to group by, in order
        pa.field("text", pa.string()),  # cleaned
        pa.field("mentions", pa.list_(MENTION)),  # in order of appearance, offsets into the cleaned text
        pa.field("sure", pa.list_(pa.float32())),  # of labels given as numbers: one for each column; else empty
    ]
)


Units: TypeAlias = pa.Table | IO[bytes]
"""A table with the schema ``UNITS``, in memory or in an open Parquet file."""


def same_text(text: str) -> str:
    """The note as its copies have it: without outer blanks, and with the same line ends."""
    return text.strip().replace("\r\n", "\n")


def copy_number(text: str) -> int:
    """The same in every process for a note and its copies."""
    digest = hashlib.blake2b(same_text(text).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def write_units(tables: Iterable[pa.Table], file: IO[bytes]) -> None:
    """Keep tables of units as a Parquet file, in order; a few of them are in memory at a time."""
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(file, UNITS, compression="lz4", use_dictionary=["patient", "category"]) as writer:
        for table in tables:
            waiting.append(table)
            if sum(map(len, waiting)) >= _ROWS_PER_BATCH:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        writer.write_table(pa.concat_tables([UNITS.empty_table(), *waiting]))


def batches_of(units: Units, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """These columns of all units, a part at a time."""
    if isinstance(units, pa.Table):
        yield from units.select(columns).to_batches(max_chunksize=_ROWS_PER_BATCH)
        return
    with pq.ParquetFile(units) as file:
        yield from file.iter_batches(_ROWS_PER_BATCH, columns=list(columns))
    pa.default_memory_pool().release_unused()


def rows_of(units: Units, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
    """These columns of some units, by their places in ascending order; text is large strings, as pandas keeps it."""
    schema = pa.schema([pa.field("text", pa.large_string()) if n == "text" else UNITS.field(n) for n in columns])
    taken = [schema.empty_table()]
    start = 0
    for batch in batches_of(units, columns):
        first, last = np.searchsorted(rows, [start, start + batch.num_rows])
        if first < last:
            taken.append(pa.Table.from_batches([batch.take(pa.array(rows[first:last] - start))]).cast(schema))
        start += batch.num_rows
    return pa.concat_tables(taken)
