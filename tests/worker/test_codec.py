"""What travels by reference, what by value, and what is said when neither works."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path

import pytest

from mpflow.errors import PayloadError
from mpflow.worker import codec


def load_elsewhere(data: bytes) -> subprocess.CompletedProcess[str]:
    """Open a pickle in an interpreter that has only the standard library and cloudpickle."""
    code = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read())())"
    return subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=30, text=False)  # type: ignore[return-value]


def test_plain_data_and_importable_things_go_by_reference() -> None:
    assert codec.encode({"a": [1, 2]}, "x") == pickle.dumps({"a": [1, 2]}, 5)
    assert codec.encode(Path("/tmp"), "x") == pickle.dumps(Path("/tmp"), 5)
    assert b"cloudpickle" not in codec.encode(pytest.raises, "x")


def test_a_module_loaded_by_unusual_means_goes_by_value(tmp_path: Path) -> None:
    file = tmp_path / "loaded_by_path.py"
    file.write_text("import math\nbase = 40\ndef helper(): return base\ndef run(): return helper() + math.floor(2.5)\n")
    spec = importlib.util.spec_from_file_location("loaded_by_path", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["loaded_by_path"] = module
    try:
        spec.loader.exec_module(module)
        data = codec.encode(module.run, "x")
    finally:
        del sys.modules["loaded_by_path"]
    answer = load_elsewhere(data)
    assert answer.stdout == b"42\n", answer.stderr


def test_what_lives_in_main_goes_by_value() -> None:
    code = (
        "import sys; from mpflow.worker import codec\n"
        "class Thing:\n    def __call__(self): return 'called'\n"
        "sys.stdout.buffer.write(codec.encode(Thing(), 'x'))"
    )
    data = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30).stdout
    answer = load_elsewhere(data)
    assert answer.stdout == b"called\n", answer.stderr


def test_refusals_name_the_subject_and_a_way_out() -> None:
    with pytest.raises(PayloadError, match=r"^argument 'a' of type lock cannot be pickled \(.*use plain data"):
        codec.encode(threading.Lock(), "argument 'a'")


def test_an_open_file_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+") as file, pytest.raises(PayloadError, match="open file"):
        codec.encode(file, "argument 'a'")


def test_a_trial_says_which_classes_are_in_a_pickle() -> None:
    assert codec.trial(codec.encode_result([1, "a", None])) is None
    assert codec.trial(codec.encode_result({"d": date(2020, 2, 2)})) == ("datetime:date",)
