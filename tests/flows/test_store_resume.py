"""Runs with a store, taken up again: what runs, what stands, what its readers are given."""

from __future__ import annotations

import datetime
import sqlite3
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpflow import Flow, Parameter, context, flatten, task, unmapped
from mpflow.engine import signals
from mpflow.engine.state import (
    Failed,
    Mapped,
    Paused,
    Resume,
    Retrying,
    Running,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)
from mpflow.errors import FlowError, RemoteError
from mpflow.executors import ProcessExecutor
from mpflow.executors.port import Executor
from mpflow.store import NullStore, SQLiteStore
from mpflow.store.files import LARGE
from mpflow.triggers import all_finished, any_failed


class Night:
    """One store, one run in it, and how often each body has begun."""

    def __init__(self, folder: Path, executor: Executor) -> None:
        self.folder = folder
        self.executor = executor
        self.store = folder / "runs.db"
        (folder / "ran").mkdir()

    def note(self) -> Callable[[str], None]:
        """What a body calls when it begins; survives whatever becomes of its process."""
        place = str(self.folder / "ran")

        def note(name: str) -> None:
            with open(f"{place}/{name}", "a") as file:
                file.write(".")

        return note

    def ran(self) -> Counter[str]:
        """How often each body has begun since the last time that this was asked."""
        found = Counter({path.name: len(path.read_text()) for path in (self.folder / "ran").iterdir()})
        for path in (self.folder / "ran").iterdir():
            path.unlink()
        return found

    def flag(self, name: str) -> Path:
        return self.folder / name

    def run(self, flow: Flow, **options: Any) -> State:
        return flow.run(
            **{"executor": self.executor, "store": self.store, "run_id": "nightly", "resume": True, **options}
        )

    def query(self, text: str) -> list[Any]:
        connection = sqlite3.connect(self.store)
        try:
            return connection.execute(text).fetchall()
        finally:
            connection.close()


@pytest.fixture
def night(tmp_path: Path, executor: Executor) -> Night:
    return Night(tmp_path, executor)


def noted_one(note: Callable[[str], None]) -> Any:
    @task
    def one() -> int:
        note("one")
        return 1

    return one


def test_a_finished_run_runs_nothing_again(night: Night) -> None:
    note = night.note()

    one = noted_one(note)

    @task
    def add(x: int, y: int) -> int:
        note("add")
        return x + y

    with Flow("f") as flow:
        total = add(one(), 4)
    first = night.run(flow)
    assert night.ran() == {"one": 1, "add": 1}
    again = night.run(flow)
    assert night.ran() == {}
    assert type(again) is type(first) is Success
    assert again.result[total].result == 5
    assert again.result[total].message == first.result[total].message
    assert night.query("SELECT state, pid > 0 FROM runs") == [("Success", 1)]
    assert len(night.query("SELECT * FROM sessions")) == 2


def test_what_failed_runs_again_and_what_hangs_on_it(night: Night) -> None:
    note, mended = night.note(), str(night.flag("mended"))

    @task
    def load() -> list[int]:
        note("load")
        return [1, 2]

    @task
    def work(data: list[int]) -> int:
        note("work")
        if not Path(mended).exists():
            raise ValueError("no such luck")
        return sum(data)

    @task
    def report(total: int) -> str:
        note("report")
        return f"{total}"

    @task
    def beside(data: list[int]) -> int:
        note("beside")
        return len(data)

    with Flow("f") as flow:
        data = load()
        said = report(work(data))
        beside(data)
    first = night.run(flow)
    assert first.is_failed()
    assert night.ran() == {"load": 1, "work": 1, "beside": 1}
    left = night.run(flow, resume="unfinished")
    assert night.ran() == {}
    assert left.is_failed()
    assert isinstance(left.result[said], TriggerFailed)
    Path(mended).touch()
    again = night.run(flow)
    assert night.ran() == {"work": 1, "report": 1}
    assert again.result[said].result == "3"


