"""What can go wrong, as types. Every message says what was expected, what was found, where, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

#: Characters of somebody else's text that a message shows.
_LONGEST = 300


class LayerLensError(Exception):
    """The root of all errors that LayerLens raises on purpose.

    exit_code: what the command line exits with: 2 for bad input, 1 for a failed check.
    told_by_another: of several processes that fail alike, another one prints the message.
    """

    exit_code = 2
    told_by_another = False


class DataError(LayerLensError):
    """Training data that cannot be read, or that lacks what the task needs."""


class ModelError(LayerLensError):
    """A model that cannot be loaded, inspected, or matched with a plan."""


class NonFiniteError(LayerLensError):
    """A loss or gradient that is NaN or infinite; names the module and the batch."""


class ScoreError(LayerLensError):
    """Scores or weights that cannot be aggregated."""


class BudgetError(LayerLensError):
    """A budget that cannot be read or cannot be met."""


class PlanError(LayerLensError):
    """A decision or a plan that breaks its contract."""


class PluginError(LayerLensError):
    """A plugin or provider that is missing, broken or ambiguous."""


class ComparisonError(LayerLensError):
    """Training runs that cannot be compared with each other."""


class FileError(LayerLensError):
    """A file of a run that is missing, damaged, of another version, or in the way."""


class VersionError(FileError):
    """A file of a run that another version of LayerLens wrote."""


class WorkersError(LayerLensError):
    """Processes that should share the work and do not, or that see different things."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``" Did you mean 'fisher'?"``, or an empty string where nothing is near."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def first_line(error: BaseException) -> str:
    """The first line of somebody else's error, for a message of ours; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return shown(lines[0], most=500) if lines else type(error).__name__


def shown(text: str, most: int = 40) -> str:
    """The beginning of somebody else's text for a message, with what would move a terminal's cursor written out."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:most])


def brief(text: object) -> str:
    """What stands in a file, for a message: in one line, and cut where it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
