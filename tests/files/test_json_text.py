"""JSON that cannot be read is a ValueError, whatever is wrong with it."""

import json

import pytest

from layerlens_core.files.json_text import parse, parse_strict, writable


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


def test_a_name_that_stands_twice_is_a_value_error():
    assert parse_strict('{"a": {"b": 1}, "c": [{"b": 2}]}') == {"a": {"b": 1}, "c": [{"b": 2}]}
    with pytest.raises(ValueError, match="'b' stands twice in one object"):
        parse_strict('{"a": {"b": 1, "c": 2, "b": 1}}')
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_strict('{"a":' * 200_000)


def test_what_is_written_has_one_line_and_every_character():
    value = {"a\u2028b": "\x85\u2029\x7f ü \U0001f600 \udc80"}
    text = writable(json.dumps(value, ensure_ascii=False))
    assert len(text.splitlines()) == 1
    assert "ü \U0001f600" in text
    assert json.loads(text.encode("utf-8")) == value
