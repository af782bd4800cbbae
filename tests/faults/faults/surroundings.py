"""H: where the coordinator lives: scripts, prompts, threads, daemons, and programs that do other things as well."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from faults.scene import ALL, BOTH, NotHere, case, mark, marks, nothing_open, play, second_flow, unavailable
from mpflow import Flow, task
from mpflow.engine.state import Crashed
from mpflow.executors import ProcessExecutor

SCRIPT = """
import os
from mpflow import Flow, task
from mpflow.executors import ProcessExecutor

print("once", flush=True)

class Number:
    def __init__(self, n):
        self.n = n

@task
def make(n):
    return Number(n)

@task
def crash():
    os._exit(3)

@task
def add(numbers):
    return Number(sum(each.n for each in numbers))

with Flow("script") as flow:
    total = add([make(n) for n in range(10)])
    crashed = crash()
state = flow.run(executor=ProcessExecutor(2, start_method="METHOD"))
print(state.result[total].result.n, type(state.result[crashed]).__name__, flush=True)
"""
EXPECTED = ["once", "45 Crashed"]


def _script(method: str) -> str:
    return SCRIPT.replace("METHOD", method)


def _python(*arguments: str, text: str | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(
        [sys.executable, *arguments], input=text, capture_output=True, text=True, timeout=30, check=False, **options
    )
    assert process.returncode == 0, process
    return process


@case("H29", *({"how": how} for how in ("file", "-c", "-", "-m", "-i", "-I", "-O", "-B -S")), methods=ALL)
def a_program_without_a_guard(method: str, how: str) -> None:
    script = _script(method)
    if how == "file":
        with open("program.py", "w") as file:
            file.write(script)
        process = _python("program.py")
    elif how == "-m":
        with open("program.py", "w") as file:
            file.write(script)
        process = _python("-m", "program")
    elif how == "-":
        process = _python("-", text=script)
    elif how == "-i":
        process = _python("-i", "-c", script, text="")
    elif how == "-I":
        path = f"import sys; sys.path[:] = {sys.path!r}\n"
        process = _python("-I", "-c", path + script)
    elif how == "-B -S":
        path = f"import sys; sys.path[:] = {sys.path!r}\n"
        process = _python("-B", "-S", "-c", path + script)
    else:
        process = _python(*how.split(), *([] if how == "-c" else ["-c"]), script)
    assert process.stdout.split("\n")[:2] == EXPECTED, process


@case("H29", methods=BOTH)
def an_interactive_prompt(method: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        # From 3.13 on the prompt would indent by itself what is pasted here with its indents.
        os.environ["PYTHON_BASIC_REPL"] = "1"
        os.execv(sys.executable, [sys.executable, "-q", "-i"])
    lines = _script(method).replace("\n\n", "\n").strip().split("\n")
    text, block = "", False
    for line in lines:
        if block and not line.startswith(" "):
            text += "\n"
        block = line.startswith(" ")
        text += line + "\n"
    os.write(terminal, (text + "\nexit()\n").encode())
    heard = b""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up and select.select([terminal], [], [], 20)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        heard += data
    os.waitpid(pid, 0)
    os.close(terminal)
    assert b"45 Crashed" in heard, heard.decode(errors="replace")


NOTEBOOK = """
import asyncio, linecache, sys, types

cells = {cells!r}
if {shell!r} == "IPython":
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    def run(cell, number):
        done = shell.run_cell(cell)
        done.raise_error()
else:
    # As notebooks do without IPython: the code of a cell has a name of no file, and its source is in linecache alone.
    def run(cell, number):
        name = "<cell %d>" % number
        linecache.cache[name] = len(cell), None, cell.splitlines(True), name
        exec(compile(cell, name, "exec"), sys.modules["__main__"].__dict__)

async def kernel():
    for number, cell in enumerate(cells):
        run(cell, number)
        await asyncio.sleep(0)

