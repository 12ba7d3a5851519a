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
            own = file.schema_arrow.names
            names = choose([*own, *(name for name in partition if name not in own)]).names
            inside = [name for name in names.values() if name in own]
            for batch in file.iter_batches(batch_size=chunk_rows, columns=inside):
                yield pa.table(
                    {
                        role: batch.column(name) if name in own else pa.repeat(pa.scalar(partition[name]), len(batch))
                        for role, name in names.items()
                    }
                )
    except (pa.ArrowException, OSError) as error:
        raise TableError(f" is not a readable Parquet file ({type(error).__name__})") from None
