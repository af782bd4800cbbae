from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from mpflow.cli.commands import call

ONE = """
@task
def double(x):
    return 2 * x

with Flow("one") as flow:
    double(Parameter("x", default=4))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mpflow", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
    )


# Exit codes and the summary


def test_success(flow_file, capsys):
    assert call(["run", flow_file(ONE), "--name", "calm-yak", "--run-id", "nightly"]) == 0
    head, end, hint = capsys.readouterr().out.splitlines()
    assert head == "one · run calm-yak (nightly) · sync"
    assert end.startswith("SUCCESS calm-yak  1 task: 1 ok  wall ")
    assert hint == "logs:  mpflow logs nightly"


def test_without_a_store(flow_file, capsys, tmp_path):
    assert call(["run", flow_file(ONE), "--no-store"]) == 0
    head, end = capsys.readouterr().out.splitlines()
    assert head == "one · sync"
    assert end.startswith("SUCCESS one  1 task: 1 ok  wall ")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("executor", ["sync", "threads", "processes"])
def test_every_executor(flow_file, executor):
    done = run("run", flow_file(ONE), "-e", executor)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("executor", ["sync", "processes"])
def test_failure_shows_where_it_happened(flow_file, executor):
    path = flow_file("""
@task
def divide(x):
    return 1 / x

@task
def after(y):
    pass

with Flow("bad") as flow:
    after(divide(0))
""")
    done = run("run", path, "-e", executor)
    assert done.returncode == 1
    assert "✗ divide  FAILED · " in done.stdout
    assert "my_flow.py:5  in divide   return 1 / x\n" in done.stdout
    assert "\n  ZeroDivisionError: division by zero\n" in done.stdout
    assert "✗ after  TRIGGER FAILED" in done.stdout
    assert "  2 tasks: 1 failed · 1 trigger failed" in done.stdout
    assert "Traceback" not in done.stderr
    assert " ✗ divide FAILED: ZeroDivisionError: division by zero\n" in done.stderr


def test_equal_failures_of_a_map_are_told_once(flow_file, capsys):
    path = flow_file("""
@task
def check(x):
    if x % 2:
        raise ValueError("odd")

with Flow("map") as flow:
    check.map(list(range(10)))
""")
    assert call(["run", path]) == 1
    out = capsys.readouterr().out
    assert "✗ check[1]  FAILED" in out
    assert "same error in 4 more: [3, 5, 7, 9]" in out
    assert out.count("ValueError: odd") == 1


def test_paused(flow_file, capsys):
    path = flow_file("""
from mpflow.triggers import manual_only

@task(trigger=manual_only)
def wait():
    pass

with Flow("p") as flow:
    wait()
""")
    assert call(["run", path]) == 3
    out = capsys.readouterr().out
    assert "wait is paused" in out
    assert "  1 task: 1 paused" in out


SLEEPS = """
import os, time

@task
def sleep():
    print("sleeping", flush=True)
    while not os.path.exists(GO):
        time.sleep(0.01)
    return 1

@task
def after(x):
    return x

with Flow("i") as flow:
    after(sleep())
"""


@pytest.mark.parametrize("executor", ["sync", "processes"])
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_interrupted(flow_file, tmp_path, executor, twice):
    go = tmp_path / "go"
    path = flow_file(SLEEPS.replace("GO", repr(str(go))))
    with subprocess.Popen(
        [sys.executable, "-m", "mpflow", "run", path, "-e", executor],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline().startswith("i · run ")
            assert process.stdout.readline() == "sleeping\n"
            os.kill(process.pid, signal.SIGINT)
            assert "running tasks are let finish; once more kills them" in process.stderr.readline()
            if twice:
                os.kill(process.pid, signal.SIGINT)
            else:
                go.touch()
            out, err = process.stdout.read(), process.stderr.read()
        finally:
            process.kill()
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert f"  2 tasks: {'2 pending' if twice else '1 ok · 1 pending'}" in out
    assert "INTERRUPTED" in out
    assert f"resume ({'2 tasks to run, 0 reused' if twice else '1 task to run, 1 reused'}):  mpflow resume " in out


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_what_tasks_log_is_shown(flow_file, executor, monkeypatch):
    path = flow_file("""
@task(log_stdout=True)
def talk():
    context.logger.info("logged")
    context.logger.debug("too quiet")
    print("printed")

with Flow("l") as flow:
    talk()
""")
    done = run("run", path, "-e", executor)
    assert done.returncode == 0
    assert "info    mpflow.talk: logged" in done.stderr
    assert "info    mpflow.talk: printed" in done.stderr
    assert "too quiet" not in done.stderr
    monkeypatch.setenv("MPFLOW_LOG_LEVEL", "error")
    assert run("run", path, "-e", executor).stderr == ""


# Which flow


def test_a_guarded_run_stays_quiet(flow_file, capsys):
    path = flow_file(ONE + '\nif __name__ == "__main__":\n    raise SystemExit("ran")\n')
    assert call(["run", path]) == 0
    assert " 1 task: 1 ok " in capsys.readouterr().out


def test_a_bare_run_happens_once_with_its_arguments(flow_file, capfd):
    path = flow_file("""
