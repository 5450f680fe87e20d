"""The heat map in a terminal: every size, at the width that there is, by shading where there is no colour."""

import io

import pytest
from rich.console import Console

from layerlens_core.allocation.allocate import allocate
from layerlens_core.cli.reading import heat
from reporting.made import decoder, encoder, encoder_decoder, mixture, profile


def printed(monkeypatch, made, *, width=80, colour=False, **asked):
    profiled = profile(made)
    plan = allocate(profiled, **{"budget": "params=r=4", "abstain": False, "margins": False, **asked})
    file = io.StringIO()
    console = Console(
        file=file, width=width, highlight=False, force_terminal=colour, color_system="256" if colour else None
    )
    monkeypatch.setattr(heat, "results_console", lambda: console)
    heat.print_heat_map(plan, profiled)
    return file.getvalue(), plan


def rows_of(text):
    return [line.split() for line in text.splitlines() if line.lstrip()[:1].isdigit()]


@pytest.mark.parametrize("made", [encoder(3), decoder(12)])
def test_every_size_stands_in_80_columns(monkeypatch, made):
    text, plan = printed(monkeypatch, made)
    table = [row for row in rows_of(text) if len(row) == len(made.layers[0].modules) + 1]
    assert len(table) == len(plan.decisions)
    for row, decision in zip(table, plan.decisions, strict=True):
        assert [cell[1:] for cell in row[1:]] == [f"l{size}" for size in decision.sizes.values()]
        assert all(cell[0] in "░▒▓█" for cell in row[1:])
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith(" "))
    assert "\x1b" not in text
    assert text.rstrip().endswith("l: lora")


def test_the_largest_is_darkest(monkeypatch):
    text, plan = printed(monkeypatch, decoder(12))
    largest = max(size for decision in plan.decisions for size in decision.sizes.values())
    assert f"█l{largest}" in text
    assert "░l1" in text


def test_columns_are_numbered_where_their_names_do_not_fit(monkeypatch):
    text, _ = printed(monkeypatch, encoder(3), width=48)
    assert "1 attention.self.query, 2 attention.self.key" in text
    assert all(len(line) <= 48 for line in text.splitlines() if line.startswith(" "))
    narrow, _ = printed(monkeypatch, encoder_decoder(2), width=30)
    assert "10 modules a layer are too many for this width; layerlens report shows them" in narrow


def test_kinds_of_layers_are_tables_of_their_own(monkeypatch):
    text, _ = printed(monkeypatch, encoder_decoder(2))
    assert "encoder.block: method and size by module" in text
    assert "decoder.block: method and size by module" in text


def test_methods_are_told_apart_and_none_is_a_dot(monkeypatch):
    text, plan = printed(monkeypatch, encoder(6), strategy="threshold", methods=("none", "prefix", "adapter", "lora"))
    methods = list(dict.fromkeys(decision.method for decision in plan.decisions if decision.method != "none"))
    assert len(methods) > 1
    assert text.rstrip().endswith(", ".join(f"{method[0]}: {method}" for method in methods))
    assert "·" in text


def test_a_mixture_fits_by_sharing_columns(monkeypatch):
    text, _ = printed(monkeypatch, mixture())
    assert "–" in text
    assert "w1" in text


def test_on_a_terminal_shades_are_colours(monkeypatch):
    text, _ = printed(monkeypatch, encoder(3), colour=True)
    assert "\x1b[" in text
    assert not set("░▒▓█") & set(text)
