"""Results by themselves: written, found and read without a flow."""

from __future__ import annotations

import datetime
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from mpflow.results import ConstantResult, JSONResult, LocalResult, NoResult, Result


def test_a_local_result_is_a_plain_pickle_file_read_back_from_anywhere(tmp_path: Path) -> None:
    written = LocalResult(dir=tmp_path, location="{a}-{b}").write([1, 2], a="x", b=2)
    assert written.value == [1, 2]
    assert written.location == str(tmp_path / "x-2")
    assert pickle.loads((tmp_path / "x-2").read_bytes()) == [1, 2]
    assert LocalResult(dir=tmp_path).read("x-2").value == [1, 2]
    assert LocalResult().read(str(tmp_path / "x-2")).value == [1, 2]


def test_writing_leaves_the_result_it_was_asked_of_alone(tmp_path: Path) -> None:
    kept = LocalResult(tmp_path, "{a}")
    kept.write(5, a=1)
    assert (kept.value, kept.location) == (None, "{a}")


def test_locations_take_format_specs_and_parts(tmp_path: Path) -> None:
    kept = LocalResult(tmp_path, "{date:%A}/{row[0]:03d}.pickle")
    assert kept.format(date=datetime.date(2024, 1, 1), row=[7]).location == "Monday/007.pickle"


def test_a_location_may_be_a_function_of_everything_known(tmp_path: Path) -> None:
    kept = LocalResult(tmp_path, lambda **known: f"{known['a']}.x")
    assert kept.write(1, a="q").location == str(tmp_path / "q.x")
    assert kept.exists("q.x")


def test_exists_fills_in_the_location_it_is_given(tmp_path: Path) -> None:
    kept = LocalResult(tmp_path, "{a}")
    assert not kept.exists("{a}", a=1)
    kept.write(5, a=1)
    assert kept.exists("{a}", a=1)
    assert kept.exists("1")


def test_what_a_template_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"'\{a\}-\{b\}' uses 'b', which is no input"):
        LocalResult(tmp_path, "{a}-{b}").write(1, a=1)


def test_without_a_location_every_value_gets_a_file_of_its_own(tmp_path: Path) -> None:
    kept = LocalResult(tmp_path)
    one, two = kept.write(1), kept.write(2)
    assert one.location != two.location
    assert isinstance(one.location, str)
    assert kept.read(one.location).value == 1


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalResult(tmp_path).read("nope")


class Stubborn:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def test_a_value_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    kept = LocalResult(tmp_path, "x")
    kept.write("before")
    with pytest.raises(RuntimeError, match="not me"):
        kept.write(Stubborn())
    assert kept.read("x").value == "before"
    assert os.listdir(tmp_path) == ["x"]


def test_values_that_only_cloudpickle_knows_are_plain_pickles_too(tmp_path: Path) -> None:
    kept = LocalResult(tmp_path, "f")
    kept.write(lambda x: x + 1)
    assert pickle.loads((tmp_path / "f").read_bytes())(1) == 2


def test_the_default_directory_is_in_the_home_of_mpflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPFLOW_HOME", str(tmp_path))
    assert LocalResult().dir == str(tmp_path / "results")
    monkeypatch.delenv("MPFLOW_HOME")
    assert LocalResult().dir == os.path.expanduser("~/.mpflow/results")
    assert LocalResult("~/x").dir == os.path.expanduser("~/x")


def test_json_is_kept_in_its_own_location_or_in_files(tmp_path: Path) -> None:
    inline = JSONResult()
    written = inline.write({"a": [1]})
    assert written.location == '{"a": [1]}'
    assert inline.read('{"a": [1]}').value == {"a": [1]}
    assert inline.exists("5")
    assert not inline.exists("{bad")
    with pytest.raises(TypeError):
        inline.write(object())
    JSONResult(dir=tmp_path, location="{n}.json").write([1], n="x")
    assert json.loads((tmp_path / "x.json").read_text()) == [1]
    assert JSONResult(dir=tmp_path).read("x.json").value == [1]


def test_a_constant_is_always_there_and_never_written() -> None:
    constant = ConstantResult(5)
    assert constant.exists("anywhere")
    assert constant.read("anywhere").value == 5
    assert ConstantResult(value=5) == constant
    with pytest.raises(ValueError, match="ConstantResult cannot be written to"):
        constant.write(6)


def test_the_plain_result_holds_a_value_and_keeps_nothing() -> None:
    assert Result(3) == Result(3) != Result(4)
    assert repr(Result(3)) == "<Result: 3>"
    assert Result(3).from_value(4).value == 4
    for call in (lambda: Result().exists("x"), lambda: Result().read("x"), lambda: Result().write(1)):
        with pytest.raises(NotImplementedError, match="use a LocalResult"):
            call()


def test_no_result_is_one_object_wherever_it_goes() -> None:
    assert pickle.loads(pickle.dumps(NoResult)) is NoResult
    assert NoResult.copy() is NoResult
    assert NoResult != Result(None)
    assert repr(NoResult) == "<NoResult>"


@pytest.mark.parametrize("result", [LocalResult("/tmp/x", "{a}"), JSONResult(), ConstantResult(5), Result(1)])
def test_results_travel(result: Result) -> None:
    assert pickle.loads(pickle.dumps(result)) == result


class Memory(Result):
    """What a user would write for a place of their own."""

    def __init__(self, shelf: dict[str, Any]) -> None:
        super().__init__()
        self.shelf = shelf

    def exists(self, location: str, /, **kwargs: Any) -> bool:
        return location.format(**kwargs) in self.shelf

    def read(self, location: str, /) -> Result:
        return self.from_value(self.shelf[location])

    def write(self, value: Any, /, **kwargs: Any) -> Result:
        new = self.format(**kwargs)
        assert isinstance(new.location, str)
        self.shelf[new.location] = new.value = value
        return new


def test_a_place_of_ones_own_takes_three_methods() -> None:
    memory = Memory({})
    memory.location = "{a}"
    memory.write(5, a=1)
    assert memory.exists("{a}", a=1)
    assert memory.read("1").value == 5
