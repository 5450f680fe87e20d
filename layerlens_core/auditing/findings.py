"""What an audit finds, as values: fields that do not follow, what could not be replayed, and what was checked."""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import frozen

#: Stands for a field that is not there, beside one that is.
NOTHING = "nothing"

#: By what a finding was made, the most precise first: a file's own reader; a value that was computed anew; what two
#: files say of the same; a file's digest, as another file names it; the trace's seal.
Kind = Literal["reader", "derivation", "link", "digest", "seal"]
_PRECISION: Mapping[Kind, int] = {"reader": 0, "derivation": 1, "link": 2, "digest": 3, "seal": 4}


@frozen(kw_only=True)
class Finding:
    """One field that does not follow.

    file: its name in the run's directory.
    field: where in the file, such as ``decisions[3].size``; empty where the whole file is meant.
    expected: what follows from the other recorded inputs.
    found: what stands there.
    why: what it should follow from, in words; or what is wrong, where nothing was expected in particular.
    kind: by what it was found.
    """

    file: str
    field: str
    expected: Any = None
    found: Any = None
    why: str
    kind: Kind

    @property
    def precision(self) -> int:
        """How precisely the field is named, 0 for the most."""
        return _PRECISION[self.kind]


@frozen(kw_only=True)
class NotReplayed:
    """What could not be computed anew.

    what: such as ``the scores of gora``.
    why: in words.
    """

    what: str
    why: str


@frozen(kw_only=True)
class Checked:
    """What was compared, and how many values of it.

    file: its name in the run's directory.
    what: in words.
    count: of values.
    """

    file: str
    what: str
    count: int


@frozen(kw_only=True)
class Audit:
    """What came of an audit.

    findings: fields that do not follow, those that are named most precisely first.
    not_replayed: what could not be computed anew, and why.
    checked: what was compared, and how often.
    ulps: by how many units in the last place computed numbers might differ; 0 where they had to be equal.
    other_versions: by package or platform, what was recorded and what is here, where the two differ.
    """

    findings: tuple[Finding, ...]
    not_replayed: tuple[NotReplayed, ...]
    checked: tuple[Checked, ...]
    ulps: int
    other_versions: Mapping[str, tuple[str, str]]

    @property
    def ok(self) -> bool:
        """Whether everything that was checked follows."""
        return not self.findings