@task
def tell(x, y):
    print("told", x, y, flush=True)

with Flow("bare") as flow:
    tell(Parameter("x"), Parameter("y"))

state = flow.run(executor="threads", x=1, y=2)
print("not reached")
""")
    assert call(["run", path, "-p", "y=3", "-e", "processes"]) == 0
    out = capfd.readouterr().out
    assert out.count("told") == 1
    assert "told 1 3" in out
    assert "not reached" not in out


TWO = """
with Flow("first name") as a:
    task(lambda: 1, name="one")()
with Flow("second") as b:
    task(lambda: 2, name="two")()
again = b
"""


def test_several_flows_are_named(flow_file, capsys):
    path = flow_file(TWO)
    assert call(["run", path]) == 2
    assert f"holds 2 flows, a, b; say which, as in {path}:a" in capsys.readouterr().err


@pytest.mark.parametrize(("wanted", "name"), [("a", "first name"), ("second", "second"), ("again", "second")])
def test_a_flow_is_chosen_by_variable_or_name(flow_file, capsys, wanted, name):
    assert call(["run", f"{flow_file(TWO)}:{wanted}"]) == 0
    assert f"{name} · run " in capsys.readouterr().out


def test_a_module(tmp_path, monkeypatch, capsys):
    package = tmp_path / "jobs_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nightly.py").write_text(
        "from mpflow import Flow, task\n" + ONE.replace('Parameter("x", default=4)', "4")
    )
    monkeypatch.chdir(tmp_path)
    assert call(["run", "jobs_of_mine.nightly:flow"]) == 0
    assert call(["run", "jobs_of_mine.nightly", "-e", "processes", "-w", "1"]) == 0
    assert capsys.readouterr().out.count("SUCCESS ") == 2


def test_what_the_file_defines_reaches_the_workers(tmp_path, flow_file):
    (tmp_path / "neighbour.py").write_text("def triple(x):\n    return 3 * x\n")
    path = flow_file("""
from dataclasses import dataclass
import neighbour

FACTOR = 7

@dataclass
class Point:
    x: int

def aside(point):
    return Point(point.x * FACTOR)

@task
def work(x):
    return aside(Point(neighbour.triple(x)))

@task
def check(point):
    assert point == Point(42) and isinstance(point, Point), point

with Flow("by value") as flow:
    check(work(2))
""")
    done = run("run", path, "-e", "processes", "-w", "2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


# Parameters


def test_parameters(flow_file, tmp_path, capfd):
    path = flow_file("""
@task
def tell(a, b, c):
    print("told", repr(a), repr(b), repr(c), flush=True)

with Flow("p") as flow:
    tell(Parameter("a"), Parameter("b"), Parameter("c", default="c"))
""")
    file = tmp_path / "p.json"
    file.write_text('{"a": 1, "b": 2}')
    assert call(["run", path, "--param-file", str(file), "-p", "b=[1, {}]"]) == 0
    assert "told 1 [1, {}] 'c'" in capfd.readouterr().out


# Other options


MAP = """
@task
def work(x):
    print("worked on", x)
    if x == BAD:
        raise ValueError("odd one")
    return x

@task
def total(xs):
    return sum(xs)

with Flow("m") as flow:
    total(work.map(list(range(3))))
"""


def test_events_for_a_script(flow_file):
    done = run("run", flow_file(MAP.replace("BAD", "None")), "-e", "processes", "-w", "1", "--json")
    assert done.returncode == 0
    assert done.stderr.count("worked on") == 3
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (lines[0]["event"], lines[0]["flow"], lines[0]["executor"]) == ("begin", "m", "processes ×1")
    ended = [(line["task"], line["index"]) for line in lines if line["event"] == "task" and line["state"] == "Success"]
    assert ended[-4:] == [("work", 0), ("work", 1), ("work", 2), ("total", None)]
    assert (lines[-1]["event"], lines[-1]["state"], lines[-1]["exit_code"]) == ("end", "Success", 0)
    assert lines[-1]["counts"] == {"ok": 4}


def test_quiet_and_verbose(flow_file, capfd):
    fine, bad_ = flow_file(MAP.replace("BAD", "None")), flow_file(MAP.replace("BAD", "1"), "bad.py")
    assert call(["run", fine, "-q"]) == 0
    captured = capfd.readouterr()
    assert "SUCCESS" not in captured.out
    assert call(["run", bad_, "-q"]) == 1
    captured = capfd.readouterr()
    assert "✗ work[1]  FAILED" in captured.out
    assert captured.err == ""
    assert call(["run", bad_, "-v"]) == 1
    out = capfd.readouterr().out
    assert "✔ work[0]  ok\n" in out
    assert "✗ work[1]  failed  ValueError: odd one\n" in out


def test_retries_are_told(flow_file, capfd):
    path = flow_file("""
