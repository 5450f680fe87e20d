"""Files of singular vectors come back as they were, and are refused in a line where they are not right."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.errors import FileError
from layerlens_core.files.directions import (
    Pair,
    Source,
    are_orthonormal,
    read_directions,
    write_directions,
)
from layerlens_core.files.run import DIRECTIONS, SUBSPACE

HEADER = {"schema": "layerlens/directions", "version": 2, "source": "gradient", "fingerprint": "f"}


def rows(count: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng(seed).normal(size=(width, count))
    return np.linalg.qr(drawn)[0].T.astype(np.float32)


def a_subspace(seed: int = 0) -> dict[str, Pair]:
    return {"a.b": Pair(rows(3, 5, seed), rows(3, 4, seed + 1)), "odd:name": Pair(rows(1, 2), rows(1, 7))}


def written(folder: Path, source: Source = "gradient", seed: int = 0) -> str:
    return write_directions(folder, a_subspace(seed), fingerprint="f", seed=seed, samples=2, source=source)


@pytest.mark.parametrize(("source", "name"), [("gradient", DIRECTIONS), ("warm-up", SUBSPACE)])
def test_what_is_written_comes_back(tmp_path: Path, source: Source, name: str) -> None:
    digest = written(tmp_path, source)
    content = (tmp_path / name).read_bytes()
    for path in (tmp_path, tmp_path / name):
        found = read_directions(path, fingerprint="f", digest=digest, source=source)
        assert found.keys() == a_subspace().keys()
        for module, pair in a_subspace().items():
            assert all((ours == theirs).all() for ours, theirs in zip(found[module], pair, strict=True))
            assert found[module].left.dtype == np.float32
    assert written(tmp_path, source) == digest
    assert (tmp_path / name).read_bytes() == content


def refused(path: Path, match: str, **expected: Any) -> None:
    with pytest.raises(FileError, match=match) as caught:
        read_directions(path, **{"fingerprint": "f", **expected})
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_the_one_is_refused(tmp_path: Path) -> None:
    digest, path = written(tmp_path), tmp_path / DIRECTIONS
    content = path.read_bytes()
    refused(path, "another model", fingerprint="g")
    refused(path, "holds vectors of gradient, not of a warm-up; profile again with --warm-up", source="warm-up")
    path.write_bytes(content[:-1] + b"x")
    refused(path, "not the file that its profile", digest=digest)
    for length in (0, 5, 40, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path, "damaged")
    path.write_bytes(b"\xff" * 200)
    refused(path, "damaged")
    path.unlink()
    refused(path, "does not exist; profile again with --directions", digest=digest)


EYE = np.eye(3, dtype=np.float32)
#: Arrays, and what is said of them.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"a.b": EYE}, "a.b'? is neither left nor right vectors"),
    ({":left": EYE, ":right": EYE}, "is neither left nor right"),
    ({"a.b:left": EYE}, "has vectors of one side alone"),
    ({"a.b:left": EYE, "a.b:right": EYE[:2]}, "has 3 left vectors and 2 right ones"),
    ({"a.b:left": EYE, "a.b:right": EYE.astype(np.float64)}, "no matrix of float32"),
    ({"a.b:left": EYE[0], "a.b:right": EYE}, "no matrix of float32"),
    ({"a.b:left": EYE[:0], "a.b:right": EYE[:0]}, "no matrix of float32"),
    ({"a.b:left": EYE * np.float32(1.01), "a.b:right": EYE}, "not orthonormal"),
    ({"a.b:left": EYE, "a.b:right": EYE + np.float32(0.01)}, "not orthonormal"),
    ({"a.b:left": EYE, "a.b:right": np.repeat(EYE[:1], 3, axis=0)}, "not orthonormal"),
    ({"a.b:left": np.full((3, 3), np.nan, np.float32), "a.b:right": EYE}, "not orthonormal"),
    ({"a.b:left": np.full((3, 3), np.inf, np.float32), "a.b:right": EYE}, "not orthonormal"),
    ({"a.b:left": rows(3, 3), "a.b:right": np.ones((3, 2), np.float32)}, "not orthonormal"),
]


@pytest.mark.parametrize(("arrays", "match"), WRONG)
def test_arrays_that_are_no_subspace_are_refused(tmp_path: Path, arrays: dict[str, Any], match: str) -> None:
    path = tmp_path / DIRECTIONS
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path.write_bytes(safetensors.numpy.save(plain, metadata={"layerlens": json.dumps(HEADER)}))
    refused(path, f"is damaged: .*{match}.*; profile again with --directions")


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (None, "damaged: it is no safetensors file with a header of ours"),
        ({}, "is not a layerlens/directions"),
        ({**HEADER, "version": 1}, "is of version 1; this LayerLens reads version 2; profile again"),
        ({**HEADER, "source": "poetry"}, "holds vectors of poetry, not of a gradient"),
        ({**HEADER, "source": ["gradient"]}, "not of a gradient"),
    ],
)
def test_headers_of_another_kind_are_refused(tmp_path: Path, header: Any, match: str) -> None:
    path = tmp_path / DIRECTIONS
    metadata = None if header is None else {"layerlens": json.dumps(header)}
    path.write_bytes(safetensors.numpy.save({"a.b:left": EYE, "a.b:right": EYE}, metadata=metadata))
    refused(path, match)


@given(count=st.integers(1, 6), width=st.integers(1, 8), seed=st.integers(0, 99), off=st.sampled_from([0.0, 2e-3]))
def test_orthonormal_rows_are_told_from_others(count: int, width: int, seed: int, off: float) -> None:
    """Against the products of all rows, one at a time."""
    some = np.random.default_rng(seed).normal(size=(count, width))
    if count <= width:
        some = rows(count, width, seed) * np.float32(1 + off)
    slow = all(
        abs(float(np.dot(a.astype(np.float64), b.astype(np.float64))) - (i == j)) < 1e-3
        for i, a in enumerate(some)
        for j, b in enumerate(some)
    )
    assert are_orthonormal(some) == slow == (off == 0.0 and count <= width)
