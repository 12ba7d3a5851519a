"""Tables as Parquet."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinical_notes.tables.columns import Choose, is_header, longest_name
from clinical_notes.tables.errors import TableError
from clinical_notes.tables.tally import Tally
from clinical_notes.tables.values import is_text, plain


def read_parquet(
    path: Path, choose: Choose, chunk_rows: int, partition: Mapping[str, str | None], tally: Tally
) -> Iterator[pa.Table]:
    """Columns with the types that they have in the file; a header that comes again is dropped.

    Args:
        partition: columns that the names of the file's folders give, with their value.

    Raises:
        TableError: damaged, or no such columns.
    """
    try:
        with pq.ParquetFile(path) as file:
            own, ranges = file.schema_arrow.names, _range_index(file.schema_arrow)
            others = [name for name in (*ranges, *partition) if name not in own]
            names = choose([*own, *others]).read
            row = 0
            # Only a table of texts alone can have a header as a row.
            may_repeat = not ranges and all(map(_holds_text, file.schema_arrow.types))
            wanted = own if may_repeat else [name for name in names.values() if name in own]
            batches = file.iter_batches(chunk_rows, columns=wanted)
            for batch in _without_headers(batches, tally) if may_repeat else batches:
                rows = slice(row, row + len(batch))
                yield pa.table(
                    {
                        role: batch.column(name)
                        if name in own
                        else pa.array(ranges[name][rows])
                        if name in ranges
                        else pa.repeat(pa.scalar(partition[name]), len(batch))
                        for role, name in names.items()
                    }
                )
                row = rows.stop
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(f" is not a readable Parquet file ({type(error).__name__})") from None


def _holds_text(of: pa.DataType) -> bool:
    return is_text(of.value_type if pa.types.is_dictionary(of) else of)


def _without_headers(batches: Iterator[pa.RecordBatch], tally: Tally) -> Iterator[pa.RecordBatch]:
    row = 0
    for batch in batches:
        headers = _headers(batch, row)
        tally.headers += len(headers)
        row += len(batch) - len(headers)
        yield batch.take(pa.array(sorted(set(range(len(batch))) - headers), pa.int64())) if headers else batch


def _headers(batch: pa.RecordBatch, first_row: int) -> set[int]:
    """Places of the rows that are the header."""
    names = batch.schema.names
    columns = [plain(column).cast(pa.large_binary()) for column in batch.columns]
    most_bytes = 4 * longest_name(names)
    short = [pc.less_equal(pc.binary_length(column), most_bytes).fill_null(True) for column in columns]
    rows = np.flatnonzero(np.logical_and.reduce([mask.to_numpy(zero_copy_only=False) for mask in short]))
    fields = [column.take(pa.array(rows)).to_pylist() for column in columns]
    texts = [[(value or b"").decode(errors="replace") for value in column] for column in fields]
    found = zip(rows.tolist(), zip(*texts, strict=True), strict=True)
    return {row for row, values in found if is_header(values, names, first_row + row)}


def _range_index(schema: pa.Schema) -> dict[str, range]:
    """The index of a DataFrame of pandas that counts evenly: the file has it as a remark, and not as a column."""
    indices = (schema.pandas_metadata or {}).get("index_columns", [])
    return {
        index["name"]: range(index["start"], index["stop"], index["step"])
        for index in indices
        if isinstance(index, dict) and isinstance(index.get("name"), str)
    }