def test_children_of_maps_one_by_one(night: Night) -> None:
    note, mended = night.note(), str(night.flag("mended"))

    @task
    def numbers() -> list[int]:
        note("numbers")
        return [0, 1, 2, 3]

    @task
    def double(n: int, by: int) -> int:
        note(f"double-{n}")
        if n == 2 and not Path(mended).exists():
            raise ValueError("two")
        return n * by

    @task
    def next_of(n: int) -> int:
        note(f"next-{n}")
        return n + 1

    @task
    def total(values: list[int]) -> int:
        note("total")
        return sum(values)

    with Flow("f") as flow:
        made = next_of.map(double.map(numbers(), by=unmapped(10)))
        end = total(made)
    first = night.run(flow)
    assert first.is_failed()
    assert night.ran() == {
        "numbers": 1,
        **{f"double-{n}": 1 for n in range(4)},
        "next-0": 1,
        "next-10": 1,
        "next-30": 1,
    }
    Path(mended).touch()
    again = night.run(flow)
    assert night.ran() == {"double-2": 1, "next-20": 1, "total": 1}
    assert again.result[end].result == 64
    state = again.result[made]
    assert isinstance(state, Mapped)
    assert [child.result for child in state.map_states] == [1, 11, 21, 31]
    assert state.result == [1, 11, 21, 31]
    night.run(flow)
    assert night.ran() == {}


def test_maps_of_maps_that_are_flattened(night: Night) -> None:
    note, mended = night.note(), str(night.flag("mended"))

    @task
    def some(n: int) -> list[int]:
        note(f"some-{n}")
        if n == 2 and not Path(mended).exists():
            raise ValueError("two")
        return [n] * n

    @task
    def one(n: int) -> int:
        note(f"one-{n}")
        return n

    with Flow("f") as flow:
        end = one.map(flatten(some.map([1, 2, 3])))
    night.run(flow)
    night.ran()
    Path(mended).touch()
    again = night.run(flow)
    # Where a list changes its length, every child may be another.
    assert night.ran() == {"some-2": 1, "one-1": 1, "one-2": 2, "one-3": 3}
    assert again.result[end].result == [1, 2, 2, 3, 3, 3]
    night.run(flow)
    assert night.ran() == {}


def test_a_changed_parameter_invalidates_what_depends_on_it(night: Night) -> None:
    note = night.note()

    @task
    def scale(x: int) -> int:
        note("scale")
        return x * 10

    @task
    def shift(x: int) -> int:
        note("shift")
        return x + 1

    @task
    def both(x: int, y: int) -> tuple[int, int]:
        note("both")
        return x, y

    with Flow("f") as flow:
        a, b = Parameter("a", default=1), Parameter("b", default=2)
        end = both(scale(a), shift(b))
    assert night.run(flow, a=5).result[end].result == (50, 3)
    assert night.ran() == {"scale": 1, "shift": 1, "both": 1}
    # What was given stays given.
    assert night.run(flow).result[end].result == (50, 3)
    assert night.ran() == {}
    assert night.run(flow, b=7).result[end].result == (50, 8)
    assert night.ran() == {"shift": 1, "both": 1}
    assert night.run(flow).result[end].result == (50, 8)
    assert night.ran() == {}
    assert night.run(flow, a=5, b=2).result[end].result == (50, 3)
    assert night.ran() == {"shift": 1, "both": 1}


