"""What is written and drawn can be read, light and dark: contrast as WCAG 2.2 computes it, of the style sheet."""

import re

import pytest

from layerlens_core.reporting.charts import INK, MUTED, RULE, SERIES
from layerlens_core.reporting.heat import SHADES
from layerlens_core.reporting.notebook import _SHADES
from layerlens_core.reporting.templates import text_of

SHEET = text_of("page.css")


def variables(scheme):
    """The custom properties of a scheme."""
    light, dark = re.findall(r":root \{(.*?)\n ? ?\}", SHEET, re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+): ([^;]+);", light))
    return found | (dict(re.findall(r"--([\w-]+): ([^;]+);", dark)) if scheme == "dark" else {})


def colour(value, known):
    while value.startswith("var("):
        value = known[value[6:-1]]
    return value


def luminance(value):
    channels = [int(value[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_formula_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme):
    known = variables(scheme)
    for text in ("ink", "soft", "link"):
        for ground in ("page", "raised"):
            assert contrast(known[text], known[ground]) >= 4.5, (text, ground)
    assert contrast(known["mark"], known["page"]) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_can_be_read_on_every_shade_and_shades_differ(scheme):
    known = variables(scheme)
    shades = re.findall(r"\.u(\d) \{ --cell: var\(--b(\d)\); --text: (var\(--\w+\)); \}", SHEET)
    assert [(int(number), int(ground)) for number, ground, _ in shades] == [(n, n) for n in range(SHADES)]
    for number, _, text in shades:
        assert contrast(colour(text, known), known[f"b{number}"]) >= 4.5, number
    depths = [luminance(known[f"b{number}"]) for number in range(SHADES)]
    assert depths == sorted(depths, reverse=scheme == "light")  # also told apart without colour
    assert all(contrast(known[f"b{n}"], known[f"b{n + 1}"]) > 1.1 for n in range(SHADES - 1))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_bars_can_be_told_from_the_page(scheme):
    known = variables(scheme)
    for number, value in enumerate(SERIES):
        assert f'[fill="{value}"] {{ fill: var(--s{number}); }}' in SHEET
        assert f'[stroke="{value}"] {{ stroke: var(--s{number}); }}' in SHEET
        assert contrast(known[f"s{number}"], known["page"]) >= 3, number
    for stand_in in (INK, RULE, MUTED):
        assert f'"{stand_in}"]' in SHEET


def test_notebooks_have_the_same_shades():
    known = variables("light")
    assert [ground for ground, _ in _SHADES] == [known[f"b{number}"] for number in range(SHADES)]
    assert all(contrast(*pair) >= 4.5 for pair in _SHADES)
