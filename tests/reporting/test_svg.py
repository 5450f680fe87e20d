"""Charts as SVG that a strict policy lets through."""

from xml.etree import ElementTree

import pytest

from layerlens_core.reporting import charts
from layerlens_core.reporting.svg import _inlined, inline_svg

HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">
<script>x</script><style>y</style><image xlink:href="http://there/"/><a href="http://there/"><text>t</text></a>
<defs><clipPath id="clip0"><path d="M0,0"/></clipPath></defs>
<g clip-path="url(#clip0)" style="fill: red; stroke-width: 2px" class="mark" aria-label="long" role="graphics-symbol"/>
</svg>"""


def test_what_a_policy_refuses_is_taken_out_or_written_otherwise():
    root = ElementTree.fromstring(_inlined(HOSTILE, label='a "label"', prefix="p"))
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names == {"svg", "defs", "clipPath", "path", "g"}
    assert root.attrib == {"role": "img", "aria-label": 'a "label"'}
    group = root[-1]
    assert group.attrib == {"clip-path": "url(#p-clip0)", "fill": "red", "stroke-width": "2px"}
    assert root[0][0].get("id") == "p-clip0"


def test_charts_hold_what_they_show_in_the_pages_own_colours(reported):
    plan = reported("encoder").plan
    names = [str(number) for number in range(len(plan.decisions))]
    text = inline_svg(charts.spending(plan.decisions, names), label="what", prefix="x")
    assert "lora" in text
    assert "trainable parameters" in text
    assert charts.INK in text
    assert charts.SERIES[0] in text
    for refused in ("<style", "style=", "<script", "href"):
        assert refused not in text


@pytest.mark.parametrize(("count", "shown"), [(5, 5), (16, 16), (80, 16)])
def test_layers_are_numbered_without_crowding(count, shown):
    values = [1.0] * count
    text = inline_svg(charts.scores({}, values, [f"#{n}" for n in range(count)]), label="what", prefix="x")
    labels = [each.text for each in ElementTree.fromstring(text).iter() if each.tag.endswith("text")]
    assert len([label for label in labels if label and label.startswith("#")]) == shown


def test_labels_with_quotes_and_markup_are_drawn_as_they_are():
    label = """a"b'c\\<i>"""
    text = inline_svg(charts.scores({label: [1.0]}, [1.0], [label]), label="what", prefix="x")
    drawn = [each.text for each in ElementTree.fromstring(text).iter() if each.tag.endswith("text")]
    assert drawn.count(label) == 2


def test_names_that_no_xml_may_hold_are_drawn_otherwise():
    """At a control character vl-convert would end the process."""
    text = inline_svg(charts.scores({"a\x1b[2J\x00\ud83d": [1.0]}, [1.0], ["b\x07"]), label="what", prefix="x")
    drawn = {each.text for each in ElementTree.fromstring(text).iter() if each.tag.endswith("text")}
    assert {"a\ufffd[2J\ufffd\ufffd", "b\ufffd"} <= drawn


@pytest.mark.parametrize(
    "name", ["שלום", "\U0001f600", "e\u0301", "\u200b", "\u202eabc", "\ue000", "层", "a" * 500, ""]
)
def test_any_other_name_is_drawn(name):
    text = inline_svg(charts.scores({name: [1.0]}, [1.0], [name]), label="what", prefix="x")
    assert name[:20] in "".join(filter(None, ElementTree.fromstring(text).itertext()))


@pytest.mark.parametrize("value", [float("inf"), 1e308, 5e-324, -1e308])
def test_numbers_at_the_ends_of_all_scales_end_nothing(value):
    assert inline_svg(charts.scores({}, [value, 1.0], ["0", "1"]), label="what", prefix="x").startswith("<svg")
