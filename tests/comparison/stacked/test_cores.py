"""Cores of several arms against modules that compute s · U R V x beside W x, one arm after the other."""

import pytest
import torch
from attrs import evolve
from torch import nn
from torch._dynamo.utils import counters

from layerlens_core.comparison.stacked.block import Block
from layerlens_core.comparison.stacked.methods.core import TRAINED, Core
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.schedule import factor, order
from layerlens_core.comparison.stacked.subspaces import Subspaces
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.comparison.stacked.train import Room, Training
from layerlens_core.errors import ModelError
from layerlens_core.files.directions import Pair
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.attribution.establish import ALONE
from layerlens_core.profiling.hooks import compiled
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.samples.sample import collate
from layerlens_core.values.comparison import Arm, Job, Schedule
from zoo.compared import arm, cored, job, mixed, model_and_samples, subspace_of, tuned
from zoo.probing import snapshot

SCHEDULE = Schedule(steps=10, batch=4, warmup=2, clip=0.5)
FAMILIES = ["llama", "gpt2", "bert-classifier", "t5"]


class Beside(nn.Module):
    """A core beside a linear module; whatever is attached to the module's output hears both."""

    def __init__(self, host, left, right, scale, start):
        super().__init__()
        self.scale, self.core = scale, nn.Parameter(start.double())
        self.left, self.right = torch.as_tensor(left).double(), torch.as_tensor(right).double()
        forward = host.forward
        host.forward = lambda inputs: forward(inputs) + self(inputs)

    def forward(self, inputs):
        return self.scale * (inputs @ self.right.T @ self.core.T @ self.left)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def bed_of(family):
    model, samples, task = model_and_samples(family, dtype=torch.float64)  # so that nothing but mistakes differs
    return prepare_testbed(model, task, samples[4:], samples[:4])


def by_hand(family, one, subspaces, strengths=None):
    """Losses of every step and of the held-out samples, of one arm by a plain loop; and its cores."""
    model, samples, _task = model_and_samples(family, dtype=torch.float64)
    training, held_out = samples[4:], samples[:4]
    cores = one.arm.sizes.get("core", {})
    others = {method: sizes for method, sizes in one.arm.sizes.items() if method != "core"}
    if any(others.values()):
        wrapped = tuned(model, evolve(one, arm=evolve(one.arm, sizes=others)))
        base = wrapped.get_base_model()
    else:
        wrapped = base = model.requires_grad_(False)
        for head in inspect(model).heads:
            model.get_submodule(head.name).requires_grad_(True)
    modules = {}
    for name, size in cores.items():
        left, right = (side[:size] for side in subspaces[one.arm.subspace][name])
        start = torch.zeros(size, size)
        if one.arm.start == "continued":
            start = torch.diag(torch.as_tensor(strengths[name][:size])) / one.arm.scale
        modules[name] = Beside(base.get_submodule(name), left, right, one.arm.scale, start)
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    trained += [module.core for module in modules.values()]
    optimizer = torch.optim.AdamW(trained, lr=one.rate, weight_decay=0.0)
    losses = []
    for step, batch in enumerate(order(training, one.schedule, one.seed)):
        loss = wrapped(**collate([training[i] for i in batch], 1)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, one.schedule.clip)
        optimizer.param_groups[0]["lr"] = one.rate * factor(step, one.schedule)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    wrapped.eval()
    with torch.no_grad():
        judged = [wrapped(**collate([sample], 1)).loss.item() for sample in held_out]
    return losses, judged, {name: module.core.detach() for name, module in modules.items()}


def check(family, jobs_of, sources=("one",), strengths=None):
    """Trains jobs beside each other, and each by hand."""
    testbed = bed_of(family)
    subspaces = {name: subspace_of(testbed.model, 6, seed) for seed, name in enumerate(sources)}
    jobs = jobs_of(testbed.model)
    before = snapshot(testbed.model)
    runner = Runner(testbed=testbed, subspaces=subspaces, strengths={"one": strengths(testbed)} if strengths else {})
    results = {result.job.id: result for result in runner(jobs)}
    assert snapshot(testbed.model) == before
    assert {result.stacked for result in results.values()} == {len(jobs)}
    for one in jobs:
        losses, judged, _ = by_hand(family, one, subspaces, strengths(testbed) if strengths else None)
        assert results[one.id].training == pytest.approx(losses, rel=1e-5)
        assert results[one.id].losses == pytest.approx(judged, rel=1e-5)
    assert len({result.training for result in results.values()}) == len(jobs)


def three(model):
    return [
        job(cored(model, 2, "one"), rate=2e-2, schedule=SCHEDULE),
        job(cored(model, 6, "one"), rate=1e-2, schedule=SCHEDULE),
        job(cored(model, 3, "one", every=2), rate=4e-2, schedule=SCHEDULE),
    ]