def test_a_changed_constant_code_or_upstream(night: Night) -> None:
    note = night.note()

    def build(*, constant: int = 1, factor: int = 2, again: bool = False, trigger: Any = None) -> tuple[Flow, Any]:
        @task
        def load(n: int) -> int:
            note("load")
            return n

        if factor == 2:

            @task
            def work(n: int) -> int:
                note("work")
                return n * 2

        else:

            @task
            def work(n: int) -> int:
                note("work")
                return n * 3

        @task
        def end(n: int) -> int:
            note("end")
            return n

        last = end if trigger is None else end.copy(trigger=trigger)
        with Flow("f") as flow:
            made = load(constant)
            made = last(load(5) if again else work(made))
        return flow, made

    def run(**how: Any) -> tuple[int, Counter[str]]:
        flow, made = build(**how)
        return night.run(flow).result[made].result, night.ran()

    assert run() == (2, {"load": 1, "work": 1, "end": 1})
    assert run() == (2, {})
    assert run(factor=3) == (3, {"work": 1, "end": 1})
    assert run(factor=3) == (3, {})
    assert run(factor=3, constant=4) == (12, {"load": 1, "work": 1, "end": 1})
    assert run(factor=3, constant=4, trigger=all_finished) == (12, {"end": 1})
    # Another task where `work` was: `end` is joined to something else.
    assert run(constant=4, again=True, trigger=all_finished) == (5, {"load": 1, "end": 1})


def test_rerun(night: Night) -> None:
    note = night.note()

    one = noted_one(note)

    @task
    def two(x: int) -> int:
        note(f"two-{x}")
        return x + 1

    @task
    def three(x: int) -> int:
        note("three")
        return x

    with Flow("f") as flow:
        first = one()
        middle = two(first)
        three(middle)
    night.run(flow)
    night.ran()
    for wanted in (middle, "two", flow.slugs[middle]):
        night.run(flow, rerun=[wanted])
        assert night.ran() == {"two-1": 1, "three": 1}
    night.run(flow, rerun="one")
    assert night.ran() == {"one": 1, "two-1": 1, "three": 1}
    with pytest.raises(ValueError, match="rerun names 'four', which is not a task of flow 'f'"):
        night.run(flow, rerun=["four"])
    with pytest.raises(ValueError, match="goes with resume=True"):
        night.run(flow, rerun=["two"], resume=False, run_id="other")
    with Flow("m") as flow:
        two.map([1, 2])
    night.run(flow, run_id="mapped")
    night.ran()
    night.run(flow, run_id="mapped", rerun=["two"])
    assert night.ran() == {"two-1": 1, "two-2": 1}


def test_a_pause_lasts_until_somebody_lifts_it(night: Night) -> None:
    note = night.note()

    @task
    def draft() -> str:
        note("draft")
        return "text"

    @task
    def approve(text: str) -> str:
        note("approve")
        if not context.get("resume"):
            raise signals.PAUSE("look at it")
        return text.upper()

    @task
    def publish(text: str) -> str:
        note("publish")
        return f"<{text}>"

    with Flow("f") as flow:
        approved = approve(draft())
        published = publish(approved)
    for count in (1, 0):
        state = night.run(flow)
        assert type(state) is Running
        assert type(state.result[approved]) is Paused
        assert state.result[approved].message == "look at it"
        assert night.ran() == ({"draft": 1, "approve": 1} if count else {})
    assert night.query("SELECT state FROM runs") == [("Running",)]
    state = night.run(flow, task_states={approved: Resume()})
    assert state.result[published].result == "<TEXT>"
    assert night.ran() == {"approve": 1, "publish": 1}
    night.run(flow)
    assert night.ran() == {}


def test_pauses_of_children_are_lifted_together(night: Night) -> None:
    note = night.note()

    @task
    def approve(n: int) -> int:
        note(f"approve-{n}")
        if n % 2 and not context.get("resume"):
            raise signals.PAUSE
        return n

    @task
    def add(values: list[int]) -> int:
        note("add")
        return sum(values)

    with Flow("f") as flow:
        approved = approve.map([1, 2, 3, 4])
        end = add(approved)
    state = night.run(flow)
    assert [type(child) for child in state.result[approved].map_states] == [Paused, Success, Paused, Success]
    assert night.ran() == {f"approve-{n}": 1 for n in (1, 2, 3, 4)}
    state = night.run(flow, task_states={approved: Resume()})
    assert state.result[end].result == 10
    assert night.ran() == {"approve-1": 1, "approve-3": 1, "add": 1}