# The loop of a kernel runs while its cells do.
asyncio.run(kernel())
"""


@case("H29", {"shell": "IPython"}, {"shell": "plain"}, methods=ALL)
def the_cells_of_a_notebook(method: str, shell: str) -> None:
    if shell == "IPython" and importlib.util.find_spec("IPython") is None:
        raise NotHere("IPython is not installed")
    cells = _script(method).split("\n\n")
    # A cell that is run once more defines its task anew, and the flow is run again.
    cells += [cells[3].replace("return Number(n)", "return Number(n + 1)"), *cells[-1:]]
    with open("notebook.py", "w") as file:
        file.write(NOTEBOOK.format(cells=cells, shell=shell))
    environ = {**os.environ, "IPYTHONDIR": os.environ["WORK"]}
    process = _python("notebook.py", env=environ)
    said = [line for line in process.stdout.split("\n") if line.startswith(("once", "45", "55"))]
    assert said == [*EXPECTED, "55 Crashed"], process


@case("H29", *({"streams": streams} for streams in ("0", "1", "2", "012")), methods=ALL)
def closed_standard_streams(method: str, streams: str) -> None:
    script = _script(method).replace("print(", "say(")
    head = "def say(*words, flush=True):\n    with open('said', 'a') as file:\n        print(*words, file=file)\n"
    command = " ".join(f"{fd}{'<' if fd == '0' else '>'}&-" for fd in streams)
    with open("program.py", "w") as file:
        file.write(head + script)
    process = subprocess.run(["sh", "-c", f'"$0" program.py {command}', sys.executable], timeout=30, check=False)
    assert process.returncode == 0, process
    with open("said") as file:
        assert file.read().split("\n")[:2] == EXPECTED


@case("H29", methods=BOTH)
def two_flows_at_once_in_two_threads(method: str) -> None:
    ends: dict[int, object] = {}

    def run(which: int) -> None:
        def work(n: int) -> int:
            if n == 7:
                os._exit(3)
            time.sleep(0.01)
            return n * which

        with Flow(f"flow-{which}") as flow:
            end = task(work, name="work").map(list(range(30)))  # type: ignore[call-overload]
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        ends[which] = [
            type(each).__name__ if each.is_failed() else each.result for each in state.result[end].map_states
        ]

    with nothing_open():
        threads = [threading.Thread(target=run, args=(which,)) for which in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for which in (1, 2):
            assert ends[which] == [n * which if n != 7 else "Crashed" for n in range(30)], ends
        second_flow(method)


@case("H29", methods=ALL)
def a_thread_other_than_the_main_one(method: str) -> None:
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            play(lambda: os._exit(3), method, expect=Crashed, says=("exit code 3",))
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in trouble:
        raise error


def _inside_a_daemon(method: str) -> None:
    play(lambda: os._exit(3), method, expect=Crashed, says=("exit code 3",))
    mark("daemon-done")


@case("H29", methods=BOTH)
def inside_a_daemonic_process(method: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=_inside_a_daemon, args=(method,), daemon=True)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert marks("daemon-done") == 1
    process.close()


@case("H29", methods=ALL)
def workers_take_over_the_world_of_the_start(method: str) -> None:
    def look() -> tuple[object, ...]:
        mask = os.umask(0)
        os.umask(mask)
        import only_on_my_path

        return os.getcwd(), mask, os.environ.get("FRESH"), only_on_my_path.VALUE

    os.makedirs("sub/path")
    with open("sub/path/only_on_my_path.py", "w") as file:
        file.write("VALUE = 7\n")
    sys.dont_write_bytecode = True
    with ProcessExecutor(2, start_method=method) as pool:
        with Flow("world") as flow:
            end = task(look)()  # type: ignore[call-overload]
        with Flow("first") as first:
            task(lambda: 1, name="first")()  # type: ignore[call-overload]
        assert first.run(executor=pool).is_successful()
        # Workers that are there already see what has changed since.
        os.chdir("sub")
        os.umask(0o031)
        os.environ["FRESH"] = "yes"
        sys.path.insert(0, os.path.abspath("path"))
        state = flow.run(executor=pool)
        assert state.result[end].result == (os.getcwd(), 0o031, "yes", 7), state.result[end]
    second_flow(method)


@case("H29", methods=BOTH)
def what_workers_cannot_import_is_sent_by_value(method: str) -> None:
    import types

    module: Any = types.ModuleType("made_here")
    exec("def double(n):\n    return 2 * n\n\nclass Box:\n    def __init__(self, n): self.n = n", module.__dict__)
    sys.modules["made_here"] = module
    with Flow("by value") as flow:
        end = task(module.double)(21)  # type: ignore[call-overload]
        box = task(lambda box: box.n, name="unbox")(module.Box(5))  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert state.result[end].result == 42, state.result[end]
    assert state.result[box].result == 5, state.result[box]
    second_flow(method)


# -- output ----------------------------------------------------------------------------------------------------------------------

NOISY = """
import os, sys
from mpflow import Flow, task
from mpflow.executors import ProcessExecutor

