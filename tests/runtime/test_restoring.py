"""Every decision about a task of a resumed run, and the reason that is given for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mpflow import Flow, Parameter, Task, context, task
from mpflow.engine import signals
from mpflow.engine.state import Resume
from mpflow.errors import FlowError
from mpflow.runtime.previewing import plan_resume
from mpflow.store import SQLiteStore
from mpflow.store.files import LARGE
from tests.store.cutting import Cut, CuttingStore


class Bench:
    """One run of a flow, and what would become of it."""

    def __init__(self, folder: Path) -> None:
        self.store = CuttingStore(folder / "runs.db")

    def run(self, flow: Flow, **options: Any) -> Any:
        return flow.run(store=self.store, run_id="r", **{"resume": True, **options})

    def cut(self, flow: Flow, after: int, *, durable: bool = False) -> None:
        with pytest.raises(Cut):
            flow.run(store=self.store.cut(after, durable=durable), run_id="r", resume=True)
        self.store.cut(None)

    def decide(self, flow: Flow, **options: Any) -> dict[str, tuple[str, str]]:
        found = plan_resume(flow, self.store, "r", **options)
        names = [each.name if each.index is None else f"{each.name}[{each.index}]" for each in found]
        assert len(set(names)) == len(names)
        return dict(zip(names, [(each.action, each.reason) for each in found], strict=True))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def body(name: str, do: Callable[..., object], **options: Any) -> Any:
    return task(do, name=name, **options)  # type: ignore[call-overload]


def chain(names: Sequence[str], **bodies: Callable[..., object]) -> Flow:
    with Flow("f") as flow:
        last: Any = 1
        for name in names:
            last = body(name, bodies.get(name, lambda x: x))(last)
    return flow


def count(values: Sequence[object]) -> int:
    return len(values)


def add(values: Sequence[int]) -> int:
    return sum(values)


def fail(x: object) -> object:
    raise ValueError("no")


def test_what_never_ran_and_what_was_reused(bench: Bench) -> None:
    bench.run(chain("ab"))
    assert bench.decide(chain("abc")) == {
        "a": ("reuse", "reused"),
        "b": ("reuse", "reused"),
        "c": ("run", "never ran"),
    }


def test_a_run_that_is_not_there_never_ran(bench: Bench) -> None:
    assert bench.decide(chain("ab")) == {"a": ("run", "never ran"), "b": ("run", "never ran")}
    assert not Path(bench.store.path).exists()


def test_what_failed_earlier(bench: Bench) -> None:
    flow = chain("abc", b=fail)
    bench.run(flow)
    assert bench.decide(flow) == {
        "a": ("reuse", "reused"),
        "b": ("run", "failed earlier"),
        "c": ("run", "upstream reruns"),
    }
    assert bench.decide(flow, unfinished=True) == {
        "a": ("reuse", "reused"),
        "b": ("reuse", "failed earlier, left as it is"),
        "c": ("reuse", "failed earlier, left as it is"),
    }


def test_what_was_skipped(bench: Bench) -> None:
    def skip(x: object) -> object:
        raise signals.SKIP

    flow = chain("ab", a=skip)
    bench.run(flow)
    assert bench.decide(flow) == {"a": ("reuse", "skipped earlier"), "b": ("reuse", "skipped earlier")}


def test_code_that_changed(bench: Bench) -> None:
    bench.run(chain("abc"))
    assert bench.decide(chain("abc", b=lambda x: x + 1)) == {
        "a": ("reuse", "reused"),
        "b": ("run", "code changed"),
        "c": ("run", "upstream reruns"),
    }


def test_what_a_task_may_spend_is_no_change(bench: Bench) -> None:
    def build(**options: Any) -> Flow:
        with Flow("f") as flow:
            body("a", lambda x: x, **options)(1)
        return flow

    bench.run(build())
    assert bench.decide(build(max_retries=3, retry_delay=1, timeout=9)) == {"a": ("reuse", "reused")}
    assert bench.decide(build(skip_on_upstream_skip=False)) == {"a": ("run", "code changed")}


class Adding(Task[Any, Any]):
    def __init__(self, n: int, **options: Any) -> None:
        self.n = n
        super().__init__(**options)

    def run(self, x: int) -> int:
        return x + self.n


def test_the_same_of_a_task_with_a_class_of_its_own(bench: Bench) -> None:
    def build(n: int, **options: Any) -> Flow:
        with Flow("f") as flow:
            Adding(n, name="a", **options)(1)
        return flow

    bench.run(build(1))
    for options in ({"max_retries": 3, "retry_delay": 1}, {"timeout": 9}, {"on_failure": print}):
        assert bench.decide(build(1, **options)) == {"a": ("reuse", "reused")}
    assert bench.decide(build(2)) == {"a": ("run", "code changed")}


def test_inputs_that_changed(bench: Bench) -> None:
    def build(constant: int, *, swapped: bool = False) -> Flow:
        with Flow("f") as flow:
            one, two = body("one", lambda x: x)(constant), body("two", lambda: 2)()
            first, second = (two, one) if swapped else (one, two)
            body("both", lambda x, y: (x, y))(first, second)
        return flow

    bench.run(build(1))
    assert bench.decide(build(2)) == {
        "two": ("reuse", "reused"),
        "one": ("run", "input changed"),
        "both": ("run", "upstream reruns"),
    }
    assert bench.decide(build(1, swapped=True))["both"] == ("run", "input changed")


def test_parameters_that_changed(bench: Bench) -> None:
    with Flow("f") as flow:
        a, b = body("a", lambda x: x)(Parameter("p", default=1)), body("b", lambda x: x)(Parameter("q", default=[1]))
        body("c", lambda x, y: 0)(a, b)
    bench.run(flow, p=5)
    everything = dict.fromkeys("abc", ("reuse", "reused"))
    assert bench.decide(flow) == everything
    assert bench.decide(flow, parameters={"q": [1]}) == everything
    changed = bench.decide(flow, parameters={"p": 1})
    assert changed == {"a": ("run", "input changed"), "b": ("reuse", "reused"), "c": ("run", "upstream reruns")}
    with pytest.raises(ValueError, match="'z'"):
        bench.decide(flow, parameters={"z": 1})


def test_what_is_asked_for(bench: Bench) -> None:
    flow = chain("abc")
    bench.run(flow)
    assert bench.decide(flow, rerun=["b"]) == {
        "a": ("reuse", "reused"),
        "b": ("run", "asked for"),
        "c": ("run", "upstream reruns"),
    }


def test_what_is_no_longer_in_the_flow(bench: Bench) -> None:
    bench.run(chain("abc"))
    assert bench.decide(chain("ab"))["c"] == ("gone", "no longer in the flow")
    assert bench.run(chain("ab")).is_successful()


class Lock:
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def test_results_that_are_not_there(bench: Bench) -> None:
    flow = chain("abc", a=lambda x: bytes(LARGE), b=lambda x: Lock(), c=lambda x: 1)
    bench.run(flow)
    assert bench.decide(flow) == {
        "a": ("reuse", "reused"),
        "b": ("run", "no stored result"),
        "c": ("run", "upstream reruns"),
    }
    (file,) = Path(bench.store.files.folder).glob("*/*")
    file.write_bytes(b"short")
    assert bench.decide(flow)["a"] == ("run", "no stored result")
    file.unlink()
    assert bench.decide(flow)["a"] == ("run", "no stored result")
    assert bench.run(flow).is_successful()


GONE: list[bool] = []


class Leaving:
    """Exits when it is loaded, where `GONE` says so."""

    def __reduce__(self) -> Any:
        return _leave, ()


def _leave() -> object:
    if GONE:
        raise SystemExit(3)
    return Leaving()


def test_results_that_can_no_longer_be_read(bench: Bench) -> None:
    flow = chain("ab", a=lambda x: Leaving(), b=lambda x: 1)
    bench.run(flow)
    assert bench.decide(flow)["a"] == ("reuse", "reused")
    GONE.append(True)
    try:
        action, reason = bench.decide(flow)["a"]
    finally:
        GONE.clear()
    assert action == "run"
    assert reason.startswith("its stored result can no longer be read (SystemExit")


def test_what_is_paused(bench: Bench) -> None:
    def pause(x: object) -> object:
        if not context.get("resume"):
            raise signals.PAUSE
        return x

    flow = chain("abc", b=pause)
    bench.run(flow)
    assert bench.decide(flow) == {
        "a": ("reuse", "reused"),
        "b": ("wait", "paused"),
        "c": ("run", "never ran"),
    }
    assert bench.decide(flow, rerun=["b"])["b"] == ("run", "asked for")


def test_a_retry_that_is_due(bench: Bench) -> None:
    with Flow("f") as flow:
        body("a", lambda: fail(1), max_retries=2, retry_delay=timedelta(hours=1))()
    bench.run(flow, wait_for_retries=False)
    assert bench.decide(flow) == {"a": ("go on", "its retry is due")}


SEEN: list[tuple[int, Any]] = []


def test_the_round_of_a_loop(bench: Bench) -> None:
    def rounds() -> object:
        count = context.get("task_loop_count", 1)
        SEEN.append((count, context.get("task_loop_result")))
        if count < 4:
            raise signals.LOOP(result=count * 10)
        return count

    with Flow("f") as flow:
        end = body("a", rounds)()
    # Each round's commit has the round before: the second is lost with the third one's.
    bench.cut(flow, 2)
    assert bench.decide(flow) == {"a": ("go on", "loop: iteration 1 is done")}
    bench.cut(flow, 0, durable=True)
    assert bench.decide(flow) == {"a": ("go on", "loop: iteration 1 is done")}
    SEEN.clear()
    assert bench.run(flow).result[end].result == 4
    assert SEEN == [(2, 10), (3, 20), (4, 30)]


def test_what_was_cut_off(bench: Bench) -> None:
    flow = chain("abc")
    # Commits: a begins; a has ended and b begins; b has ended and c begins.
    bench.cut(flow, 1, durable=True)
    assert bench.decide(flow) == {
        "a": ("reuse", "reused"),
        "b": ("run", "was cut off"),
        "c": ("run", "never ran"),
    }
    bench.cut(flow, 1)
    assert bench.decide(flow)["b"] == ("run", "was cut off")
    bench.cut(flow, 1, durable=True)
    assert bench.decide(flow)["b"] == ("reuse", "reused")
    assert bench.run(flow).is_successful()


def test_children_are_decided_one_by_one(bench: Bench) -> None:
    def odd(n: int) -> int:
        if n % 2 == 0:
            raise ValueError("even")
        if n == 3 and not context.get("resume"):
            raise signals.PAUSE
        return n

    with Flow("f") as flow:
        numbers = body("numbers", lambda: [0, 1, 2, 3])()
        odds = body("odd", odd).map(numbers)
        more = body("more", lambda n: n + 1).map(odds)
        body("total", count)(more)
        body("all", count)(odds)
    bench.run(flow)
    assert bench.decide(flow) == {
        "numbers": ("reuse", "reused"),
        "odd[0]": ("run", "failed earlier"),
        "odd[1]": ("reuse", "reused"),
        "odd[2]": ("run", "failed earlier"),
        "odd[3]": ("wait", "paused"),
        "more[0]": ("run", "upstream reruns"),
        "more[1]": ("reuse", "reused"),
        "more[2]": ("run", "upstream reruns"),
        "more[3]": ("run", "upstream reruns"),
        "total": ("run", "never ran"),
        "all": ("run", "never ran"),
    }
    left = bench.decide(flow, unfinished=True)
    assert left["odd[0]"] == left["more[0]"] == ("reuse", "failed earlier, left as it is")
    assert left["odd[3]"] == ("wait", "paused")
    state = bench.run(flow, resume="unfinished", task_states={odds: Resume()})
    assert [type(child).__name__ for child in state.result[more].map_states] == [
        "TriggerFailed",
        "Success",
        "TriggerFailed",
        "Success",
    ]


def test_children_that_were_cut_off(bench: Bench) -> None:
    with Flow("f") as flow:
        some = body("some", lambda n: n).map([1, 2, 3])
        body("total", add)(some)
    # On one slot: all begin one after the other, each with the end of the one before.
    bench.cut(flow, 2, durable=True)
    assert bench.decide(flow) == {
        "some[0]": ("reuse", "reused"),
        "some[1]": ("reuse", "reused"),
        "some[2]": ("run", "was cut off"),
        "total": ("run", "never ran"),
    }


def test_a_map_over_something_else_runs_as_a_whole(bench: Bench) -> None:
    def build(numbers: list[int]) -> Flow:
        with Flow("f") as flow:
            body("total", add)(body("some", lambda n: n).map(numbers))
        return flow

    bench.run(build([1, 2]))
    assert bench.decide(build([1, 2, 3])) == {
        "some": ("run", "input changed"),
        "total": ("run", "upstream reruns"),
    }
    bench.run(build([]))
    assert bench.decide(build([])) == {"total": ("reuse", "reused")}


def test_another_flow_s_run(bench: Bench) -> None:
    bench.run(chain("ab"))
    with Flow("g") as other:
        body("a", fail)(1)
    with pytest.raises(FlowError, match="one of flow 'f', not of 'g'"):
        bench.run(other)


def test_a_store_that_is_looked_at_is_not_written(bench: Bench) -> None:
    bench.run(chain("ab"))
    before = Path(bench.store.path).read_bytes()
    bench.decide(chain("abc"))
    assert Path(bench.store.path).read_bytes() == before
    # Somebody else may work on it meanwhile.
    assert SQLiteStore(bench.store.path).parameters("r") == b""