def test_a_loop_goes_on_where_it_was(night: Night) -> None:
    note, stop = night.note(), str(night.flag("stop"))
    Path(stop).touch()

    @task
    def rounds(start: int) -> tuple[int, int]:
        count, so_far = context.get("task_loop_count", 1), context.get("task_loop_result") or start
        note(f"round-{count}")
        if count == 3 and Path(stop).exists():
            raise KeyError("lost")
        if count == 5:
            return count, so_far
        raise signals.LOOP(result=so_far + 1)

    with Flow("f") as flow:
        end = rounds(100)
    assert night.run(flow).is_failed()
    assert night.ran() == {"round-1": 1, "round-2": 1, "round-3": 1}
    Path(stop).unlink()
    # It failed, so it begins anew: what counts as done is only what was cut off between two rounds.
    assert night.run(flow).result[end].result == (5, 104)
    assert night.ran() == {f"round-{n}": 1 for n in range(1, 6)}


def test_a_retry_keeps_its_count_and_its_time(night: Night) -> None:
    note = night.note()

    @task(max_retries=3, retry_delay=datetime.timedelta(hours=1))
    def flaky() -> int:
        note(f"attempt-{context.task_run_count}")
        if context.task_run_count < 3:
            raise ValueError("not yet")
        return int(context.task_run_count)

    @task
    def behind(n: int) -> int:
        note("behind")
        return n

    with Flow("f") as flow:
        tried = flaky()
        end = behind(tried)
    state = night.run(flow, wait_for_retries=False)
    found = state.result[tried]
    assert isinstance(found, Retrying)
    assert night.ran() == {"attempt-1": 1}
    again = night.run(flow, wait_for_retries=False).result[tried]
    assert isinstance(again, Retrying)
    assert (again.start_time, again.run_count) == (found.start_time, found.run_count)
    assert night.ran() == {}
    # As if an hour had gone by, twice.
    for attempt in (2, 3):
        past = found.start_time - datetime.timedelta(hours=2)
        state = night.run(
            flow, wait_for_retries=False, task_states={tried: found.replace(start_time=past, run_count=attempt - 1)}
        )
        assert night.ran() == {f"attempt-{attempt}": 1, **({"behind": 1} if attempt == 3 else {})}
    assert state.result[end].result == 3
    assert night.query("SELECT run_count FROM attempts WHERE task = 0 ORDER BY session") == [(1,), (2,), (3,)]


def test_handlers_of_failures_run_again_with_them(night: Night) -> None:
    note, mended = night.note(), str(night.flag("mended"))

    @task
    def work() -> int:
        note("work")
        if not Path(mended).exists():
            raise ValueError("no")
        return 1

    @task(trigger=any_failed)
    def alarm(error: object) -> str:
        note("alarm")
        return str(error)

    with Flow("f") as flow:
        failing = work()
        ringing = alarm(failing)
    state = night.run(flow)
    assert (state.result[ringing].result, night.ran()) == ("no", {"work": 1, "alarm": 1})
    state = night.run(flow, resume="unfinished")
    assert (state.result[ringing].result, night.ran()) == ("no", {})
    assert isinstance(state.result[failing], Failed)
    Path(mended).touch()
    state = night.run(flow)
    assert isinstance(state.result[ringing], TriggerFailed)
    assert night.ran() == {"work": 1}
    state = night.run(flow, resume="unfinished")
    assert night.ran() == {}