@task
def noisy(n):
    for line in range(50):
        print(f"task {n} line {line} " + "x" * 80)
    if n == 3:
        print("last words")
        os._exit(3)
    return n

with Flow("noisy") as flow:
    ends = [noisy(n) for n in range(8)]
state = flow.run(executor=ProcessExecutor(2, start_method="METHOD"))
sys.stderr.write("%d of 8" % sum(state.result[end].is_successful() for end in ends))
"""


@case("H30", methods=ALL)
def the_reader_of_stdout_goes_away(method: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", NOISY.replace("METHOD", method)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    words = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 0, words
    assert words.endswith("7 of 8"), words


@case("H30", {"to": "pipe"}, {"to": "file"}, methods=ALL)
def output_arrives_whole_and_in_order(method: str, to: str) -> None:
    command = [sys.executable, "-c", NOISY.replace("METHOD", method)]
    if to == "pipe":
        words = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    else:
        with open("output", "w") as file:
            subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, timeout=30, check=True)
        with open("output") as file:
            words = file.read()
    lines = words.split("\n")
    for n in range(8):
        own = [line for line in lines if line.startswith(f"task {n} ")]
        assert own == [f"task {n} line {line} " + "x" * 80 for line in range(50)], own[:3]
    assert "last words" in lines


# -- the rest of the program ------------------------------------------------------------------------------------------------------


@case("H31", methods=BOTH)
def the_program_forks_during_a_run(method: str) -> None:
    stop = threading.Event()
    forked: list[int] = []

    def fork() -> None:
        while not stop.wait(0.05):
            pid = os.fork()
            if pid == 0:
                time.sleep(20)
                os._exit(0)
            forked.append(pid)

    thread = threading.Thread(target=fork)
    thread.start()
    try:
        began = time.monotonic()
        with Flow("forks") as flow:
            ends = [task(_nap, name=f"nap-{n}")(n) for n in range(20)]  # type: ignore[call-overload]
            crash = task(lambda: os._exit(3), name="crash")()  # type: ignore[call-overload]
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert [state.result[end].result for end in ends] == list(range(20))
        assert isinstance(state.result[crash], Crashed), state.result[crash]
        assert time.monotonic() - began < 15
    finally:
        stop.set()
        thread.join()
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    second_flow(method)


def _nap(n: int) -> int:
    time.sleep(0.05)
    return n


@case("H31", {"what": "SIG_IGN"}, {"what": "reaps"}, methods=ALL)
def the_program_takes_care_of_children_itself(method: str, what: str) -> None:
    def reap(*_: object) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, signal.SIG_IGN if what == "SIG_IGN" else reap)
    play(lambda: os._exit(3), method, expect=Crashed, says=("exit code 3",))


@case("H31", {"what": "missing"}, {"what": "not executable"}, {"what": "exits"}, methods=BOTH)
def the_interpreter_of_the_workers_is_missing(method: str, what: str) -> None:
    path = os.path.abspath("python-that-is-not")
    if what == "not executable":
        with open(path, "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(path, 0o644)
    if what == "exits":
        with open(path, "w") as file:
            file.write("#!/bin/sh\nexit 9\n")
        os.chmod(path, 0o755)
    real, sys.executable = sys.executable, path
    with nothing_open():
        unavailable(ProcessExecutor(2, start_method=method), "exit code 9" if what == "exits" else path, within=25)
        sys.executable = real
        second_flow(method)