def test_several_arms_of_one_subspace_train_as_each_alone_does(family):
    check(family, three)


def test_so_do_arms_of_several_subspaces(family):
    def jobs_of(model):
        other = job(cored(model, 4, "other"), rate=2e-2, schedule=SCHEDULE)
        return [*three(model), other, job(arm(model, 2), rate=1e-2, schedule=SCHEDULE)]

    check(family, jobs_of, sources=("one", "other"))


@pytest.mark.parametrize("family", ["llama", "bert-classifier"])
def test_so_do_arms_with_other_methods_beside_cores(family):
    def jobs_of(model):
        core = cored(model, 3, "one", every=2)
        lora = {name: 2 for name in arm(model, 1).sizes["lora"] if name not in core.sizes["core"]}
        beside = evolve(core, sizes={**core.sizes, "lora": lora}, name="both")
        adapters = mixed(model, 2, methods=["adapter"]).sizes["adapter"]
        sides = evolve(core, sizes={**core.sizes, "adapter": adapters}, name="sides")
        jobs = [job(one, rate=2e-2, schedule=SCHEDULE) for one in (core, beside, sides)]
        return [*jobs, job(arm(model, 3), rate=1e-2, schedule=SCHEDULE)]

    check(family, jobs_of)


def test_cores_that_continue_start_as_the_update():
    def strengths(testbed):
        return {module.name: torch.linspace(0.5, 0.1, 6).numpy() for module in testbed.inventory.modules}

    def jobs_of(model):
        continued = job(evolve(cored(model, 4, "one"), start="continued"), rate=1e-2, schedule=SCHEDULE)
        return [job(cored(model, 4, "one"), rate=1e-2, schedule=SCHEDULE), continued]

    check("llama", jobs_of, strengths=strengths)
    testbed = bed_of("llama")
    with pytest.raises(ModelError, match=r"core r=1 cannot continue: its subspace at .* without singular values"):
        list(Runner(testbed=testbed, subspaces={"one": subspace_of(testbed.model, 6)})(jobs_of(testbed.model)))


@pytest.mark.parametrize("sources", [("one",), ("one", "other")])
def test_padding_stays_zero_and_what_is_frozen_as_it_was(sources):
    testbed = bed_of("llama")
    model = testbed.model
    subspaces = {name: subspace_of(model, 6, seed) for seed, name in enumerate(sources)}
    jobs = [*three(model), job(cored(model, 5, sources[-1]), rate=2e-2, schedule=SCHEDULE)]
    block = Block.of(testbed, jobs, subspaces=Subspaces(testbed=testbed, given=subspaces))
    places = [place for place in block.places.values() if isinstance(place, Core)]
    frozen = [(place.left.clone(), place.right.clone()) for place in places]
    with untouched(model):
        Training(testbed=testbed, block=block, room=Room(4)).run()
    expected = [by_hand("llama", one, subspaces)[2] for one in jobs]
    for place, (left, right) in zip(places, frozen, strict=True):
        assert torch.equal(place.left, left)
        assert torch.equal(place.right, right)
        cores = place.tensors[TRAINED].clone()
        for found, core, size in zip(expected, cores, place.sizes, strict=True):
            assert bool(core[:size, :size].all()) or size == 0
            if size:
                torch.testing.assert_close(core[:size, :size], found[place.name], rtol=1e-5, atol=1e-7)
            core[:size, :size] = 0
        assert not cores.any()


def test_an_arm_with_cores_does_not_know_of_those_beside_it(family):
    testbed = bed_of(family)
    subspaces = {"one": subspace_of(testbed.model, 6), "other": subspace_of(testbed.model, 6, 1)}
    sources = (("weights", 0), ("random", 0), ("random", 1), ("other", 0))
    jobs = [*three(testbed.model), job(mixed(testbed.model, 2, methods=["lora"]), schedule=SCHEDULE)]
    jobs += [job(cored(testbed.model, 3, source), seed=seed, schedule=SCHEDULE) for source, seed in sources]
    together, apart = (
        {result.job.id: result for result in Runner(testbed=testbed, subspaces=subspaces, most=most)(jobs)}
        for most in (None, 1)
    )
    for number, result in apart.items():
        assert together[number].training == pytest.approx(result.training, rel=1e-5)
        assert together[number].losses == pytest.approx(result.losses, rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "bert-classifier"])
def test_compiled_layers_train_cores_as_others_do(family, monkeypatch):
    torch._dynamo.reset()
    counters.clear()
    # Traced, differentiated and split as the default compiler does it, but run without generated code: quicker.
    monkeypatch.setattr(compiled, "OPTIONS", {"backend": "aot_eager_decomp_partition"})
    testbed = bed_of(family)
    subspaces = {"one": subspace_of(testbed.model, 6)}
    jobs = [*three(testbed.model), job(arm(testbed.model, 2), schedule=SCHEDULE)]
    layers = [layer.name for layer in testbed.inventory.layers]
    expected, found = (
        {result.job.id: result for result in Runner(testbed=bed, subspaces=subspaces)(jobs)}
        for bed in (testbed, evolve(testbed, layers=layers))
    )
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
    for number, result in expected.items():
        assert found[number].training == pytest.approx(result.training, rel=1e-5)
        assert found[number].losses == pytest.approx(result.losses, rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "bert-classifier"])
