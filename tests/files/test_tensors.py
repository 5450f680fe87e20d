"""Safetensors files with a header of ours: what is written is read again, and what is damaged is told."""

import json

import numpy as np
import pytest

from layerlens_core.files import tensors

ARRAYS: tensors.Arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, -2], dtype=np.int64)}
HEADER = {"schema": "test", "version": 1, "seed": 7}


def test_arrays_and_header_survive(tmp_path):
    content = tensors.write(tmp_path / "new" / "file", ARRAYS, HEADER)
    assert (tmp_path / "new" / "file").read_bytes() == content
    assert tensors.header_of(content) == HEADER
    read = tensors.arrays_of(content)
    assert {name: (array.dtype, array.tolist()) for name, array in read.items()} == {
        name: (array.dtype, array.tolist()) for name, array in ARRAYS.items()
    }


def test_equal_contents_give_equal_bytes_however_they_lie_in_memory(tmp_path):
    turned = {"a": ARRAYS["a"], "b": np.asfortranarray(ARRAYS["b"])}
    first = tensors.write(tmp_path / "first", ARRAYS, HEADER)
    assert tensors.write(tmp_path / "second", turned, dict(reversed(HEADER.items()))) == first
    # A view with strides of its own is written by its values, and not by the memory below it.
    wide = np.zeros((2, 6), dtype=np.float32)
    wide[:, ::2] = ARRAYS["b"]
    assert tensors.write(tmp_path / "third", {"a": ARRAYS["a"], "b": wide[:, ::2]}, HEADER) == first


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    before = tensors.write(tmp_path / "file", ARRAYS, HEADER)
    with pytest.raises(TypeError, match="not JSON serializable"):
        tensors.write(tmp_path / "file", ARRAYS, {"seed": object()})
    assert (tmp_path / "file").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_content_that_is_cut_short_has_no_arrays(tmp_path, length):
    content = tensors.write(tmp_path / "file", ARRAYS, HEADER)
    with pytest.raises(ValueError, match=r"\w"):
        tensors.arrays_of(content[:length])


def raw(metadata):
    text = json.dumps({"__metadata__": metadata} if metadata is not None else {}).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\xff\xff" + raw({})[2:], ValueError),
        (b"\x04\x00\x00\x00\x00\x00\x00\x00nope", ValueError),
        (raw(None), KeyError),
        (raw({"other": "{}"}), KeyError),
        (raw({"layerlens": "not json"}), ValueError),
        (raw({"layerlens": "[1]"}), ValueError),
        (raw({"layerlens": 5}), TypeError),
    ],
)
def test_a_header_that_is_not_ours_is_told(content, error):
    with pytest.raises(error):
        tensors.header_of(content)
