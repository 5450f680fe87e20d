"""Pages as text: one file that needs nothing else, whose table and data say what the plan says."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest

from layerlens_core.reporting.report import report
from layerlens_core.reporting.templates import text_of
from reporting.made import HOSTILE, RUNS, encoder, profile, write_run

ALL = tuple(name for name in RUNS if name != "hostile")


class Parsed(HTMLParser):
    """Elements in their order, with attributes, and the text of cells."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self._cell = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


def data_in(text):
    """The data that a page holds for its script."""
    return json.loads(re.search(r'<script type="application/json" id="run">(.*?)</script>', text, re.DOTALL)[1])


@pytest.mark.parametrize("name", ALL)
def test_a_page_is_one_file_that_names_nothing_else(reported, name):
    text = reported(name).text
    for tag, attributes in Parsed(text).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "image", "use")
        assert not attributes.get("href", "#").strip("#").startswith(("http", "//", "file", "data", "javascript"))
        assert "src" not in attributes
        assert "style" not in attributes  # the policy would refuse it
        assert not any(attribute.startswith("on") for attribute in attributes)
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_an_80_layer_page_is_small(reported):
    assert reported("decoder").page.stat().st_size < 500_000
    assert len(text_of("page.js")) < 6_000


@pytest.mark.parametrize("name", ["encoder", "hostile"])
def test_the_policy_allows_this_style_and_this_script_alone(reported, name):
    text = reported(name).text
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', text)[1])
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for name, content in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives.pop(name) == f"'sha256-{digest}'"
    assert directives == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


@pytest.mark.parametrize("name", [*ALL, "hostile"])
def test_the_heat_map_is_a_table_that_says_what_the_plan_says(reported, name):
    made = reported(name)
    parsed = Parsed(made.text)
    maps = [attributes for tag, attributes in parsed.elements if (tag, attributes.get("class")) == ("table", "heat")]
    assert len(maps) == len({decision.unit.rpartition(".")[0] for decision in made.plan.decisions})
    scopes = [attributes.get("scope") for tag, attributes in parsed.elements if tag == "th"]
    assert set(scopes) == {"row", "col"}
    layers = [layer for group in data_in(made.text)["groups"] for layer in group["layers"]]
    assert [layer["name"] for layer in layers] == [decision.unit for decision in made.plan.decisions]
    rows = [row for row in parsed.rows if len(row) > 3 and row[1] and row[0].isdecimal()]
    assert len(rows) == len(layers)
    for row, layer, decision in zip(rows, layers, made.plan.decisions, strict=True):
        assert row[1] == f"{decision.utility:.4f}"
        assert row[-1] == f"{decision.parameters:,}"
        told = [text for text in row[2:-1] if text and text != "none"]
        assert all(text.endswith(f" {decision.method}") for text in told)
        if name != "mixture":
            assert sorted(int(text.split()[0]) for text in told) == sorted(filter(None, decision.sizes.values()))
        known = [cell[1] for cell in layer["cells"] if cell is not None]
        assert sum(amount or 0 for amount in known) == decision.parameters


def test_kinds_of_layers_are_groups_and_many_experts_share_columns(reported):
    groups = data_in(reported("encoder-decoder").text)["groups"]
    assert [group["name"] for group in groups] == ["encoder.block", "decoder.block"]
    assert [len(group["columns"]) for group in groups] == [6, 10]
    (mixed,) = data_in(reported("mixture").text)["groups"]
    assert "mlp.experts.*.w1" in mixed["columns"]
    assert "mlp.experts.gate_up_proj" in mixed["columns"]
    at = mixed["columns"].index("mlp.experts.*.w1")
    assert [layer["cells"][at] is None for layer in mixed["layers"]] == [False, False, False, True]


def test_predictions_are_called_so_and_measurements_stand_first(reported):
    assert "all gains below are predictions" in reported("decoder").text
    compared = reported("encoder").text
    assert "all gains below are predictions" not in compared
    assert compared.index("measured to be better than uniform") < compared.index('id="map"')
    for each in (reported("decoder").text, compared):
        assert "a prediction, no measurement" in each
        assert "nothing was trained for them" in each


def test_the_same_run_gives_the_same_page(reported, tmp_path):
    made = reported("encoder")
    assert report(made.run, tmp_path / "again.html").read_bytes() == made.page.read_bytes()


def test_markup_in_names_is_text(reported):
    text = reported("hostile").text
    assert '<b id="injected">' not in text
    assert data_in(text)["architecture"] == HOSTILE


def test_data_hold_every_number_that_led_to_a_decision(reported):
    made = reported("encoder")
    document = data_in(made.text)
    assert document["plan"] == made.plan.digest
    assert set(document["metrics"]) == {"gora", "fisher"}
    first = document["groups"][0]["layers"][0]
    raw = profile(encoder()).scores[0]
    assert first["scores"]["gora"][0] == pytest.approx(
        raw.by_layer(profile(encoder()).inventory)[first["name"]], rel=1e-5
    )
    here = first["cells"][0][2][document["module_metrics"].index("gora")]
    assert here == pytest.approx(raw.values[f"{first['name']}.{document['groups'][0]['columns'][0]}"], rel=1e-5)


def test_a_run_without_bounds_has_no_frontier(tmp_path):
    write_run(tmp_path / "run", profile(encoder(2)), budget=(), strategy="threshold")
    text = report(tmp_path / "run", tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Nothing bounds this plan" in text
    assert "a plan for no budget" in text
