"""What ``layerlens compare`` does once its options are read: load, encode, train, print."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlens_core.cli.progress.shown import loading, progress_bar
from layerlens_core.cli.terminal import result, result_json, say
from layerlens_core.errors import DataError

if TYPE_CHECKING:
    from layerlens_core.comparison.compare import Execute
    from layerlens_core.comparison.compared import Comparison
    from layerlens_core.comparison.options import CompareOptions
    from layerlens_core.comparison.stacked.runner import Runner
    from layerlens_core.data.prepare import Prepared
    from layerlens_core.profiling.samples.sample import Sample
    from layerlens_core.values.plan import Plan
    from layerlens_core.values.profile import Profile

#: Rows are all taken unless the user says otherwise.
ALL = 2**31 - 1
#: Jobs that a process takes at once from what several of them share.
BLOCK = 16


def compare_run(
    run: Path, planned: "tuple[Plan, Profile]", options: "CompareOptions", given: dict[str, Any]
) -> "Comparison":
    """Load the model and the data of a comparison, compare, and write what was found into the run.

    run: its directory.
    planned: its plan and profile.
    options: what is compared.
    given: the command line's options of data and devices, by name.
    """
    loading(given["model"])
    from layerlens_core.comparison.compare import Means, compare_with

    prepared, samples = _loaded(planned[1], given)
    with progress_bar() as progress:
        means = Means(execute=_engine(run, options, given), progress=progress, overwrite=given["overwrite"])
        return compare_with(prepared.model, run, planned, samples, options, means)


def _engine(run: Path, options: "CompareOptions", given: dict[str, Any]) -> "Execute":
    """What does the jobs: this process, this and others, or a cluster of Ray."""
    from layerlens_core.comparison.jobs.join import run_joined
    from layerlens_core.comparison.jobs.local import run_local
    from layerlens_core.comparison.jobs.ray import run_ray

    if given["ray"]:
        import torch

        # Every trial loads model and data where it runs; what the options name has to lie there at the same place.
        make = partial(runner_there, run.resolve(), options, {**given, "as_json": False, "picture": None})
        resources = {"gpu": 1.0} if torch.cuda.is_available() and given["device"] != "cpu" else {"cpu": 1.0}
        return lambda store, jobs, runner: run_ray(store, jobs, make, block=BLOCK, resources=resources)
    if given["join"]:
        return lambda store, jobs, runner: run_joined(store, jobs, runner, block=BLOCK)
    return lambda store, jobs, runner: run_local(store, jobs, runner)


def runner_there(run: Path, options: "CompareOptions", given: dict[str, Any]) -> "Runner":
    """What trains jobs on another machine: the same model and data, loaded anew.

    run: the run's directory.
    options: what is compared.
    given: the command line's options of data and devices, by name.
    """
    from layerlens_core.adaptation.apply import read_directions_of
    from layerlens_core.comparison.compare import subspaces_of, testbed_of
    from layerlens_core.comparison.stacked.runner import Runner
    from layerlens_core.values.plan import load_run

    plan, profile = load_run(run)
    prepared, samples = _loaded(profile, given)
    testbed, _ = testbed_of(prepared.model, profile, samples, options)
    directions = {} if plan.directions is None else read_directions_of(plan, "gradient", run)
    return Runner(testbed=testbed, directions=directions or {}, subspaces=subspaces_of(profile, run))


def _loaded(
    profile: "Profile", given: dict[str, Any]
) -> "tuple[Prepared, tuple[Sequence[Sample], Sequence[Sample] | None]]":
    """The model where it is to run, the samples to train on, and the held-out ones where a file is named."""
    from layerlens_core.cli.measuring import choose_device
    from layerlens_core.profiling.distributed.workers import ALONE

    prepared = _prepared(profile, given)
    held_out = None if given["held_out"] is None else _encoded(prepared, given)
    prepared.model.to(choose_device(given["device"], ALONE))
    return prepared, (list(prepared.samples), held_out)


def print_comparison(comparison: "Comparison", run: Path, *, as_json: bool, picture: Path | None) -> None:
    """What was found, as a table, as JSON, and as a picture.

    comparison: what was found.
    run: its directory.
    as_json: print JSON in place of the table.
    picture: where to draw it.
    """
    from layerlens_core.comparison.compared import COMPARED
    from layerlens_core.comparison.jobs.store import COMPARISON
    from layerlens_core.files.run import GAINS, RECIPE

    if as_json:
        result_json((run / COMPARISON / COMPARED).read_text(encoding="utf-8"))
    else:
        from layerlens_core.cli.comparing.table import comparison_table, gains_table, rates_table
        from layerlens_core.cli.tables import results_console

        out = results_console()
        for dropped in comparison.dropped:
            say(f"left out: {dropped.name} {dropped.budget}: {dropped.reason}")
        if comparison.curves:
            out.print(rates_table(comparison.curves))
        if comparison.verdict is not None:
            out.print(comparison_table(comparison.verdict, width=out.width))
        if comparison.gains is not None:
            out.print(gains_table(comparison.gains))
        for note in comparison.notes:
            say(note)
        result(run / RECIPE)
        if comparison.gains is not None:
            result(run / GAINS)
    if picture is not None and comparison.verdict is not None:
        from layerlens_core.comparison.judging.picture import write_picture

        write_picture(comparison.verdict, picture)
        result(picture)


def _prepared(profile: "Profile", given: dict[str, Any]) -> "Prepared":
    from layerlens_core.data.prepare import DataOptions, prepare

    options = DataOptions(
        task=profile.task,  # type: ignore[arg-type]
        samples=given["samples"] or ALL,
        max_length=given["max_length"],
    )
    prepared = prepare(
        given["model"], given["data"], options,
        seed=given["seed"], dtype=given["dtype"], trust_remote_code=given["trust_remote_code"],
    )  # fmt: skip
    say(f"{given['data']}: {prepared.draw.counts}")
    return prepared


def _encoded(prepared: "Prepared", given: dict[str, Any]) -> "list[Sample]":
    """The held-out samples, encoded as the training samples are, with a line on what was left out."""
    from layerlens_core.data.draw import Counts
    from layerlens_core.data.rows import open_rows

    samples, cut = [], 0
    left_out: Counter[str] = Counter()
    for number, row in enumerate(open_rows(given["held_out"]), start=1):
        encoded = prepared.draw.encoder(row, place=number - 1, number=number)
        if encoded.sample is None:
            left_out[encoded.why_not] += 1
            continue
        prepared.draw.check(encoded.sample)
        samples.append(encoded.sample)
        cut += encoded.cut
    counts = Counts(
        read=len(samples) + left_out.total(), used=len(samples), cut=cut, left_out=left_out,
        max_length=prepared.draw.encoder.max_length,
    )  # fmt: skip
    if not samples:
        raise DataError(f"{given['held_out']} holds no row that could be judged on: {counts}")
    say(f"{given['held_out']}: {counts}")
    return samples
