"""E: Ctrl-C, signals to the coordinator, and code of the user's that raises in the coordinator."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from faults.scene import ALL, BOTH, case, children, kill, mark, marks, meanwhile, nothing_open, second_flow, until
from mpflow import Flow, context, task
from mpflow.engine.state import Failed, State
from mpflow.executors import ProcessExecutor


def _plain() -> None:
    time.sleep(60)


def _stubborn() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


def _holding() -> None:
    ctypes.PyDLL(None).sleep(60)


def _family() -> None:
    subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True)
    time.sleep(60)


def _quick() -> None:
    time.sleep(0.7)


BODIES: dict[str, Callable[[], None]] = {
    "plain": _plain,
    "stubborn": _stubborn,
    "holding": _holding,
    "family": _family,
    "quick": _quick,
}


def _flow(what: str) -> Flow:
    inner = BODIES[what]

    def body(n: int) -> int:
        mark("begun")
        inner()
        return n

    with Flow("interrupted") as flow:
        for n in range(6):
            task(body, name=f"busy-{n}")(n)  # type: ignore[call-overload]
    return flow


def _interrupt(times: int, *, group: bool) -> Callable[[int], None]:
    def strike(coordinator: int) -> None:
        if group:
            # As the terminal does: to everything in the foreground.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        until(lambda: marks("begun") >= 2)
        for number in range(times):
            if number:
                time.sleep(0.15)
            if group:
                os.killpg(coordinator, signal.SIGINT)
            else:
                os.kill(coordinator, signal.SIGINT)

    return strike


@case(
    "E18",
    *({"what": what, "group": group} for what in BODIES for group in (False, True)),
    methods=BOTH,
)
def one_ctrl_c_is_enough(method: str, what: str, group: bool) -> None:
    flow = _flow(what)
    with nothing_open():
        with meanwhile(_interrupt(1, group=group)):
            began = time.monotonic()
            try:
                flow.run(executor=ProcessExecutor(2, start_method=method))
            except KeyboardInterrupt as stop:
                state: State = stop.state  # type: ignore[attr-defined]
            else:
                raise AssertionError("no KeyboardInterrupt")
            assert time.monotonic() - began < 8
        assert marks("begun") == 2, "something was started after Ctrl-C"
        ended = sum(each.is_successful() for each in state.result.values())
        assert ended == (2 if what == "quick" else 0), [str(each) for each in state.result.values()]
        assert len(state.result) == 6
        second_flow(method)


@case("E18", {"times": 2, "group": False}, {"times": 3, "group": True}, {"times": 3, "group": False}, methods=BOTH)
def several_in_a_row_are_clean(method: str, times: int, group: bool) -> None:
    flow = _flow("stubborn")
    with nothing_open():
        with meanwhile(_interrupt(times, group=group)):
            try:
                flow.run(executor=ProcessExecutor(2, start_method=method))
                raise AssertionError("no KeyboardInterrupt")
            except KeyboardInterrupt:
                pass
            # One that comes after the run has ended is Python's own.
            try:
                time.sleep(0.6)
            except KeyboardInterrupt:
                pass
        assert marks("begun") == 2
        second_flow(method)


@case("E18", {"times": 1}, {"times": 3}, methods=("forkserver",))
def a_script_shows_at_most_two_tracebacks(method: str, times: int) -> None:
    script = f"""
import os, time
from mpflow import Flow, task
from mpflow.executors import ProcessExecutor

@task
def busy(n):
    with open("begun", "a") as file:
        file.write("x")
    time.sleep(60)

with Flow("script") as flow:
    busy.map(list(range(6)))
