"""Documents: attrs values as JSON, whole and equal to the byte; what is wrong with a file is told in a line."""

import hashlib
import json
import math

import pytest
from attrs import field, frozen

from layerlens_core.errors import FileError, VersionError
from layerlens_core.files import documents


@frozen(kw_only=True)
class Part:
    name: str
    size: int = 1


@frozen(kw_only=True)
class Whole:
    parts: tuple[Part, ...]
    weights: dict[str, float] = field(factory=dict)
    note: str | None = None


WHOLE = Whole(parts=(Part(name="ü", size=2), Part(name="b")), weights={"b": 0.1, "a": 1e-300})


KIND = {"schema": "test/whole", "version": 3}


def write(path, value=WHOLE):
    documents.write(path, value, schema="test/whole", version=3)


def read(path):
    return documents.read(path, Whole, schema="test/whole", version=3)


def test_a_value_survives(tmp_path):
    write(tmp_path / "whole.json")
    assert read(tmp_path / "whole.json") == WHOLE


def test_equal_values_give_equal_bytes_with_schema_and_version(tmp_path):
    write(tmp_path / "one")
    write(tmp_path / "other", Whole(parts=WHOLE.parts, weights=dict(reversed(WHOLE.weights.items()))))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    document = json.loads((tmp_path / "one").read_text(encoding="utf-8"))
    assert (document["schema"], document["version"]) == ("test/whole", 3)
    assert list(document) == sorted(document)


def test_a_number_that_json_does_not_have_leaves_the_old_file(tmp_path):
    write(tmp_path / "whole.json")
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write(tmp_path / "whole.json", Whole(parts=(), weights={"a": math.nan}))
    assert read(tmp_path / "whole.json") == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["whole.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "test/other"}, "is not a test/whole file"),
        ({"version": 2}, "is of version 2; this LayerLens reads version 3"),
        ({"surprise": 1}, "is damaged: extra fields found (surprise)"),
        ({"parts": [{"size": 1}]}, "is damaged: required field missing"),
        ({"parts": [{"name": "a", "size": "many"}]}, "is damaged: "),
        ({"weights": 5}, "is damaged: "),
        ({"parts": [{"name": "a", "size": 6.9}]}, "is damaged: invalid value for type, expected int @ $.parts[0].size"),
        ({"parts": [{"name": "a", "size": "6"}]}, "is damaged: invalid value for type, expected int @ $.parts[0].size"),
        (
            {"parts": [{"name": "a", "size": True}]},
            "is damaged: invalid value for type, expected int @ $.parts[0].size",
        ),
        ({"parts": [{"name": 5}]}, "is damaged: invalid value for type, expected str @ $.parts[0].name"),
        ({"weights": {"a": "0.5"}}, "is damaged: invalid value for type, expected float @ $.weights['a']"),
        ({"weights": {"a": True}}, "is damaged: invalid value for type, expected float @ $.weights['a']"),
        ({"weights": {"a": math.inf}}, "is damaged: invalid value for type, expected float @ $.weights['a']"),
        ({"weights": {"a": 10**400}}, "is damaged: "),
        ({"note": ["a"]}, "is damaged: "),
    ],
)
def test_what_is_wrong_with_a_document_is_told(tmp_path, change, said):
    path = tmp_path / "whole.json"
    write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FileError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[]", "is not a test/whole file"),
        (b"[" * 200_000, "is not valid JSON: it is nested too deeply"),
        (b'{"schema": ' + b"9" * 5_000 + b"}", "is not valid JSON: Exceeds the limit"),
    ],
)
def test_what_is_no_document_is_told(tmp_path, content, said):
    (tmp_path / "whole.json").write_bytes(content)
    with pytest.raises(FileError, match=said):
        read(tmp_path / "whole.json")


def test_a_file_that_is_not_there_asks_for_the_run(tmp_path):
    with pytest.raises(FileError, match=r"whole\.json does not exist; is .* the directory of a run\?"):
        read(tmp_path / "whole.json")
    with pytest.raises(FileError, match=r"cannot be read: .*; is .* the directory of a run\?"):
        read(tmp_path)


def test_the_digest_of_a_record_is_that_of_its_file(tmp_path):
    documents.write(tmp_path / "whole.json", WHOLE, **KIND)
    content = (tmp_path / "whole.json").read_bytes()
    assert documents.digest(WHOLE, **KIND) == hashlib.sha256(content).hexdigest()
    assert documents.read_named(tmp_path / "whole.json", Whole, **KIND)[1] == documents.digest(WHOLE, **KIND)
    assert documents.parts_in(tmp_path / "whole.json") == documents.parts(WHOLE)


def test_a_seal_holds_every_byte(tmp_path):
    path = tmp_path / "whole.json"
    documents.write(path, WHOLE, **KIND, sealed=True)
    assert documents.read(path, Whole, **KIND, sealed=True) == WHOLE
    content = path.read_bytes()
    seal = json.loads(content)["sha256"]
    assert seal == hashlib.sha256(content.replace(seal.encode(), b"")).hexdigest()
    for changed in (content + b" ", content.replace(b"  ", b" ", 1), content.replace(seal[:4].encode(), b"0000", 1)):
        path.write_bytes(changed)
        with pytest.raises(FileError, match="its sha256 is not that of its content"):
            documents.read(path, Whole, **KIND, sealed=True)
        assert documents.read(path, Whole, **KIND, sealed=True, broken_too=True) == WHOLE


def test_a_field_that_is_always_written_is_missed_though_it_has_a_default(tmp_path):
    path = tmp_path / "whole.json"
    documents.write(path, WHOLE, **KIND)
    for name in documents.plain(WHOLE):
        document = json.loads(path.read_text())
        del document[name]
        (tmp_path / "other.json").write_text(json.dumps(document))
        with pytest.raises(FileError, match=name):
            documents.read(tmp_path / "other.json", Whole, **KIND)


def test_what_to_do_with_another_version_is_said(tmp_path):
    path = tmp_path / "whole.json"
    documents.write(path, WHOLE, **KIND)
    with pytest.raises(VersionError, match="reads version 4; make it anew"):
        documents.read(path, Whole, schema=KIND["schema"], version=4, again="make it anew")
    with pytest.raises(VersionError, match="reads version 0; a newer one wrote it, so update this one"):
        documents.read(path, Whole, schema=KIND["schema"], version=0, again="make it anew")