def test_states_come_back_as_they_were(night: Night) -> None:
    note = night.note()

    @task
    def end(how: str) -> object:
        note(how)
        if how == "skip":
            raise signals.SKIP("not today", result=4)
        if how == "success":
            raise signals.SUCCESS("done by hand", result=[1])
        if how == "fail":
            raise signals.FAIL("no", result={"why": 1})
        if how == "error":
            raise KeyError("lost")
        return None

    with Flow("f") as flow:
        ends = [end(how) for how in ("skip", "success", "fail", "error", "none")]
    first = night.run(flow)
    again = night.run(flow, resume="unfinished")
    assert night.ran() == {"skip": 1, "success": 1, "fail": 1, "error": 1, "none": 1}
    for each in ends:
        before, after = first.result[each], again.result[each]
        assert type(before) is type(after)
        assert before.message == after.message
        assert repr(before.result) == repr(after.result)
    assert type(again.result[ends[0]]) is Skipped
    assert again.result[ends[4]].result is None


def test_large_results_lie_beside_the_store(night: Night) -> None:
    note = night.note()

    @task
    def large(n: int) -> bytes:
        note("large")
        return bytes([n]) * (LARGE + n)

    @task
    def measure(data: bytes, again: int) -> int:
        note("measure")
        return len(data)

    def build(n: int) -> tuple[Flow, Any, Any]:
        with Flow("f") as flow:
            data = large(3)
            end = measure(data, n)
            ends = measure.map(large.map([4, 5]), again=unmapped(n))
        return flow, end, ends

    flow, end, ends = build(1)
    night.run(flow)
    assert night.ran() == {"large": 3, "measure": 3}
    files = sorted(path.stat().st_size > LARGE for path in night.folder.glob("runs.db-results/*/*"))
    assert files == [True] * 3
    flow, end, ends = build(2)
    state = night.run(flow)
    assert night.ran() == {"measure": 3}
    assert state.result[end].result == LARGE + 3
    assert state.result[ends].result == [LARGE + 4, LARGE + 5]
    for path in night.folder.glob("runs.db-results/*/*"):
        path.unlink()
    flow, end, ends = build(2)
    state = night.run(flow)
    assert night.ran() == {"large": 3, "measure": 3}


def test_a_loop_that_pauses_goes_on_with_its_round(night: Night) -> None:
    note = night.note()

    @task
    def rounds(start: int) -> tuple[int, int]:
        count, so_far = context.get("task_loop_count", 1), context.get("task_loop_result") or start
        note(f"round-{count}")
        if count == 3 and not context.get("resume"):
            raise signals.PAUSE
        if count == 5:
            return count, so_far
        raise signals.LOOP(result=so_far + 1)

    with Flow("f") as flow:
        end = rounds(100)
    assert night.run(flow).is_running()
    assert night.ran() == {"round-1": 1, "round-2": 1, "round-3": 1}
    state = night.run(flow, task_states={end: Resume()})
    assert state.result[end].result == (5, 104)
    assert night.ran() == {"round-3": 1, "round-4": 1, "round-5": 1}


def test_a_retry_in_the_middle_of_a_loop_keeps_its_round(night: Night) -> None:
    note = night.note()

    @task(max_retries=1, retry_delay=datetime.timedelta(seconds=0.1))
    def rounds() -> tuple[int, int]:
        count, run = context.get("task_loop_count", 1), context.task_run_count
        note(f"round-{count}-{run}")
        if count == 2 and run == 1:
            raise ValueError("not yet")
        if count == 3:
            return count, context.task_loop_result
        raise signals.LOOP(result=count * 10)

    with Flow("f") as flow:
        end = rounds()
    state = night.run(flow, wait_for_retries=False)
    assert isinstance(state.result[end], Retrying)
    state = night.run(flow)
    assert state.result[end].result == (3, 20)
    assert night.ran() == {"round-1-1": 1, "round-2-1": 1, "round-2-2": 1, "round-3-1": 1}


class Lock:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("a Lock is not to be pickled")


