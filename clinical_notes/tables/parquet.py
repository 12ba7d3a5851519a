"""Tables as Parquet."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_notes.tables.columns import Choose
from clinical_notes.tables.errors import TableError


def read_parquet(
    path: Path, choose: Choose, chunk_rows: int, partition: Mapping[str, str | None]
) -> Iterator[pa.Table]:
    """Columns with the types that they have in the file.

    Args:
        partition: columns that the names of the file's folders give, with their value.

    Raises:
        TableError: damaged, or no such columns.
    """
    try:
        with pq.ParquetFile(path) as file:
            own, ranges = file.schema_arrow.names, _range_index(file.schema_arrow)
            others = [name for name in (*ranges, *partition) if name not in own]
            names = choose([*own, *others]).names
            row = 0
            for batch in file.iter_batches(chunk_rows, columns=[name for name in names.values() if name in own]):
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


def _range_index(schema: pa.Schema) -> dict[str, range]:
    """The index of a DataFrame of pandas that counts evenly: the file has it as a remark, and not as a column."""
    indices = (schema.pandas_metadata or {}).get("index_columns", [])
    return {
        index["name"]: range(index["start"], index["stop"], index["step"])
        for index in indices
        if isinstance(index, dict) and isinstance(index.get("name"), str)
    }
