"""Every reader, by its name in the table. Whoever writes a new one adds it here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mutation import readers, strangers
from mutation.readers import Reader

#: By name, what makes a reader with its valid files, in a directory of its own.
READERS: Mapping[str, Callable[[Path], Reader]] = {
    "plan": readers.plan_reader,
    "profile": readers.profile_reader,
    "trace": readers.trace_reader,
    "checkpoint": readers.checkpoint_reader,
    "directions": readers.directions_reader,
    "adapter": strangers.adapter_reader,
    "jsonl": strangers.jsonl_reader,
    "csv": strangers.csv_reader,
    "parquet": strangers.parquet_reader,
}