@pytest.mark.parametrize("name", ["sync", "threads"])
def test_a_result_that_cannot_be_kept_is_made_again(tmp_path: Path, name: str) -> None:
    night = Night(tmp_path, name)  # type: ignore[arg-type]
    note = night.note()

    @task
    def connect() -> Lock:
        note("connect")
        return Lock()

    @task
    def use(lock: Lock) -> int:
        note("use")
        return 1

    @task
    def signalled() -> None:
        note("signalled")
        raise signals.SUCCESS(result=Lock())

    @task
    def beside() -> int:
        note("beside")
        return 1

    with Flow("f") as flow:
        use(connect())
        use(signalled())
        beside()
    assert night.run(flow).is_successful()
    assert night.ran() == {"connect": 1, "signalled": 1, "use": 2, "beside": 1}
    assert night.run(flow).is_successful()
    assert night.ran() == {"connect": 1, "signalled": 1, "use": 2}


def test_a_result_whose_class_is_gone_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("users_results")
    exec("class Answer:\n    def __init__(self, n):\n        self.n = n\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "users_results", module)
    night = Night(tmp_path, "sync")  # type: ignore[arg-type]
    note = night.note()

    @task
    def answer() -> Any:
        note("answer")
        return sys.modules["users_results"].Answer(42)

    @task
    def use(found: Any) -> int:
        note("use")
        return int(found.n)

    with Flow("f") as flow:
        end = use(answer())
    night.run(flow)
    night.ran()
    night.run(flow)
    assert night.ran() == {}
    monkeypatch.delattr(module, "Answer")
    state = night.run(flow)
    assert state.is_failed()
    assert night.ran() == {"answer": 1}
    exec("class Answer:\n    def __init__(self, n):\n        self.n = n + 1\n", module.__dict__)
    state = night.run(flow)
    assert state.result[end].result == 43
    assert night.ran() == {"answer": 1, "use": 1}


class Odd(Exception):
    """Cannot be built from its arguments."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} is not {second}")


def test_an_exception_that_will_not_travel_is_kept_in_words(night: Night) -> None:
    @task
    def work() -> None:
        raise Odd(1, 2)

    with Flow("f") as flow:
        end = work()
    night.run(flow)
    found = night.run(flow, resume="unfinished").result[end]
    assert found.message == "Odd: 1 is not 2"
    assert isinstance(found.result, (RemoteError, Odd))
    assert "1 is not 2" in str(found.result)
    (trace,) = night.query("SELECT trace FROM units WHERE trace IS NOT NULL")[0]
    assert "raise Odd(1, 2)" in trace


def test_keep_references_keeps_in_the_store(night: Night) -> None:
    note = night.note()

    @task
    def load() -> list[int]:
        note("load")
        return [1, 2, 3]

    @task
    def work(data: list[int], n: int) -> int:
        note("work")
        return sum(data) * n

    def build(n: int) -> tuple[Flow, Any, Any]:
        with Flow("f") as flow:
            data = load()
            end = work(data, n)
        return flow, data, end

    flow, data, end = build(1)
    state = night.run(flow, keep="references")
    assert state.result[data].result is None
    flow, data, end = build(2)
    state = night.run(flow, keep="references")
    assert night.ran() == {"load": 1, "work": 2}
    assert state.result[end].result == 12


def test_handlers_see_what_runs_and_not_what_stands(night: Night) -> None:
    mended = str(night.flag("mended"))
    seen: list[str] = []

    def handler(task_: Any, old: State, new: State) -> None:
        seen.append(f"{task_.name} {type(new).__name__}")

    @task(state_handlers=[handler])
    def one() -> int:
        return 1

    @task(state_handlers=[handler])
    def two(x: int) -> int:
        if not Path(mended).exists():
            raise ValueError("no")
        return x

    with Flow("f") as flow:
        two(one())
    night.run(flow)
    del seen[:]
    Path(mended).touch()
    assert night.run(flow).is_successful()
    assert seen
    assert all(each.startswith("two ") for each in seen)


def test_the_environment_may_name_the_store(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    note = night.note()

    one = noted_one(note)

    with Flow("f") as flow:
        one()
    monkeypatch.setenv("MPFLOW_STORE", str(night.store))
    for _ in range(2):
        night.run(flow, store=None)
    assert night.ran() == {"one": 1}
    assert night.store.exists()
    night.run(flow, store=NullStore())
    assert night.ran() == {"one": 1}
    # Every run without an id is one of its own.
    for _ in range(2):
        flow.run(executor=night.executor)
    assert night.ran() == {"one": 2}
    assert len(night.query("SELECT id FROM runs")) == 3


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    with Flow("f") as flow:
        task(lambda: 1, name="one")()
    with Flow("g") as other:
        task(lambda: 1, name="one")()
    with pytest.raises(ValueError, match=r"run_id='nightly' .* store"):
        flow.run(run_id="nightly")
    with pytest.raises(ValueError, match=r"resume=True needs .* run_id"):
        flow.run(store=store, resume=True)
    with pytest.raises(ValueError, match="resume is 'yes'"):
        flow.run(store=store, run_id="nightly", resume="yes")
    with pytest.raises(ValueError, match="run_id is ''"):
        flow.run(store=store, run_id="")
    with pytest.raises(TypeError, match="store is 5"):
        flow.run(store=5)
    with pytest.raises(ValueError, match="a run store is a file, which ':memory:' is not"):
        flow.run(store=":memory:")
    assert not store.exists()
    flow.run(store=store, run_id="nightly")
    with pytest.raises(FlowError, match=r"has a run 'nightly' already; go on with it by resume=True"):
        flow.run(store=store, run_id="nightly")
    with pytest.raises(FlowError, match=r"one of flow 'f', not of 'g'"):
        other.run(store=store, run_id="nightly", resume=True)


def test_a_parameter_that_cannot_be_kept(tmp_path: Path) -> None:
    ran: list[int] = []
    with Flow("f") as flow:
        task(lambda x: ran.append(1), name="one")(Parameter("x"))
    with pytest.raises(FlowError, match="a parameter cannot be kept in the run store"):
        flow.run(store=tmp_path / "runs.db", x=Lock())
    assert not ran


def test_time_limits_and_crashes_are_kept(tmp_path: Path) -> None:
    import os
    import time

    (tmp_path / "night").mkdir()
    with ProcessExecutor(2) as executor:
        night = Night(tmp_path / "night", executor)
        note = night.note()

        @task(timeout=0.2)
        def slow() -> None:
            note("slow")
            time.sleep(60)

        @task
        def dies() -> None:
            note("dies")
            os._exit(3)

        with Flow("f") as flow:
            late, dead = slow(), dies()
        first = night.run(flow)
        again = night.run(flow, resume="unfinished")
        assert night.ran() == {"slow": 1, "dies": 1}
        for each in (late, dead):
            assert type(again.result[each]) is type(first.result[each])
            assert again.result[each].message == first.result[each].message
            assert type(again.result[each].result) is type(first.result[each].result)
        assert isinstance(again.result[late], TimedOut)
        assert again.result[dead].result.exitcode == 3
        night.run(flow)
        assert night.ran() == {"slow": 1, "dies": 1}


def test_one_store_for_all_executors(tmp_path: Path) -> None:
    night = Night(tmp_path, "sync")  # type: ignore[arg-type]
    note = night.note()

    @task
    def one(n: int) -> int:
        note("one")
        return n

    def build(n: int) -> tuple[Flow, Any]:
        with Flow("f") as flow:
            end = one(one.map([1, 2, n]))
        return flow, end

    store = SQLiteStore(night.store)
    with ProcessExecutor(1) as pool:
        for n, executor in enumerate(["sync", "threads", pool, "sync"]):
            flow, end = build(n)
            state = flow.run(executor=executor, store=store, run_id="nightly", resume=True)
            assert state.result[end].result == [1, 2, n]
    assert night.ran() == {"one": 16}
    flow, end = build(3)
    night.run(flow)
    assert night.ran() == {}
