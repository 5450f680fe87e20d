"""Budgets of every kind in all their spellings, and what cannot be read."""

from fractions import Fraction

import pytest

from layerlens_core.allocation.budget import Budget, References, spell
from layerlens_core.allocation.flops import depth_costs
from layerlens_core.errors import BudgetError
from layerlens_core.values.costs import RESOURCES, Limits, Training
from layerlens_core.values.inventory import Inventory, Layer, LinearModule

MODULES = (
    LinearModule(name="L0.a", layer="L0", kind="linear", in_features=10, out_features=30),
    LinearModule(name="L0.b", layer="L0", kind="conv1d", in_features=30, out_features=10),
)
POOLER = LinearModule(name="pooler", layer=None, kind="linear", in_features=10, out_features=10)
INVENTORY = Inventory(
    architecture="Toy",
    model_type="toy",
    parameters=100_000,
    layers=(Layer(name="L0", modules=MODULES),),
    outside=(POOLER,),
)
TRAINING = Training(batch=2, length=5)
#: What LoRA on all modules keeps in the one layer: 12 bytes a token.
REFERENCES = References(
    inventory=INVENTORY, training=TRAINING, depths=depth_costs(INVENTORY, TRAINING, None), adapted={"L0": 12.0}
)

WEIGHTS = 4 * 100_000  # bytes in float32
KEPT = 12 * 10  # bytes, of 10 tokens
BETWEEN = 3 * 4 * 10  # bytes that three modules keep between A and B for each rank
PER_PARAMETER = 8 + 8  # bytes: weight and gradient, AdamW's moments
LINEAR = 2 * (300 + 300)  # FLOPs a token of one pass through both modules
FULL = 3 * LINEAR  # forward, gradients of activations, gradients of weights


def resolved(kind, amount):
    return Budget(**{kind: amount}).resolve(REFERENCES)


@pytest.mark.parametrize(
    ("amount", "parameters"),
    [
        ("50000", 50_000),
        (50_000, 50_000),
        ("50k", 50_000),
        ("1.5M", 1_500_000),
        ("1e6", 1_000_000),
        ("2.5E3", 2_500),
        (1e6, 1_000_000),
        ("1e2k", 100_000),
        ("1,234,567", 1_234_567),
        ("r = 8", 8 * (40 + 40 + 20)),
        ("0.5 %", 500),
        ("2b", 2_000_000_000),
        ("50_000", 50_000),
        ("50,000", 50_000),
        (" .5k ", 500),
        ("1.9", 1),
        ("0.5%", 500),
        ("0.0019%", 1),
        ("100%", 100_000),
        ("r=8", 8 * (40 + 40 + 20)),
        ("R=1", 100),
    ],
)
def test_every_spelling_is_a_number_of_parameters(amount, parameters):
    limits = resolved("params", amount)
    assert limits == Limits(params=parameters)
    assert isinstance(limits.params, int)


@pytest.mark.parametrize(
    ("amount", "flops"),
    [
        ("2.5G", 2_500_000_000),
        ("2.5g", 2_500_000_000),
        ("3T", 3_000_000_000_000),
        ("7 M", 7_000_000),
        (12_345, 12_345),
        ("100%", FULL),
        ("60%", FULL * 0.6),
        ("r=8", 2 * LINEAR + 6 * 800),
    ],
)
def test_every_spelling_is_a_number_of_flops_a_token(amount, flops):
    assert resolved("flops", amount) == Limits(flops=pytest.approx(flops, rel=1e-12))


