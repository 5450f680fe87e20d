"""JSON that cannot be read is a ValueError, whatever is wrong with it."""

import pytest

from layerlens_core.files.json_text import parse


def test_what_is_json_is_read():
    assert parse('{"a": [1, 2.5, null, "ü"]}') == {"a": [1, 2.5, None, "ü"]}
    assert parse(b"[true]") == [True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        (b"\xff", "decode byte 0xff"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("9" * 5_000, "Exceeds the limit"),
    ],
)
def test_whatever_is_none_is_a_value_error(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)