flow.run(executor=ProcessExecutor(2, start_method={method!r}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: os.path.exists("begun") and os.path.getsize("begun") >= 2)
    for number in range(times):
        if number:
            time.sleep(0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    words = process.communicate(timeout=15)[1]
    assert process.returncode in (-signal.SIGINT, 130, 1), (process.returncode, words)
    assert words.count("Traceback") <= 2, words
    assert words.count("KeyboardInterrupt") >= 1, words
    assert "Exception ignored" not in words, words


@case("E18", {"while_": "waiting for a retry"}, {"while_": "starting"}, methods=BOTH)
def ctrl_c_while_nothing_runs(method: str, while_: str) -> None:
    def body() -> None:
        mark("begun")
        raise ValueError("again")

    def strike(coordinator: int) -> None:
        until((lambda: marks("begun")) if while_ == "waiting for a retry" else (lambda: children(coordinator)))
        if while_ == "waiting for a retry":
            time.sleep(0.2)
        os.kill(coordinator, signal.SIGINT)

    def initializer() -> None:
        if while_ == "starting":
            time.sleep(1)

    with Flow("retry") as flow:
        end = task(body, name="guilty", max_retries=3, retry_delay=60)()  # type: ignore[call-overload]
    with nothing_open():
        with meanwhile(strike):
            began = time.monotonic()
            try:
                flow.run(executor=ProcessExecutor(2, start_method=method, initializer=initializer))
            except KeyboardInterrupt as stop:
                # Before the run has begun to drive there is no state to speak of.
                state = getattr(stop, "state", None)
            else:
                raise AssertionError("no KeyboardInterrupt")
            assert time.monotonic() - began < 8
        assert marks("begun") == (1 if while_ == "waiting for a retry" else 0)
        if while_ == "waiting for a retry":
            assert state is not None
            assert not state.result[end].is_successful()
        second_flow(method)


def _killed(method: str, number: int, what: str) -> None:
    def strike(coordinator: int) -> None:
        until(lambda: marks("begun") >= 2)
        os.kill(coordinator, number)
        time.sleep(10)

    # Not the helper that dies with this process: it must have died by the signal.
    flow = _flow(what)
    with meanwhile(strike):
        flow.run(executor=ProcessExecutor(2, start_method=method))


@case("E19", *({"what": what} for what in BODIES if what != "quick"), methods=ALL, ends=-signal.SIGKILL)
def the_coordinator_is_killed(method: str, what: str) -> None:
    _killed(method, signal.SIGKILL, what)


@case("E19", {"what": "plain"}, {"what": "stubborn"}, methods=ALL, ends=-signal.SIGKILL)
def coordinator_and_supervisor_are_killed_at_once(method: str, what: str) -> None:
    def strike(coordinator: int) -> None:
        until(lambda: marks("begun") >= 2)
        victims = [*children(coordinator), coordinator]
        for pid in victims:
            kill(pid, signal.SIGSTOP)
        for pid in victims:
            kill(pid, signal.SIGKILL)
        time.sleep(10)

    flow = _flow(what)
    with meanwhile(strike):
        flow.run(executor=ProcessExecutor(2, start_method=method))


def _bulky(n: int) -> bytearray:
    return bytearray([n]) * 40_000_000


def _holding_bulk(own: bytearray, theirs: bytearray) -> int:
    own[0] += 1
    mark("begun")
    time.sleep(60)
    return own[0] + theirs[0]


@case(
    "E19",
    {"whom": "coordinator"},
    {"whom": "coordinator and supervisor"},
    {"whom": "all"},
    methods=ALL,
    ends=-signal.SIGKILL,
)
def everything_is_killed_while_large_values_are_held(method: str, whom: str) -> None:
    """Values lie in memory without a name, so they go with the last process that holds them."""

    def strike(coordinator: int) -> None:
        until(lambda: marks("begun") >= 2)
        supervisors = children(coordinator)
        workers = [worker for pid in supervisors for worker in children(pid)]
        victims = {
            "coordinator": [coordinator],
            "coordinator and supervisor": [*supervisors, coordinator],
            "all": [*workers, *supervisors, coordinator],
        }[whom]
        for pid in victims:
            kill(pid, signal.SIGSTOP)
        for pid in victims:
            kill(pid, signal.SIGKILL)
        time.sleep(10)

    make = task(_bulky)
    with Flow("bulk") as flow:
        first, second = make(1), make(2)
        task(_holding_bulk)(first, second)
        task(_holding_bulk)(second, first)
    with meanwhile(strike):
        flow.run(executor=ProcessExecutor(2, start_method=method))


@case("E19", *({"what": what} for what in ("plain", "family")), methods=ALL, ends=-signal.SIGTERM)
def the_coordinator_is_terminated(method: str, what: str) -> None:
    _killed(method, signal.SIGTERM, what)


@case("E19", {"what": "family"}, methods=BOTH, ends=-signal.SIGHUP)
def the_coordinator_is_hung_up(method: str, what: str) -> None:
    _killed(method, signal.SIGHUP, what)


@case("E19", {"what": "family"}, methods=BOTH, ends=-signal.SIGQUIT)
def the_coordinator_is_quit(method: str, what: str) -> None:
    _killed(method, signal.SIGQUIT, what)


@case("E19", methods=BOTH, ends=-signal.SIGKILL)
def the_coordinator_is_killed_while_workers_start(method: str) -> None:
    def strike(coordinator: int) -> None:
        until(lambda: children(coordinator))
        os.kill(coordinator, signal.SIGKILL)
        time.sleep(10)

    with meanwhile(strike):
        _flow("plain").run(executor=ProcessExecutor(2, start_method=method))


# -- code of the user's in the coordinator --------------------------------------------------------------------------------------


@case("E20", methods=BOTH)
def a_state_handler_raises(method: str) -> None:
    def handler(*_: object) -> None:
        raise ValueError("no such channel")

    with Flow("handler") as flow:
        one = task(lambda: 1, name="guilty", state_handlers=[handler])()  # type: ignore[call-overload]
        two = task(lambda: 2, name="innocent")()  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert isinstance(state.result[one], Failed), state.result[one]
        assert "guilty" in str(state.result[one].message)
        assert "no such channel" in str(state.result[one].message)
        assert state.result[two].result == 2
        second_flow(method)


@case("E20", *({"where": where} for where in ("flow", "on_failure", "terminal", "logging", "exits")), methods=BOTH)
def other_code_of_the_users_raises(method: str, where: str) -> None:
    def handler(*_: object) -> None:
        if where == "exits":
            raise SystemExit(3)
        raise ValueError("no such channel")

    class Handler(logging.Handler):
        def emit(self, record: object) -> None:
            raise ValueError("no such channel")

    def fail() -> None:
        raise KeyError("the task's own words")

    def log() -> int:
        context.logger.warning("listen")
        return 2

    flow_options: dict[str, Any] = {}
    guilty_options: dict[str, Any] = {}
    if where == "flow":
        flow_options["state_handlers"] = [handler]
    elif where == "on_failure":
        guilty_options["on_failure"] = handler
    elif where == "terminal":
        flow_options["terminal_state_handler"] = handler
    elif where == "exits":
        guilty_options["state_handlers"] = [handler]
    else:
        logging.getLogger("mpflow").addHandler(Handler())
    with Flow("handlers", **flow_options) as flow:
        one = task(fail, name="guilty", **guilty_options)()  # type: ignore[call-overload]
        two = task(log, name="innocent")()  # type: ignore[call-overload]
        flow.set_reference_tasks([two])
    with nothing_open():
        try:
            state = flow.run(executor=ProcessExecutor(2, start_method=method))
        except (ValueError, SystemExit) as error:
            # Out of flow.run, where it was raised, and nothing hangs or is left; or into the state, as below.
            print(f"raised {error!r}")
            came = True
        else:
            came = False
            if where in ("flow", "terminal"):
                assert isinstance(state, Failed), state
                assert "no such channel" in str(state.message), state
            else:
                assert state.result[two].result == 2, state.result[two]
                assert state.result[one].is_failed(), state.result[one]
        assert not came or where in ("logging", "exits")
        logging.getLogger("mpflow").handlers.clear()
        second_flow(method)


@case("E20", methods=BOTH)
def a_trigger_raises(method: str) -> None:
    def trigger(_states: object) -> bool:
        raise ValueError("no such rule")

    with Flow("trigger") as flow:
        zero = task(lambda: 0, name="zero")()  # type: ignore[call-overload]
        one = task(lambda n: n, name="guilty", trigger=trigger)(zero)  # type: ignore[call-overload]
        two = task(lambda n: n, name="innocent")(zero)  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert isinstance(state.result[one], Failed), state.result[one]
        assert "no such rule" in str(state.result[one].message)
        assert state.result[two].result == 0
        second_flow(method)


class Enough(Exception):
    """What a user's signal handler raises."""


@case("E20", {"what": "plain"}, {"what": "stubborn"}, {"what": "family"}, methods=BOTH)
def a_signal_handler_raises(method: str, what: str) -> None:
    def handler(*_: object) -> None:
        raise Enough("that will do")

    signal.signal(signal.SIGUSR1, handler)

    def strike(coordinator: int) -> None:
        until(lambda: marks("begun") >= 2)
        os.kill(coordinator, signal.SIGUSR1)
        mark("struck")

    with nothing_open():
        with meanwhile(strike):
            try:
                _flow(what).run(executor=ProcessExecutor(2, start_method=method))
            except Enough:
                came = time.monotonic()
            else:
                raise AssertionError("nothing came out")
            struck = time.monotonic() - (time.time() - os.path.getmtime(os.path.join(os.environ["WORK"], "ran-struck")))
            assert came - struck < 2, came - struck
        assert not children(os.getpid()), "workers are left"
        second_flow(method)


@case("E18", methods=BOTH)
def a_handler_of_the_users_own_for_ctrl_c_is_kept(method: str) -> None:
    def handler(*_: object) -> None:
        raise Enough("mine")

    signal.signal(signal.SIGINT, handler)
    with nothing_open():
        with meanwhile(_interrupt(1, group=False)):
            try:
                _flow("plain").run(executor=ProcessExecutor(2, start_method=method))
                raise AssertionError("nothing came out")
            except Enough:
                pass
        assert signal.getsignal(signal.SIGINT) is handler
        second_flow(method)


@case("E18", methods=BOTH)
def the_handler_of_ctrl_c_is_put_back(method: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    second_flow(method)
    assert signal.getsignal(signal.SIGINT) is before
    after = signal.set_wakeup_fd(-1)
    assert after == wakeup
    assert threading.active_count() == 1
