"""Compare: make the arms, find each one's rate, train all of them on one frozen model, and judge."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen
from transformers import PreTrainedModel

from layerlens_core.comparison.arms.budgets import BOUND_UNIFORM, other_bounds, own_budget, told_of_bounds
from layerlens_core.comparison.arms.eva import eva_ranks
from layerlens_core.comparison.arms.make import Dropped, make_arms
from layerlens_core.comparison.arms.uniform import NOTHING
from layerlens_core.comparison.compared import Comparison
from layerlens_core.comparison.ending import save
from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.comparison.judging.judgement import PLANNED, UNIFORM, Verdict
from layerlens_core.comparison.judging.verdict import check_labels, verdict
from layerlens_core.comparison.measured_gains import PREFIX, measured
from layerlens_core.comparison.options import CompareOptions
from layerlens_core.comparison.rate_search import Curve
from layerlens_core.comparison.rates import find_rates, weaknesses
from layerlens_core.comparison.recipe import recipe_of
from layerlens_core.comparison.setting import setting_of, split_off
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import Testbed, prepare_testbed
from layerlens_core.comparison.whole_runs import Done, at_found_rates, at_given_rates
from layerlens_core.errors import ComparisonError, ModelError
from layerlens_core.files.directions import Subspace
from layerlens_core.files.run import DIRECTIONS, SUBSPACE
from layerlens_core.inspection.inspect import check_bare
from layerlens_core.plugin.registry import Registry
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import inputs_alone
from layerlens_core.profiling.samples.batches import split
from layerlens_core.profiling.samples.sample import Sample, micro_batches
from layerlens_core.profiling.samples.tasks import pad_token_id
from layerlens_core.values.comparison import Arm, Job, Result, Schedule, Setting
from layerlens_core.values.plan import Plan, load_run
from layerlens_core.values.profile import Profile, Task

#: Samples whose inputs EVA looks at.
EVA_SAMPLES = 256


class Execute(Protocol):
    """Does jobs by whatever engine, and gives their results in their order."""

    def __call__(self, store: ResultStore, jobs: Sequence[Job], runner: Runner, /) -> list[Result]: ...


@frozen(kw_only=True)
class Means:
    """What does the work.

    execute: does the jobs; by default this process.
    registry: of providers.
    progress: called with what is done, how many steps of it, and of how many.
    overwrite: drop the results that are there.
    """

    execute: Execute = lambda store, jobs, runner: run_local(store, jobs, runner)
    registry: Registry | None = None
    progress: Callable[[str, int, int], None] = field(default=lambda stage, done, total: None)
    overwrite: bool = False


def compare(
    model: PreTrainedModel,
    run: str | Path,
    training: Iterable[Any],
    held_out: Iterable[Any] | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    overwrite: bool = False,
    registry: Registry | None = None,
    **options: Any,
) -> Comparison:
    """Train the run's plan beside uniform LoRA and other arms, and say what it is worth. The model is left as it was.

    Arms lie along the batch of one frozen model, whose dropout is off; results go into ``RUN/compare``, so that another
    call computes only what is missing.

    model: the planned one, without adapters.
    run: directory with the profile and the plan.
    training: samples or batches, as `layerlens_core.profile` takes them.
    held_out: likewise; by default a fifth of the training samples.
    progress: called with what is done, how many steps of it, and of how many.
    overwrite: drop the results that are there.
    registry: of providers; by default those that are installed.
    options: of `CompareOptions`, by name.

    Raises `ModelError` for another model than the planned one, or one that cannot be trained so; `PluginError` for arms
    that nothing provides; `FileError` for results of another model or data; `DataError`, `BudgetError`,
    `ComparisonError`.
    """
    plan, profile = load_run(run)
    task: Task = profile.task  # type: ignore[assignment]
    given = split(training, task, model)
    others = None if held_out is None else split(held_out, task, model)
    means = Means(registry=registry, overwrite=overwrite, progress=progress or (lambda stage, done, total: None))
    return compare_with(model, Path(run), (plan, profile), (given, others), CompareOptions(**options), means)


def compare_with(
    model: PreTrainedModel,
    run: Path,
    planned: tuple[Plan, Profile],
    samples: tuple[Sequence[Sample], Sequence[Sample] | None],
    options: CompareOptions,
    means: Means,
) -> Comparison:
    """As `compare`, with options and means as values.

    model: as in `compare`.
    run: its directory.
    planned: the run's plan and profile.
    samples: to train on, and held out.
    options: what is compared.
    means: what does the work.
    """
    plan, profile = planned
    check_bare(model)
    if options.seeds < 1 or options.batch < 1:
        raise ComparisonError("at least one seed and one sample a batch are needed")
    means.progress("how samples share a batch", 0, 1)
    testbed, notes = testbed_of(model, profile, samples, options)
    if (difference := plan.difference(testbed.inventory)) is not None:
        raise ModelError(difference)
    if options.only is None:
        check_labels(testbed.labels)
    arms, dropped = _arms(options, planned, means, testbed)
    setting = setting_of(testbed)
    store = ResultStore.open(run, setting, overwrite=means.overwrite)
    schedule = options.schedule(len(testbed.training))
    directions = _directions(arms, plan, run)
    subspaces = subspaces_of(profile, run, {arm.subspace for arm in arms})

    def done(stage: str, jobs: Sequence[Job]) -> list[Result]:
        runner = Runner(
            testbed=testbed,
            directions=directions,
            subspaces=subspaces,
            progress=lambda steps, total: means.progress(stage, steps, total),
        )
        return means.execute(store, jobs, runner)

    curves, found = _trained(arms, schedule, testbed, setting, options, done)
    gains, why_none = (None, None) if found is None else measured(arms, found, setting, profile, means.registry)
    comparison = Comparison(
        setting=setting.id,
        samples=len(testbed.training),
        schedule=schedule,
        arms=arms,
        dropped=dropped,
        curves=tuple(curves.values()),
        verdict=found,
        notes=(*notes, *told_of_bounds(plan, arms), *weaknesses(curves.values()), *([why_none] if why_none else [])),
        gains=gains,
    )
    save(comparison, recipe_of(comparison, plan), run, contradicted=bool(why_none))
    return comparison


def testbed_of(
    model: PreTrainedModel,
    profile: Profile,
    samples: tuple[Sequence[Sample], Sequence[Sample] | None],
    options: CompareOptions,
) -> tuple[Testbed, list[str]]:
    """What arms train and are judged on, and what is to be said of it; the same wherever it is made.

    model: without adapters.
    profile: of the run.
    samples: to train on, and held out; without these some are split off.
    options: what is compared.
    """
    (training, held_out), notes = samples, []
    if held_out is None:
        training, held_out = split_off(training, options.seed)
        notes.append(f"{len(held_out):,} of the samples were held out, since no others were given")
    task: Task = profile.task  # type: ignore[assignment]
    return prepare_testbed(model, task, training, held_out, compile=options.compile), notes


def _trained(
    arms: Sequence[Arm], schedule: Schedule, testbed: Testbed, setting: Setting, options: CompareOptions, done: Done
) -> tuple[Mapping[str, Curve], Verdict | None]:
    """How rates were found, where they were, and the verdict, where more than rates was asked for."""
    curves: Mapping[str, Curve] = {}
    if options.rates == "auto":
        curves = find_rates(
            arms,
            schedule,
            setting.id,
            lambda jobs: done("learning rates", jobs),
            setting.labels,
            seed=options.seed,
            new_head=bool(testbed.inventory.heads),
        )
    if options.only is not None:
        return curves, None
    rates: Mapping[str, float] = {}
    if options.rates == "auto":
        results, rates = at_found_rates(arms, curves, schedule, setting, options, done)
    else:
        results = at_given_rates(arms, options.rates, schedule, setting, options, done)
    found = verdict(results, setting.labels, tolerance=options.tolerance, confidence=options.confidence, rates=rates)
    return curves, found


def _arms(
    options: CompareOptions, planned: tuple[Plan, Profile], means: Means, testbed: Testbed
) -> tuple[tuple[Arm, ...], tuple[Dropped, ...]]:
    plan, profile = planned
    own = own_budget(plan)
    budgets = options.budgets or ((own,) if own else ())
    if not budgets:
        raise ComparisonError("the plan trains nothing that could be compared with uniform; give --budgets")
    names = tuple(dict.fromkeys((UNIFORM, *options.arms)))
    if options.only is None:
        more = [NOTHING] if any(name.startswith(PREFIX) for name in names) else []
        if PLANNED in names and other_bounds(plan) and not options.budgets:
            more.append(BOUND_UNIFORM)
        names = tuple(dict.fromkeys((*names, *more)))
    arms, dropped = make_arms(
        names,
        budgets,
        profile=profile,
        plan=plan,
        seed=options.seed,
        registry=means.registry,
        eva=_eva(testbed, options),
    )
    if not arms:
        raise ComparisonError(f"no arm can be trained: {dropped[0].name} {dropped[0].budget}: {dropped[0].reason}")
    return arms, dropped


def _eva(testbed: Testbed, options: CompareOptions) -> Callable[[int], Mapping[str, int]]:
    """PEFT's EVA on some of the training samples, for the arm of that name."""

    def ranks(rank: int) -> Mapping[str, int]:
        samples = testbed.training[:EVA_SAMPLES]
        pad, device = pad_token_id(testbed.model, testbed.task, options.batch), input_device(testbed.model)
        batches = [inputs_alone(on(device, batch)) for batch in micro_batches(samples, options.batch, pad)]
        with untouched(testbed.model):
            return eva_ranks(testbed.model, batches, [m.name for m in testbed.inventory.modules], rank=rank)

    return ranks


def _directions(arms: Sequence[Arm], plan: Plan, run: Path) -> Mapping[str, Any]:
    """What arms start along that start along the gradient."""
    if all(arm.start == "random" for arm in arms):
        return {}
    from layerlens_core.adaptation.apply import read_directions_of

    return read_directions_of(plan, "gradient", run) or {}


def subspaces_of(profile: Profile, run: Path, wanted: Collection[str] | None = None) -> Mapping[str, Subspace]:
    """What a profile's files hold for cores to lie in, by digest.

    profile: of the run.
    run: its directory.
    wanted: digests; None for all that the profile knows.

    Raises `FileError` where a file is missing, damaged, or another one.
    """
    from layerlens_core.adaptation.cores.subspaces import find_subspace

    written = {DIRECTIONS: profile.directions, SUBSPACE: None if profile.warm_up is None else profile.warm_up.digest}
    return {
        digest: find_subspace([run / name], fingerprint=profile.inventory.fingerprint, digest=digest)[1]
        for name, digest in written.items()
        if digest is not None and (wanted is None or digest in wanted)
    }
