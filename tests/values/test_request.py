"""The request: what is asked of an allocation, by defaults that a short call relies on."""

import attrs
import pytest

from layerlens_core.values.costs import Training
from layerlens_core.values.request import DEFAULT_SCALE, Request


def test_what_is_not_asked_for_is_left_open_or_as_the_documentation_says():
    request = Request(strategy="budget", budget=("params=r=8",))
    assert (request.weights, request.methods) == (None, None)
    assert (request.normalizer, request.aggregator, request.scale) == ("share", "weighted-mean", DEFAULT_SCALE)
    assert (request.options, request.penalties, request.training) == ({}, {}, Training())


def test_requests_are_values():
    request = Request(strategy="budget", budget=())
    assert request == Request(strategy="budget", budget=())
    assert request != attrs.evolve(request, penalties={"lora": 2.0})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.strategy = "threshold"
