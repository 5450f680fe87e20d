"""Every reader, by its name in the table. Whoever writes a new one adds it here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mutation import adapters, comparisons, cores, readers, rows
from mutation.readers import Reader

#: By name, what makes a reader with its valid files, in a directory of its own.
READERS: Mapping[str, Callable[[Path], Reader]] = {
    "plan": readers.plan_reader,
    "profile": readers.profile_reader,
    "trace": readers.trace_reader,
    "checkpoint": readers.checkpoint_reader,
    "directions": readers.directions_reader,
    "subspace": readers.subspace_reader,
    "adapter": adapters.adapter_reader,
    "core": cores.core_reader,
    "patterns": adapters.patterns_reader,
    "names": adapters.names_reader,
    "jsonl": rows.jsonl_reader,
    "csv": rows.csv_reader,
    "parquet": rows.parquet_reader,
    "comparison": comparisons.comparison_reader,
    "gains": comparisons.gains_reader,
}
