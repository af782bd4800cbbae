from __future__ import annotations

import pytest

from mpflow.cli.complaint import Complaint
from mpflow.cli.parameters import check_names, read_file, read_pairs, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("true", True),
        ("True", True),
        ("null", None),
        ("None", None),
        ("[1, 2]", [1, 2]),
        ("(1, 2)", (1, 2)),
        ("{'a': 1}", {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("plain words", "plain words"),
        ("2024-01-01", "2024-01-01"),
        ("", ""),
        ("a=b", "a=b"),
        ("'quoted'", "quoted"),
        ("[" * 2000, "[" * 2000),
    ],
)
def test_values(text, value):
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


def test_pairs():
    assert read_pairs(["a=1", "b=x=y", "a=2"]) == {"a": 2, "b": "x=y"}


@pytest.mark.parametrize("pair", ["a", "=1", " =1"])
def test_pairs_without_a_name(pair):
    with pytest.raises(Complaint, match="name=value"):
        read_pairs([pair])


def test_files(tmp_path):
    json, toml = tmp_path / "p.json", tmp_path / "p.toml"
    json.write_text('{"a": [1]}')
    toml.write_text("a = [1]\n")
    assert read_file(str(json)) == read_file(str(toml)) == {"a": [1]}


@pytest.mark.parametrize(
    ("name", "text"), [("p.json", "{"), ("p.toml", "a ="), ("p.json", "[1]"), ("p.json", "\udcff")]
)
def test_files_that_are_not_tables(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(Complaint, match=name):
        read_file(str(path))


def test_a_missing_file():
    with pytest.raises(Complaint, match=r"nowhere\.json cannot be read"):
        read_file("nowhere.json")


def test_names():
    known = {"a": True, "b": False}
    check_names({"a": 1}, known, "f")
    with pytest.raises(Complaint, match="has no parameter 'c'; its parameters are 'a', 'b'"):
        check_names({"a": 1, "c": 2}, known, "f")
    with pytest.raises(Complaint, match="needs a value for 'a'; give it as -p a=VALUE"):
        check_names({}, known, "f")
    with pytest.raises(Complaint, match="it has no parameters"):
        check_names({"c": 2}, {}, "f")
