"""Scores against one backward pass a sample, for modules that keep their samples in all sorts of places."""

import pytest
import torch
from torch import nn

import zoo
from layerlens_core.profiling.attribution.probe import OPEN, SCATTERED, SHARED, UNSEEN
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, check_fisher, texts

WIDTH = 32
NAME = "model.layers.1.mlp.inner"


class Placed(nn.Module):
    """A linear module in place of the feed-forward, which gets its rows in an order of its own."""

    def __init__(self, place):
        super().__init__()
        self.inner, self.place = nn.Linear(WIDTH, WIDTH).double(), place
        torch.manual_seed(3)
        self.table = nn.Parameter(torch.randn(9, WIDTH).double())

    def forward(self, x):
        return x + self.place(self.inner, x, self.table)


def as_it_is(inner, x, _table):
    return inner(x)


def folded(inner, x, _table):
    return inner(x.flatten(0, 1)).view_as(x)


def time_first(inner, x, _table):
    return inner(x.transpose(0, 1).contiguous()).transpose(0, 1)


def time_first_and_folded(inner, x, _table):
    samples, tokens = x.shape[:2]
    return inner(x.transpose(0, 1).flatten(0, 1)).view(tokens, samples, -1).transpose(0, 1)


def in_windows(inner, x, _table):
    samples, tokens, width = x.shape
    padded = nn.functional.pad(x, (0, 0, 0, tokens % 2))
    return inner(padded.view(-1, 2, width)).view(samples, -1, width)[:, :tokens]


def twice(inner, x, _table):
    return inner(x) + inner(time_first(inner, x, _table)).tanh()


def in_two_shapes(inner, x, table):
    return inner(x) + folded(inner, x.tanh(), table)


def pooled(inner, x, _table):
    return inner(x[:, 0])[:, None]


def table(inner, x, rows):
    return inner(rows).mean(dim=0)


def sent_to_an_expert(inner, x, _table):
    rows = x.flatten(0, 1)
    (chosen,) = (rows.sum(dim=1) > 0).nonzero(as_tuple=True)
    return torch.zeros_like(rows).index_add(0, chosen, inner(rows[chosen])).view_as(x)


def same_for_all_samples(inner, x, rows):
    return inner(rows[None].expand(len(x), -1, -1)).tanh().mean(dim=1, keepdim=True) * x


KNOWN = (
    as_it_is, folded, time_first, time_first_and_folded, in_windows, in_two_shapes, pooled, same_for_all_samples,
)  # fmt: skip
UNKNOWN = {table: (SHARED,), sent_to_an_expert: (SCATTERED, SHARED, OPEN, UNSEEN), twice: (OPEN, SCATTERED, SHARED)}
LENGTHS = {"as many as tokens": [4] * 4, "ragged": [9, 7, 12, 5, 8], "pairs": [6, 4], "threes": [3, 3, 3]}


def placed(place):
    model = build(zoo.find("llama"))
    model.model.layers[1].mlp = Placed(place)
    return model


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("place", KNOWN, ids=lambda place: place.__name__)
def test_wherever_samples_are_kept_scores_are_right(place, lengths):
    model, data = placed(place), texts(lengths)
    found = profile(model, data, metrics=("fisher",), micro_batch=4)
    assert found.unscored == ()
    assert "batches" not in found.settings
    check_fisher(found, model, data)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("place", UNKNOWN, ids=lambda place: place.__name__)
def test_what_cannot_be_told_is_unscored_with_the_reason_and_right_alone(place, lengths):
    model, data = placed(place), texts(lengths)
    batched = profile(model, data, metrics=("fisher",), micro_batch=4)
    check_fisher(batched, model, data)
    for skipped in batched.unscored:
        assert skipped.name == NAME
        assert skipped.reason in UNKNOWN[place]
    alone = profile(model, data, metrics=("fisher",), micro_batch=1)
    assert alone.unscored == ()
    check_fisher(alone, model, data)
    by_itself = profile(model, data, metrics=("fisher",))
    assert {skipped.reason for skipped in by_itself.unscored} <= {UNSEEN}
    check_fisher(by_itself, model, data)


def test_sketches_are_of_the_same_rows():
    model, data = placed(time_first), texts([4] * 8)
    exact = profile(model, data, metrics=("fisher",), micro_batch=4)
    sketched = profile(model, data, metrics=("fisher",), micro_batch=4, scores="sketch")
    for one, other in zip(exact.statistics, sketched.statistics, strict=True):
        assert other.fisher == pytest.approx(one.fisher, rel=0.5)


def test_a_module_that_the_trial_did_not_reach_says_so():
    gate: list[torch.Tensor] = []
    model, data = placed(lambda inner, x, _table: inner(x) * gate[0][:, None, None]), texts([9, 4, 8, 8, 8, 8])

    def open_for_some(_module, args):
        gate[:] = [(args[0][:, 0] == 77).double()]

    model.model.embed_tokens.register_forward_pre_hook(open_for_some)
    for sample in data:
        sample["input_ids"][0] = 5
    data[3]["input_ids"][0] = 77  # neither the longest, nor the shortest, nor the one between that is tried
    found = profile(model, data, metrics=("fisher",), micro_batch=4)
    assert [(skipped.name, skipped.reason) for skipped in found.unscored] == [(NAME, UNSEEN)]
    check_fisher(found, model, data)
    alone = profile(model, data, metrics=("fisher",), micro_batch=1)
    assert alone.unscored == ()
    check_fisher(alone, model, data)


class Experts(nn.Module):
    """Four experts, each of which gets the tokens that score highest for it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4)).double()
        self.router = nn.Parameter(torch.randn(WIDTH, 4).double())

    def forward(self, x):
        rows = x.flatten(0, 1)
        chosen = (rows @ self.router).argmax(dim=1)
        found = torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            (mine,) = (chosen == number).nonzero(as_tuple=True)
            if len(mine):
                found = found.index_add(0, mine, expert(rows[mine]))
        return x + found.view_as(x)


@pytest.mark.parametrize("seed", range(8))
def test_experts_that_get_as_many_tokens_of_each_sample_by_chance_are_not_trusted(seed):
    model = build(zoo.find("llama"))
    model.model.layers[1].mlp = Experts()
    generator = torch.Generator().manual_seed(seed)
    data = [
        {"input_ids": (ids := torch.randint(4, 97, (length,), generator=generator)), "labels": ids}
        for length in (4, 3, 4, 2)
    ]
    found = profile(model, data, metrics=("fisher",), micro_batch=4)
    check_fisher(found, model, data)
    alone = profile(model, data, metrics=("fisher",), micro_batch=1)
    check_fisher(alone, model, data)
