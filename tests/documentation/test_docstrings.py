"""What the site makes of our docstrings."""

import importlib.util

import pytest

from documentation.blocks import ROOT


@pytest.fixture(scope="module")
def readable():
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs" / "building" / "docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda text: "\n".join(module.readable(text.split("\n")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "What.\n\nname: is it,\n    or not.\nother: too.",
            "What.\n\n:param name: is it,\n    or not.\n:param other: too.",
        ),
        ("note: this is a sentence.", "note: this is a sentence."),
        ("Mean |x|, not ``|y|``.", "Mean \\|x\\|, not ``|y|``."),
        ("``ModuleList``s and `Plan`s.", "``ModuleList``\\ s and `Plan`\\ s."),
        ("What.\n\n    with a:\n        b\n    c\n\nMore.", "What.\n\n::\n\n    with a:\n        b\n    c\n\nMore."),
        ("What::\n\n    |a|\n\n    b", "What::\n\n    |a|\n\n    b"),
    ],
)
def test_docstrings_become_restructuredtext(readable, text, expected):
    assert readable(text) == expected
