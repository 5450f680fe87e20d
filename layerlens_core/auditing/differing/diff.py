"""Compare two runs: which decisions changed, and which inputs changed them."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from attrs import evolve, frozen

from layerlens_core.auditing.differing.found import ChangedDecision, ChangedInput, Combination, Difference, Effect
from layerlens_core.auditing.differing.inputs import Input, differing_inputs
from layerlens_core.auditing.differing.replay import Decisions, Replay, decisions_of
from layerlens_core.auditing.differing.side import Side, side
from layerlens_core.errors import PlanError
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.costs import RESOURCES

#: Of more inputs at once no combination is tried, but for all of them: larger ones tell people nothing.
_MOST_TOGETHER = 2


def diff(first: str | Path, second: str | Path, *, registry: Registry | None = None) -> Difference:
    """How two runs differ, and why. The models are not needed, nor torch.

    The first run is planned anew with each input of the second in place of its own, one at a time: an input explains
    those changed layers that then get what the second run gives them. Versions and plugins cannot be taken from a run;
    they explain what the inputs give here otherwise than in the run.

    first: a run's directory.
    second: another's. Of another model, layers of the same names are compared.
    registry: of providers; by default those that are installed, and what `register` added.

    Raises `FileError` for a directory without a run, and for files that are damaged or of another version, and
    `PlanError` for runs that have no layer in common.
    """
    return difference(side(first), side(second), default() if registry is None else registry)


def difference(first: Side, second: Side, registry: Registry) -> Difference:
    """As `diff`, of runs that were read."""
    before, after = decisions_of(first.plan), decisions_of(second.plan)
    shared = [unit for unit in before if unit in after]
    if not shared:
        raise PlanError(
            f"{first.name} and {second.name} have no layer in common: one plans {first.plan.architecture}, the other "
            f"{second.plan.architecture}"
        )
    changed = [unit for unit in shared if before[unit] != after[unit]]
    inputs = differing_inputs(first, second, registry)
    takes = {each.name: each.take for each in inputs.found if each.take is not None}
    replay = Replay(first=first, asked=inputs.asked, takes=takes, registry=registry)
    causes = _Causes(replay=replay, shared=shared, changed=changed, before=before, after=after)
    told = tuple(causes.told(each) for each in inputs.found)
    combined, rest = causes.combined(told)
    every = replay.decisions(takes)
    return Difference(
        first=first.name,
        second=second.name,
        layers=len(shared),
        changed=tuple(ChangedDecision(unit=unit, before=before[unit], after=after[unit]) for unit in changed),
        only_first=tuple(unit for unit in before if unit not in after),
        only_second=tuple(unit for unit in after if unit not in before),
        costs={name: (getattr(first.plan.cost, name), getattr(second.plan.cost, name)) for name in RESOURCES},
        inputs=told,
        combinations=combined,
        together=None if isinstance(every, str) else sum(every.get(unit) == after[unit] for unit in changed),
        unexplained=rest,
        remarks=(
            *first.remarks,
            *second.remarks,
            *_not_replayed(first, replay.decisions(), before),
            *_not_replayed(second, every, after),
        ),
    )


@frozen(kw_only=True)
class _Causes:
    """What of the changes follows from which inputs.

    replay: of the first run.
    shared: layers of both.
    changed: those that are decided on differently.
    before: the first run's decisions.
    after: the second's.
    """

    replay: Replay
    shared: Sequence[str]
    changed: Sequence[str]
    before: Decisions
    after: Decisions

    def told(self, each: Input) -> ChangedInput:
        """An input with its effect."""
        effect = Effect(name=each.name, explains=())
        if each.take is not None:
            effect = self._effect(each.name, self.replay.decisions([each.name]))
        if each.of_here:
            effect = self._with_here(effect)
        parts = tuple(self._effect(name, self.replay.with_taken(take)) for name, take in each.parts.items())
        return ChangedInput(name=each.name, before=each.before, after=each.after, effect=effect, parts=parts)

    def _effect(self, name: str, outcome: Decisions | str) -> Effect:
        base = self.replay.decisions()
        if isinstance(base, str):
            return Effect(name=name, explains=None, refused=base)
        if isinstance(outcome, str):
            return Effect(name=name, explains=(), refused=outcome)
        moved = [unit for unit in self.shared if outcome.get(unit) != base.get(unit)]
        explains = tuple(unit for unit in self._settled(outcome) if unit in set(moved))
        return Effect(name=name, explains=explains, elsewhere=tuple(unit for unit in moved if unit not in explains))

    def _with_here(self, effect: Effect) -> Effect:
        """An effect with that of the versions and plugins that are here.

        They made what the first run's own inputs give here otherwise than in the run, and what is left once all inputs
        of the second are taken.
        """
        base, every = self.replay.decisions(), self.replay.decisions(self.replay.takes)
        if isinstance(base, str) or isinstance(every, str):
            refused = base if isinstance(base, str) else str(every)
            return evolve(effect, explains=None, refused=refused)
        left = {*self._settled(base), *(effect.explains or ())} | set(self.changed).difference(self._settled(every))
        moved = {unit for unit in self.shared if base.get(unit) != self.before[unit]} - set(self.changed)
        elsewhere = [unit for unit in self.shared if unit in moved or unit in effect.elsewhere]
        return evolve(effect, explains=tuple(unit for unit in self.changed if unit in left), elsewhere=tuple(elsewhere))

    def _settled(self, outcome: Decisions) -> list[str]:
        return [unit for unit in self.changed if outcome.get(unit) == self.after[unit]]

    def combined(self, told: Sequence[ChangedInput]) -> tuple[tuple[Combination, ...], tuple[str, ...]]:
        """What only several inputs together explain, by as few as will do; and what is left.

        told: the inputs with what each explains alone.
        """
        explained = {unit for each in told for unit in each.effect.explains or ()}
        rest = [unit for unit in self.changed if unit not in explained]
        found: list[Combination] = []
        names = list(self.replay.takes)
        sizes = [size for size in range(2, len(names) + 1) if size <= _MOST_TOGETHER or size == len(names)]
        for chosen in (chosen for size in sizes for chosen in combinations(names, size)):
            if not rest or isinstance(self.replay.decisions(), str):
                break
            outcome = self.replay.decisions(chosen)
            if isinstance(outcome, str):
                continue
            if settled := [unit for unit in self._settled(outcome) if unit in rest]:
                found.append(Combination(inputs=chosen, explains=tuple(settled)))
                rest = [unit for unit in rest if unit not in settled]
        return tuple(found), tuple(rest)


def _not_replayed(run: Side, outcome: Decisions | str, decisions: Decisions) -> list[str]:
    """That a run's own inputs do not give its decisions here."""
    if isinstance(outcome, str):
        return [f"{run.name} cannot be planned anew here: {outcome}"]
    others = sum(outcome.get(unit) != decision for unit, decision in decisions.items())
    if not others:
        return []
    return [
        f"the inputs of {run.name} give other decisions here than it holds, on {counted(others, 'layer')}: other "
        f"versions or plugins made it, or it was changed; layerlens audit {run.name} says more"
    ]


def counted(number: int, what: str) -> str:
    """Such as ``1 layer`` or ``2 layers``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
