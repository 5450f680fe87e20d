"""What an audit writes down as it goes."""

from collections.abc import Iterable
from typing import Any

from attrs import define, field

from layerlens_core.auditing.fields import count, differences
from layerlens_core.auditing.findings import Checked, Finding, Kind, NotReplayed


@define(kw_only=True)
class Sheet:
    """Findings so far, what was not replayed, and what was checked.

    ulps: by how many units in the last place computed numbers may differ.
    """

    ulps: int = 0
    findings: list[Finding] = field(factory=list)
    not_replayed: list[NotReplayed] = field(factory=list)
    _checked: dict[tuple[str, str], int] = field(factory=dict)

    def find(self, file: str, where: str, expected: Any, found: Any, why: str, kind: Kind) -> None:
        """Note a field that does not follow."""
        self.findings.append(Finding(file=file, field=where, expected=expected, found=found, why=why, kind=kind))

    def skip(self, what: str, why: object) -> None:
        """Note what cannot be replayed."""
        self.not_replayed.append(NotReplayed(what=what, why=str(why)))

    def tick(self, file: str, what: str, values: int = 1) -> None:
        """Note that values were checked."""
        self._checked[file, what] = self._checked.get((file, what), 0) + values

    def compare(self, file: str, what: str, expected: Any, found: Any, *, at: str = "", why: str) -> None:
        """Note every field in which what was found is not what follows.

        file: that was read.
        what: is compared, in words.
        expected: of what JSON has.
        found: likewise, of the file.
        at: where in the file.
        why: what it follows from.
        """
        self.tick(file, what, count(expected))
        for each in differences(expected, found, ulps=self.ulps, field=at):
            self.find(file, each.field, each.expected, each.found, why, "derivation")

    def agree(self, file: str, where: str, expected: Any, found: Any, why: str, kind: Kind) -> bool:
        """Note a field where two values are not equal; returns whether they are."""
        self.tick(file, "links")
        if expected == found:
            return True
        self.find(file, where, expected, found, why, kind)
        return False

    @property
    def checked(self) -> Iterable[Checked]:
        """What was checked, and how often."""
        return tuple(Checked(file=file, what=what, count=number) for (file, what), number in self._checked.items())
