"""Notes annotated by all nodes of a Ray cluster, through Ray Data."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import ray
from ray import data
from ray.data import DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from ray.exceptions import RayError, RayTaskError

from clinical_notes.annotate import Annotate, pieces_of
from clinical_notes.tables.tally import Tally
from clinical_notes.units import UNITS
from run_folder.errors import InputError, Problem

_BLOCK_BYTES = 8_000_000
"""Size of the notes of one task: about a second's work."""

Reader = Callable[..., Iterator[pd.DataFrame]]
"""Reads notes, and counts them in the argument ``tally``."""


class _Holder:
    """An actor that keeps the counts of the task that reads."""

    def __init__(self) -> None:
        self._tally = Tally()

    def put(self, tally: Tally) -> None:
        self._tally = tally

    def get(self) -> Tally:
        return self._tally


class _Notes(Datasource):  # type: ignore[misc]
    """One stream, since a compressed table can only be read from its start."""

    def __init__(self, read: Reader, holder: Any) -> None:
        super().__init__()
        self._read, self._holder = read, holder

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    @property
    def supports_distributed_reads(self) -> bool:
        return False  # other nodes may not have the file

    def get_read_tasks(self, *args: Any, **options: Any) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(partial(_blocks, self._read, self._holder), unknown)]


def _blocks(read: Reader, holder: Any) -> Iterator[pa.Table]:
    tally = Tally()
    for piece in pieces_of(read(tally=tally)):
        yield pa.Table.from_pandas(piece, preserve_index=False)
    ray.get(holder.put.remote(tally))


def annotate_on_cluster(read: Reader, annotator: Annotate, tally: Tally) -> Iterator[pa.Table]:
    """Units in the notes' order, as ``annotate_notes`` gives them, by all CPUs of the connected cluster.

    Args:
        read: reads the notes from their start; it is called once, on this node.
        tally: has the notes' counts after the last table.

    Raises:
        InputError: where the notes cannot be read on, or the cluster is lost.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a bad row is reported in one line, not by a traceback
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = _BLOCK_BYTES
    yield UNITS.empty_table()
    holder: Any = ray.remote(num_cpus=0)(_Holder).remote()
    with DataContext.current(context):
        notes = data.read_datasource(_Notes(read, holder), num_cpus=0, override_num_blocks=1)
        units = notes.map_batches(annotator, batch_format="pandas", batch_size=None, num_cpus=1)
    try:
        for table in units.iter_batches(batch_format="pyarrow", batch_size=None):
            yield table.select(UNITS.names).cast(UNITS)
        tally.take(ray.get(holder.get.remote()))
    except (RayError, InputError) as error:
        if reason := _input_error(error):
            raise reason from None
        if isinstance(error, RayTaskError):  # a bug here
            raise
        message = f"a node was lost while the notes were annotated ({type(error).__name__})"
        raise InputError(Problem("address", message, "run the command again")) from None


def _input_error(error: BaseException | None) -> InputError | None:
    """What is wrong with the notes, where that is why a task failed."""
    while error is not None and type(error) is not InputError:  # Ray's wrapper is a kind of InputError too
        error = getattr(error, "cause", None) or error.__cause__
    return InputError(*error.problems) if error is not None else None
