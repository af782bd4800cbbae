"""Errors keep what they know when they travel, and are what a caller would catch."""

from __future__ import annotations

import copy
import pickle

import pytest

from mpflow import errors
from mpflow.errors import (
    EngineBug,
    FlowError,
    MemoryLimitExceeded,
    MpflowError,
    PayloadError,
    RemoteError,
    RemoteTraceback,
    TaskTimeoutError,
    WorkerCrashed,
    WorkersUnavailable,
)

SAMPLES = [
    MpflowError("a"),
    EngineBug("b"),
    FlowError("c"),
    PayloadError("d"),
    WorkersUnavailable("e"),
    WorkerCrashed("f", exitcode=3, signal=9, rss=4096),
    MemoryLimitExceeded("g", rss=2, limit=1),
    TaskTimeoutError("h"),
    RemoteError("Odd", "text", "Traceback …"),
    RemoteTraceback("Traceback …"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
def test_a_copy_is_the_same_error(error, travel):
    back = travel(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args
    assert vars(back) == vars(error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (FlowError, ValueError),
        (PayloadError, TypeError),
        (WorkersUnavailable, RuntimeError),
        (WorkerCrashed, RuntimeError),
        (MemoryLimitExceeded, MemoryError),
        (TaskTimeoutError, TimeoutError),
    ],
)
def test_an_error_is_also_the_builtin_a_caller_expects(kind, builtin):
    assert issubclass(kind, MpflowError)
    assert issubclass(kind, builtin)


def test_everything_but_the_traceback_is_an_mpflow_error():
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, MpflowError) is (name != "RemoteTraceback")


def test_a_crash_says_nothing_that_is_not_known():
    crash = WorkerCrashed("gone")
    assert (crash.exitcode, crash.signal, crash.rss) == (None, None, None)


def test_a_remote_error_reads_like_the_one_it_stands_for():
    assert str(RemoteError("KeyError", "'a'", "…")) == "KeyError: 'a'"
    assert str(RemoteError("KeyError")) == "KeyError"


def test_a_remote_traceback_shows_its_text():
    assert str(RemoteTraceback("Traceback\n  line")) == "Traceback\n  line"