def test_where_arms_have_the_model_for_themselves_cores_train_alike(family):
    testbed = bed_of(family)
    subspaces, values = {"one": subspace_of(testbed.model, 6)}, torch.linspace(0.5, 0.1, 6).numpy()
    strengths = {"one": {module.name: values for module in testbed.inventory.modules}}
    core = cored(testbed.model, 3, "one", every=2)
    lora = {name: 2 for name in arm(testbed.model, 1).sizes["lora"] if name not in core.sizes["core"]}
    arms = [core, evolve(core, start="continued"), evolve(core, sizes={**core.sizes, "lora": lora})]
    arms += [cored(testbed.model, 2, source) for source in ("weights", "random")]
    jobs = [job(each, rate=2e-2, schedule=SCHEDULE) for each in arms]
    before = snapshot(testbed.model)
    stacked, alone = (
        {each.job.id: each for each in Runner(testbed=bed, subspaces=subspaces, strengths=strengths)(jobs)}
        for bed in (testbed, evolve(testbed, established=ALONE))
    )
    assert snapshot(testbed.model) == before
    for number, result in stacked.items():
        assert (result.stacked, alone[number].stacked) == (len(jobs), 1)
        assert alone[number].training == pytest.approx(result.training, rel=1e-5)
        assert alone[number].losses == pytest.approx(result.losses, rel=1e-5)


def test_subspaces_of_weights_and_of_noise():
    testbed = bed_of("llama")
    found = Subspaces(testbed=testbed)
    one, other = (job(cored(testbed.model, 3, "random"), seed=seed) for seed in (0, 1))
    weights = job(cored(testbed.model, 3, "weights"))
    for module in testbed.inventory.modules:
        name, matrix = module.name, testbed.model.get_submodule(module.name).weight.detach()
        left, right = (torch.as_tensor(side).double() for side in found.of(weights, name, 3))
        values = torch.linalg.svdvals(matrix)[:3]
        torch.testing.assert_close(left @ matrix @ right.T, torch.diag(values), atol=1e-5, rtol=1e-4)
        pairs = [found.of(each, name, 3) for each in (weights, one, other)]
        for pair in pairs:
            for side, width in zip(pair, (module.out_features, module.in_features), strict=True):
                rows = torch.as_tensor(side)
                assert rows.shape == (3, width)
                torch.testing.assert_close(rows @ rows.T, torch.eye(3), atol=1e-5, rtol=0)
        assert not any(torch.allclose(torch.as_tensor(pairs[1].left), torch.as_tensor(p.left)) for p in pairs[::2])
        again = Subspaces(testbed=testbed).of(one, name, 2)
        assert torch.equal(torch.as_tensor(again.left), torch.as_tensor(pairs[1].left[:2]))


def test_a_subspace_that_is_not_at_hand_is_told():
    testbed = bed_of("llama")
    given = subspace_of(testbed.model, 2)
    first = next(iter(given))
    short = {**given, first: Pair(given[first].left[:1], given[first].right[:1])}
    without = {name: pair for name, pair in given.items() if name != first}
    one = job(cored(testbed.model, 2, "one"))
    before = snapshot(testbed.model)
    for subspaces, said in (
        ({}, "core r=1 has cores in the subspace 'one', which is none of weights, random"),
        ({"one": without}, f"core r=1 has a core at {first}, of which the subspace 'one' holds nothing"),
        ({"one": short}, f"size 2 at {first} of core r=1 is larger than its subspace, which has 1 directions there"),
    ):
        with pytest.raises(ModelError, match=said):
            list(Runner(testbed=testbed, subspaces=subspaces)([one]))
        with pytest.raises(ModelError, match=said):
            list(Runner(testbed=evolve(testbed, established=ALONE), subspaces=subspaces)([one]))
    assert snapshot(testbed.model) == before


def test_the_subspace_is_part_of_a_job_and_none_is_as_before_there_were_any():
    model, *_ = model_and_samples("llama")
    one, other = (job(cored(model, 2, source)) for source in ("weights", "random"))
    assert one.id != other.id
    plain = Job(
        arm=Arm(name="uniform", budget="r=1", sizes={"lora": {"q": 1}}, scale=2, parameters=8),
        rate=1e-2, seed=0, schedule=Schedule(steps=1, batch=1), setting="test",
    )  # fmt: skip
    assert plain.id == "02a221893b4acdea"