@task(max_retries=1, retry_delay=0)
def flaky(x):
    if context.task_run_count == 1:
        raise ValueError("once")

with Flow("r") as flow:
    flaky(Parameter("x", default=1))
""")
    assert call(["run", path, "-v"]) == 0
    told = [line for line in capfd.readouterr().out.splitlines() if "flaky" in line or "x  ok" in line]
    assert [line.split()[:3] for line in told] == [
        ["✗", "flaky", "failed"],
        ["↻", "flaky", "retrying"],
        ["✔", "flaky", "ok"],
    ]


def test_fail_fast(flow_file, capsys):
    path = flow_file(MAP.replace("BAD", "0"))
    assert call(["run", path, "--fail-fast"]) == 1
    assert "  4 tasks: 3 pending · 1 failed" in capsys.readouterr().out
    assert call(["run", path, "--keep-going"]) == 1
    assert "  4 tasks: 2 ok · 1 failed · 1 trigger failed" in capsys.readouterr().out


def test_limits_and_names(flow_file, capfd):
    path = flow_file("""
@task(resources={"db": 2})
def query():
    print("in", context.flow_run_name, flush=True)

with Flow("q") as flow:
    query()
""")
    assert call(["run", path, "--limit", "db=2", "--name", "by-hand"]) == 0
    assert "in by-hand" in capfd.readouterr().out
    assert call(["run", path, "--limit", "db=1"]) == 2
    assert "takes 2 of 'db', but the limit is 1" in capfd.readouterr().err
    assert call(["run", path, "--limit", "db"]) == 2
    assert "--limit 'db' is not of the form name=number" in capfd.readouterr().err


def test_memory_limit(flow_file, capfd):
    path = flow_file("""
@task
def hog():
    import time

    data = b"x" * 400_000_000
    time.sleep(40)
    return len(data)

with Flow("h") as flow:
    hog()
""")
    assert call(["run", path, "--memory-limit", "150MB", "-w", "1"]) == 1
    assert "MemoryLimitExceeded" in capfd.readouterr().out
    assert call(["run", path, "--memory-limit", "lots"]) == 2
    assert "'4GB'" in capfd.readouterr().err
    assert call(["run", path, "--memory-limit", "1GB", "-e", "threads"]) == 2
    assert "goes with executor='processes'" in capfd.readouterr().err


def test_dry_run(flow_file, capsys):
    path = flow_file(ONE)
    assert call(["run", path, "-n", "-e", "threads", "-w", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"would run {path} on threads ×3: 1 task\n  parameter x = 4\nflow 'one'\n")
    assert call(["run", path, "-n", "--json", "-p", "x=5"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "flow": "one",
        "executor": "sync",
        "parameters": {"x": "5"},
        "tasks": ["double-1"],
    }


# Nobody listens


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("where", ["closed", "full", "gone"])
def test_a_run_goes_on_where_nobody_reads(flow_file, tmp_path, where, as_json):
    path = flow_file(f"""
@task
def work():
    with open({str(tmp_path / "done")!r}, "w") as file:
        file.write("done")
    raise ValueError("told to nobody")

with Flow("night") as flow:
    work()