@pytest.mark.parametrize(
    ("amount", "memory"),
    [
        ("24GiB", 24 * 2**30),
        ("24gib", 24 * 2**30),
        ("24 GB", 24 * 10**9),
        ("500MB", 500 * 10**6),
        ("500MiB", 500 * 2**20),
        ("1.5KiB", 1536),
        ("64kB", 64_000),
        ("1TiB", 2**40),
        ("4096B", 4096),
        (4096, 4096),
        ("100%", WEIGHTS + KEPT + PER_PARAMETER * 100_000),
        ("40%", (WEIGHTS + KEPT + PER_PARAMETER * 100_000) * 0.4),
        ("r=8", WEIGHTS + KEPT + PER_PARAMETER * 800 + 8 * BETWEEN),
    ],
)
def test_every_spelling_is_a_number_of_bytes(amount, memory):
    assert resolved("memory", amount) == Limits(memory=pytest.approx(memory, rel=1e-12))


@pytest.mark.parametrize(
    ("amount", "seconds"),
    [("2ms", 0.002), ("2MS", 0.002), ("0.5s", 0.5), ("150us", 150e-6), (".25 ms", 0.25e-3), ("0ms", 0.0)],
)
def test_every_spelling_is_a_number_of_seconds(amount, seconds):
    assert resolved("latency", amount) == Limits(latency=pytest.approx(seconds, rel=1e-12))


def test_the_optimizer_and_the_dtype_change_what_memory_is_a_share_of():
    training = Training(batch=2, length=5, optimizer="sgd", dtype="bfloat16")
    references = References(
        inventory=INVENTORY, training=training, depths=depth_costs(INVENTORY, training, None), adapted={}
    )
    assert Budget(memory="100%").resolve(references).memory == (2 + 8) * 100_000
    assert Budget(memory="r=1").resolve(references).memory == 2 * 100_000 + 8 * 100 + 3 * 2 * 10


def test_budgets_are_parsed_from_texts():
    assert Budget.parse(["params=r=8"]) == Budget(params="r=8")
    assert Budget.parse([" PARAMS =r=8"]) == Budget(params="r=8")
    assert Budget.parse("params=r=8") == Budget(params="r=8")  # as people write it in Python
    assert Budget.of("params=r=8") == Budget.of(["params=r=8"]) == Budget.of(Budget(params="r=8"))
    several = Budget(params="r=8", memory="1GiB", flops="1,000")
    for text in ("params=r=8,memory=1GiB,flops=1,000", "params=r=8 ; memory = 1GiB, FLOPS=1000"):
        assert Budget.parse([text]).resolve(REFERENCES) == several.resolve(REFERENCES)
    assert Budget.parse([]).resolve(REFERENCES) == Limits()
    assert str(Budget(params="r=8")) == "params=r=8"
    assert str(Budget()) == "unlimited"


def test_budgets_of_all_kinds_hold_together():
    budget = Budget.parse(["latency=2ms", "memory=24GiB", "flops=60%", "params=r=8"])
    assert budget == Budget(params="r=8", flops="60%", memory="24GiB", latency="2ms")
    limits = budget.resolve(REFERENCES)
    assert limits.bounds == {"params": 800, "flops": FULL * 0.6, "memory": 24 * 2**30, "latency": 0.002}
    assert tuple(limits.bounds) == RESOURCES
    assert budget.rank == 8
    assert (Budget(params=800).rank, Budget(memory="r=8").rank) == (None, None)
    assert budget.texts() == ["params=r=8", "flops=60%", "memory=24GiB", "latency=2ms"]
    assert Budget.parse(budget.texts()) == budget
    assert str(budget) == "params=r=8 flops=60% memory=24GiB latency=2ms"


