"""What a body does to its process reaches no other task."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from mpflow.engine.state import Success
from tests.pool.conftest import Crew, body, one

MakeCrew = Callable[..., Crew]


def picture() -> dict[str, object]:
    import pickle
    import resource
    import threading

    mask = os.umask(0)
    os.umask(mask)
    return {
        "cwd": os.getcwd(),
        "mask": mask,
        "environ": dict(os.environ),
        "path": list(sys.path),
        "streams": [sys.stdin.closed, sys.stdout.closed, sys.stderr.closed],
        "handlers": [
            str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)
        ],
        "timers": [signal.getitimer(timer)[0] for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF)],
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "threads": threading.active_count(),
        "pickle": pickle.loads(pickle.dumps([1])),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "print": print(end="", flush=True),
        "error": os.write(2, b""),
    }


def change_cwd() -> None:
    os.chdir("/")
    os.umask(0o123)


def change_environ() -> None:
    os.environ["ADDED"] = "1"
    os.environ.pop("PATH")
    os.environ["HOME"] = "/elsewhere"


def change_environ_in_bytes() -> None:
    os.environb[b"ADDED"] = b"1"
    del os.environb[b"HOME"]


def replace_environ() -> None:
    os.environ["ADDED"] = "1"
    os.environ = {"ALONE": "1"}  # type: ignore[assignment]  # noqa: B003 - that is what is to be undone


def change_path() -> None:
    sys.path.insert(0, "/nowhere")
    sys.path = ["/only"]


def close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()
    sys.stdin.close()


def close_descriptors_of_streams() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


def replace_streams() -> None:
    import io

    sys.stdout = io.StringIO()
    sys.stderr = None  # type: ignore[assignment]


def replace_handlers() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


def leave_timers() -> None:
    signal.alarm(1)
    signal.setitimer(signal.ITIMER_PROF, 0.05)


def leave_faulthandler() -> None:
    import faulthandler

    faulthandler.dump_traceback_later(0.2, exit=True)


def leave_threads() -> None:
    import threading

    threading.Thread(target=time.sleep, args=(100,)).start()
    threading.Timer(100, print).start()


def leave_child() -> None:
    if os.fork() == 0:
        time.sleep(100)


def return_in_child() -> str:
    os.fork()
    return "once"


def exit_in_child() -> None:
    if os.fork() == 0:
        sys.exit(3)


def patch_modules() -> None:
    import pickle

    pickle.dumps = pickle.loads = None  # type: ignore[assignment]
    os.getcwd = None  # type: ignore[assignment]


def remove_modules() -> None:
    for name in ("pickle", "os", "traceback"):
        sys.modules.pop(name, None)


def lower_limits() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))


def new_session() -> None:
    try:
        os.setsid()
    except PermissionError:
        pass


def hang_at_exit() -> None:
    import atexit

    atexit.register(time.sleep, 1000)


def much_output() -> None:
    for _ in range(1000):
        print("x" * 10000)


def nested_pool() -> int:
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        return sum(pool.map(abs, range(-4, 0)))


def nested_futures() -> int:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        return sum(pool.map(abs, range(-4, 0)))


def reap_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(3):
        if os.fork() == 0:
            os._exit(0)
    time.sleep(0.05)


@pytest.mark.parametrize(
    "act",
    [
        change_cwd,
        change_environ,
        change_environ_in_bytes,
        replace_environ,
        change_path,
        close_streams,
        close_descriptors_of_streams,
        replace_streams,
        replace_handlers,
        leave_timers,
        leave_faulthandler,
        leave_threads,
        leave_child,
        return_in_child,
        exit_in_child,
        patch_modules,
        remove_modules,
        lower_limits,
        new_session,
        hang_at_exit,
        much_output,
        nested_pool,
        nested_futures,
        reap_children,
    ],
)
def test_nothing_is_left_to_the_next_task(
    crew: MakeCrew, act: Callable[[], object], capfd: pytest.CaptureFixture[str]
) -> None:
    crowd = crew(1)
    jobs = [
        one(node=0, unit=0),
        *(one(node=n % 2, unit=n) for n in range(1, 10)),
        one(0.3, node=2, unit=10),
        one(node=0, unit=11),
    ]
    states = crowd.run([picture, act, time_passes], jobs)
    assert all(isinstance(state, Success) for state in states), [s for s in states if not isinstance(s, Success)]
    first = states[0].result
    for state in states[2::2]:
        if isinstance(state.result, dict):
            assert state.result == first


def read_input() -> str:
    return sys.stdin.read()


def time_passes(a: float) -> None:
    time.sleep(a)


@pytest.mark.parametrize("rubbish", [True, False])
def test_a_task_that_meddles_with_descriptors_harms_only_itself(crew: MakeCrew, rubbish: bool) -> None:
    def meddle() -> None:
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            if fd > 2:
                try:
                    if rubbish:
                        os.set_blocking(fd, False)
                        os.write(fd, b"rubbish" * 100)
                    else:
                        os.close(fd)
                except OSError:
                    pass

    def add(a: int) -> int:
        return a + 1

    jobs = [one(n, node=1, unit=n) for n in range(60)]
    jobs.insert(20, one(node=0, unit=100))
    states = crew().run([meddle, add], jobs)
    assert [state.result for state in states[:60]] == list(range(1, 61))


def test_random_numbers_differ(crew: MakeCrew) -> None:
    def draw() -> float:
        import random

        value = random.random()
        random.seed(1)
        return value

    states = crew().run([draw], [one(unit=n) for n in range(40)])
    assert len({state.result for state in states}) == 40


def test_workers_resemble_the_main_process(crew: MakeCrew, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    crowd = crew()
    with crowd.executor:
        crowd.run([picture])
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ADDED_LATER", "yes")
        monkeypatch.syspath_prepend("/added/later")
        seen = crowd.run([picture])[0].result
    assert seen["cwd"] == str(tmp_path)
    assert seen["environ"]["ADDED_LATER"] == "yes"
    assert "/added/later" in seen["path"]


def test_standard_input_is_empty(crew: MakeCrew) -> None:
    assert crew().run([read_input])[0].result == ""


def test_descriptors_of_the_caller_are_not_inherited(crew: MakeCrew, tmp_path: Any) -> None:
    def targets() -> list[str]:
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                pass
        return found

    with open(tmp_path / "mine", "w") as file:
        os.set_inheritable(file.fileno(), True)
        assert not [name for name in crew().run([targets])[0].result if "mine" in name]


def test_shared_memory_of_a_crashed_task_goes_with_it(crew: MakeCrew) -> None:
    def crash() -> None:
        from multiprocessing.shared_memory import SharedMemory

        SharedMemory(create=True, size=100_000)
        os._exit(1)

    crew().run([crash])


def test_log_records_reach_the_main_process(crew: MakeCrew, caplog: pytest.LogCaptureFixture) -> None:
    def talk(a: int) -> None:
        import threading

        logger = logging.getLogger("mpflow.talk")
        logger.info("hello %s from %d", object(), a)
        thread = threading.Thread(target=logger.warning, args=("from a thread",))
        thread.start()
        thread.join()
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            logger.exception("trouble")

    with caplog.at_level(logging.INFO, logger="mpflow"):
        states = crew().run([talk], [one(7)])
    assert states[0].is_successful()
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("hello <object") and text.endswith("from 7") for text in texts)
    assert "from a thread" in texts
    assert "ZeroDivisionError" in (caplog.records[texts.index("trouble")].exc_text or "")


def test_records_below_the_level_are_not_sent(crew: MakeCrew, caplog: pytest.LogCaptureFixture) -> None:
    def talk() -> bool:
        return logging.getLogger("mpflow.quiet").isEnabledFor(logging.DEBUG)

    with caplog.at_level(logging.INFO, logger="mpflow"):
        assert crew().run([talk])[0].result is False


def test_output_arrives_and_survives_a_crash(crew: MakeCrew, capfd: pytest.CaptureFixture[str]) -> None:
    def speak(a: int) -> None:
        print("line", a)
        print("more", end="")
        if a == 3:
            print("\nlast words")
            os._exit(1)

    crew().run([speak], [one(n, unit=n) for n in range(6)])
    out = capfd.readouterr().out
    assert all(f"line {n}" in out for n in range(6))
    assert "last words" in out


def test_the_environment_caps_numerical_threads(crew: MakeCrew) -> None:
    crowd = crew(threads_per_task=3, env={"MINE": "x"})
    assert crowd.run([lambda: (os.environ["OMP_NUM_THREADS"], os.environ["MINE"])])[0].result == ("3", "x")


def test_modules_may_be_loaded_beforehand(crew: MakeCrew) -> None:
    crowd = crew(preload=["colorsys", "no_such_module"])
    assert crowd.run([body(lambda: "colorsys" in sys.modules)])[0].result is True