""")
    command = f"{sys.executable} -m mpflow run {path} -e processes -w 1 {'--json' if as_json else ''}"
    redirect = {"closed": ">&- 2>&- <&-", "full": "> /dev/full 2>&1", "gone": "2>&1 | true"}[where]
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {redirect}"], timeout=50, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (tmp_path / "done").read_text() == "done"
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_read_enough(flow_file):
    assert call(["run", flow_file(ONE), "-q"]) == 0
    for command in ("runs --json", "show last", "logs last", "config"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m mpflow {command} | true; exit ${{PIPESTATUS[0]}}"],
            timeout=50,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), command


def test_letters_that_a_terminal_lacks(flow_file):
    done = subprocess.run(
        [sys.executable, "-m", "mpflow", "run", flow_file(ONE)],
        timeout=50,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert b"one ? run " in done.stdout


# What is wrong is said in one sentence


def bad(capsys, *arguments: str) -> str:
    assert call(list(arguments)) == 2
    err = capsys.readouterr().err
    assert "mpflow/" not in err
    return err


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("WORKERS", "mpflow: MPFLOW_WORKERS is 'x'; it must be a whole number"),
        ("EXECUTOR", "mpflow: unknown executor 'x'"),
        ("LIMITS", "mpflow: MPFLOW_LIMITS is 'x'; it must name resources"),
        ("LOG_LEVEL", "mpflow: MPFLOW_LOG_LEVEL is 'x'; it must be one of DEBUG"),
        ("MEMORY_LIMIT", "mpflow: MPFLOW_MEMORY_LIMIT is 'x'"),
    ],
)
def test_settings_that_cannot_be_meant(flow_file, capsys, monkeypatch, variable, words):
    monkeypatch.setenv(f"MPFLOW_{variable}", "x")
    for dry in ([], ["-n"]):
        assert bad(capsys, "run", flow_file(ONE), *dry).startswith(words)
    assert not os.path.exists(os.path.join(os.environ["MPFLOW_HOME"], "runs.db"))


def test_a_file_of_settings_that_cannot_be_meant(flow_file, capsys, tmp_path):
    path = flow_file(ONE)
    (tmp_path / "mpflow.toml").write_text("wrokers = 3\n")
    assert f"{tmp_path}/mpflow.toml sets 'wrokers', which is no setting of mpflow; did you mean 'workers'?" in bad(
        capsys, "run", path
    )


def test_missing_file(capsys):
    assert bad(capsys, "run", "no_such.py") == "mpflow: there is no file no_such.py\n"


def test_missing_module(capsys):
    assert "no file and no module no_such" in bad(capsys, "run", "no_such:flow")


def test_directory(capsys, tmp_path):
    (tmp_path / "d.py").mkdir()
    assert "is a directory" in bad(capsys, "run", str(tmp_path / "d.py"))


def test_a_directory_that_is_no_package(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    assert bad(capsys, "run", "flows") == "mpflow: flows is a directory; name a Python file in it\n"
    assert "is a directory" in bad(capsys, "run", str(tmp_path / "flows"))


def test_no_flow(flow_file, capsys):
    assert "binds no flow to a name" in bad(capsys, "run", flow_file("x = 1\n"))


def test_no_such_flow(flow_file, capsys):
    assert "has no flow 'c'; it has a, b, again" in bad(capsys, "run", flow_file(TWO) + ":c")


def test_a_flow_behind_a_bare_run(flow_file, capsys):
    path = flow_file(ONE + "flow.run()\nwith Flow('late') as late: pass\n")
    assert "has no flow 'late' before line 9, where a flow.run(...) ended its loading" in bad(
        capsys, "run", path + ":late"
    )


def test_unknown_parameter(flow_file, capsys):
    assert "flow 'one' has no parameter 'z'; its parameters are 'x'" in bad(capsys, "run", flow_file(ONE), "-p", "z=1")


def test_missing_parameter(flow_file, capsys):
    path = flow_file(ONE.replace(", default=4", ""))
    assert "flow 'one' needs a value for 'x'" in bad(capsys, "run", path)


def test_unknown_executor(flow_file, capsys):
    err = bad(capsys, "run", flow_file(ONE), "-e", "proceses")
    assert "'proceses'" in err
    assert "'processes'" in err


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_bad_number_of_workers(flow_file, capsys, count):
    assert "--workers" in bad(capsys, "run", flow_file(ONE), "-w", count)


def test_workers_for_sync(flow_file, capsys):
    assert "one task at a time" in bad(capsys, "run", flow_file(ONE), "-e", "sync", "-w", "2")


def test_a_file_that_raises_shows_its_own_traceback(flow_file, capsys):
    path = flow_file("1 / 0\n")
    assert call(["run", path]) == 2
    err = capsys.readouterr().err
    assert f'File "{path}", line 2' in err
    assert "cli/targets.py" not in err
    assert err.endswith("could not be loaded: ZeroDivisionError: division by zero\n")


def test_a_file_with_a_syntax_error(flow_file, capsys):
    path = flow_file("def (\n")
    assert call(["run", path]) == 2
    assert f'File "{path}", line 2' in capsys.readouterr().err


def test_a_file_that_exits(flow_file, capsys):
    assert "called exit(3) while it was loaded" in bad(capsys, "run", flow_file("raise SystemExit(3)\n"))


def test_a_cycle(flow_file, capsys):
    path = flow_file("""
with Flow("round") as flow:
    a = task(lambda: 1, name="a")()
    b = task(lambda: 2, name="b")()
    a.set_upstream(b)
    b.set_upstream(a)
""")
    assert "flow 'round' cannot run" in bad(capsys, "run", path)


def test_no_arguments_and_unknown_commands(capsys):
    assert call([]) == 2
    assert call(["fly"]) == 2
    assert call(["run"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_and_version(capsys):
    assert call(["--help"]) == 0
    assert call(["run", "--help"]) == 0
    assert call(["--version"]) == 0
    assert "0.1.0" in capsys.readouterr().out