@pytest.mark.parametrize("kind", RESOURCES)
@pytest.mark.parametrize("amount", [1, 999, 1000, 1001, 123_456_789, 2**31 + 0.5])
def test_an_amount_is_spelled_so_that_what_costs_this_much_fits(kind, amount):
    amount = amount * 1e-6 if kind == "latency" else amount
    limits = resolved(kind, spell(kind, amount))
    assert getattr(limits, kind) >= Fraction(amount) * Fraction(1 - 1e-12)
    assert getattr(limits, kind) < amount + {"params": 1, "flops": 1000, "memory": 2**20, "latency": 1.001e-6}[kind]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["parms=5"], "no budget is of kind 'parms'; there are: params, flops, memory, latency.*Did you mean 'params'"),
        (["memry=5GiB"], "no budget is of kind 'memry'.*Did you mean 'memory'"),
        (["params"], "not of the form KIND=AMOUNT"),
        (["params="], "not of the form KIND=AMOUNT"),
        (["=5"], "no budget is of kind ''"),
        (["params=-5"], "cannot be read"),
        (["params=many"], "cannot be read"),
        (["params=5GiB"], r"params='5GiB' cannot be read; write a count \(50k\)"),
        (["params=1e999"], "budget params=1e999 is beyond all numbers; leave it out for no bound"),
        (["params=" + "9" * 5000], "is beyond all numbers"),
        (["params=r=" + "9" * 5000], "cannot be read"),
        (["params=1,5"], r"budget params='1,5' cannot be read"),
        (["r=8"], "budget 'r=8' is not of the form KIND=AMOUNT, such as params=r=8 or memory=r=8$"),
        (["24GiB"], "budget '24GiB' is not of the form KIND=AMOUNT, such as memory=24GiB$"),
        (["2ms"], "such as latency=2ms$"),
        (["much"], "such as params=50k or params=r=8$"),
        (["params=1k,r=8"], "budget 'r=8' is not of the form KIND=AMOUNT"),
        (["params=1k,params=2k"], "two budgets of kind 'params'"),
        ([7], "budget 7 is not of the form KIND=AMOUNT"),
        (["memory=24"], "budget memory=24 is 24 bytes; write a unit, such as memory=24GiB"),
        (["params=inf"], "cannot be read"),
        (["params=r=1.5.2"], "cannot be read"),
        (["params=r=1/4"], "cannot be read"),
        (["params=r="], "cannot be read"),
        (["params=101%"], "at most 100%"),
        (["params=0%"], "not above 0%"),
        (["params=0"], "leaves nothing to train"),
        (["params=r=0"], "leaves nothing to train"),
        (["params=5", "params=6"], "two budgets of kind 'params': '5' and '6'; give one"),
        (["flops=2GiB"], r"flops='2GiB' cannot be read; write a count a token \(2.5G\)"),
        (["flops=2ms"], "cannot be read"),
        (["flops=100.5%"], "not above 0% and at most 100%"),
        (["flops=0"], "leaves nothing to train"),
        (["flops=r=0"], r"budget flops=r=0 leaves nothing to train; give a rank above 0, such as r=0\.25"),
        (["memory=24G"], r"memory='24G' cannot be read; write bytes \(24GiB\)"),
        (["memory=2ms"], "cannot be read"),
        (["memory=-1GiB"], "cannot be read"),
        (["memory=0GiB"], "leaves nothing to train"),
        (["memory=0%"], "not above 0% and at most 100%"),
        (["memory=r=0"], r"budget memory=r=0 leaves nothing to train; give a rank above 0, such as r=0\.25"),
        (["memory=1GiB", "memory=50%"], "two budgets of kind 'memory'"),
        (["latency=50%"], r"latency='50%' cannot be read; write a time a forward pass \(2ms\)"),
        (["latency=r=8"], "latency='r=8' cannot be read"),
        (["latency=2"], "latency='2' cannot be read"),
        (["latency=2k"], "cannot be read"),
        (["latency=2m"], "cannot be read"),
        (["latency=-2ms"], "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(texts, message):
    with pytest.raises(BudgetError, match=message):
        Budget.parse(texts)


@pytest.mark.parametrize(
    ("kind", "amount"), [("params", "many"), ("flops", "2ms"), ("memory", "r=0"), ("latency", "1%")]
)
def test_what_cannot_be_read_is_refused_where_it_is_given(kind, amount):
    with pytest.raises(BudgetError, match=f"budget {kind}="):
        Budget(**{kind: amount})
