"""What bodies log and print arrives at the handlers of the main process, whatever runs them."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest

import mpflow
from mpflow import Flow, context, task
from mpflow.executors import ThreadExecutor
from mpflow.executors.port import Executor


class Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def lines(self, name: str = "mpflow.") -> list[str]:
        return [self.format(record) for record in self.records if record.name.startswith(name)]


@pytest.fixture
def collected() -> Iterator[Collector]:
    collector = Collector()
    logger = logging.getLogger("mpflow")
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    yield collector
    logger.removeHandler(collector)
    logger.setLevel(level)


def test_records_of_bodies_arrive_formatted_under_the_full_name(executor: Executor, collected: Collector) -> None:
    @task
    def speak(x: int) -> str:
        context.logger.warning("got %d of %s (%5.2f)", x, {"a": 1}, 1.5)
        context.logger.debug("quietly")
        context.logger.info("100%")
        return str(context.logger.name)

    with Flow("f") as flow:
        one, many = speak(7), speak.map([1, 2])
    state = flow.run(executor=executor)
    assert state.result[one].result == "mpflow.speak"
    assert state.result[many].result == ["mpflow.speak[0]", "mpflow.speak[1]"]
    assert collected.lines("mpflow.speak") != []
    for name, x in (("speak", 7), ("speak[0]", 1), ("speak[1]", 2)):
        assert [line for line in collected.lines() if f" mpflow.{name} " in line] == [
            f"WARNING mpflow.{name} got {x} of {{'a': 1}} ( 1.50)",
            f"DEBUG mpflow.{name} quietly",
            f"INFO mpflow.{name} 100%",
        ]


def test_other_loggers_below_mpflow_arrive_too(executor: Executor, collected: Collector) -> None:
    @task
    def speak() -> None:
        mpflow.get_logger("mine").error("hello", extra={"answer": 42})

    with Flow("f") as flow:
        speak()
    flow.run(executor=executor)
    (record,) = [record for record in collected.records if record.name == "mpflow.mine"]
    assert record.getMessage() == "hello"
    assert record.__dict__["answer"] == 42


def test_levels_of_the_main_process_hold_in_bodies(executor: Executor, collected: Collector) -> None:
    @task
    def speak() -> bool:
        context.logger.info("no")
        context.logger.warning("yes")
        return bool(context.logger.isEnabledFor(logging.INFO))

    logging.getLogger("mpflow").setLevel(logging.WARNING)
    with Flow("f") as flow:
        spoken = speak()
    assert flow.run(executor=executor).result[spoken].result is False
    assert collected.lines() == ["WARNING mpflow.speak yes"]


def test_log_stdout_turns_prints_into_info(executor: Executor, collected: Collector) -> None:
    @task(log_stdout=True)
    def speak(x: int) -> None:
        print("x is", x, "\n100% sure", end="")
        sys.stdout.write(" of it\n\n")
        print("the end", end="")

    with Flow("f") as flow:
        speak.map([5])
    flow.run(executor=executor)
    assert collected.lines("mpflow.speak") == [
        "INFO mpflow.speak[0] x is 5 ",
        "INFO mpflow.speak[0] 100% sure of it",
        "INFO mpflow.speak[0] the end",
    ]


def test_what_was_printed_before_a_failure_is_logged(executor: Executor, collected: Collector) -> None:
    @task(log_stdout=True)
    def speak() -> None:
        print("last words", end="")
        raise ValueError("no")

    with Flow("f") as flow:
        speak()
    flow.run(executor=executor)
    assert collected.lines("mpflow.speak")[0] == "INFO mpflow.speak last words"


def test_a_body_without_log_stdout_prints_as_usual(capsys: pytest.CaptureFixture[str], collected: Collector) -> None:
    @task
    def speak() -> None:
        print("plain")

    with Flow("f") as flow:
        speak()
    flow.run()
    assert capsys.readouterr().out == "plain\n"
    assert collected.lines("mpflow.speak") == []


def test_threads_that_print_at_the_same_time_do_not_mix(
    collected: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    meet, leave = threading.Barrier(3), threading.Barrier(2)
    before = sys.stdout

    @task(log_stdout=True)
    def speak(x: int) -> None:
        meet.wait()
        print("one", end=" ")
        meet.wait()
        print(x)
        if x:
            leave.wait()
            print("after the other has left")

    @task
    def silent() -> None:
        meet.wait()
        meet.wait()
        print("to the screen")

    @task(log_stdout=True)
    def follow(x: int) -> None:
        print("later")
        leave.wait()

    with Flow("f") as flow:
        early = speak(0)
        speak(1)
        silent()
        follow(early)
    flow.run(executor=ThreadExecutor(max_workers=3))
    assert sys.stdout is before
    assert sorted(collected.lines("mpflow.speak")) == [
        "INFO mpflow.speak after the other has left",
        "INFO mpflow.speak one 0",
        "INFO mpflow.speak one 1",
    ]
    assert capsys.readouterr().out == "to the screen\n"


def test_failures_are_logged_with_their_traceback(executor: Executor, collected: Collector) -> None:
    @task
    def fail() -> None:
        raise ValueError("the reason")

    with Flow("f") as flow:
        fail()
    flow.run(executor=executor)
    (record,) = [record for record in collected.records if record.levelno == logging.ERROR]
    assert record.name == "mpflow.fail"
    text = collected.format(record)
    assert "ValueError: the reason" in text
    assert 'raise ValueError("the reason")' in text


def test_an_exception_that_a_body_logs_brings_its_traceback(executor: Executor, collected: Collector) -> None:
    @task
    def speak() -> None:
        try:
            raise ValueError("inside")
        except ValueError:
            context.logger.exception("caught")

    with Flow("f") as flow:
        speak()
    flow.run(executor=executor)
    (line,) = collected.lines("mpflow.speak")
    assert "ERROR mpflow.speak caught" in line
    assert 'raise ValueError("inside")' in line


def test_a_handler_that_a_body_adds_works_there(executor: Executor, collected: Collector) -> None:
    @task
    def speak() -> list[str]:
        seen: list[str] = []

        class Own(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(record.getMessage())

        own = Own()
        logging.getLogger("mpflow").addHandler(own)
        context.logger.info("to %s", "both")
        logging.getLogger("mpflow").removeHandler(own)
        return seen

    with Flow("f") as flow:
        spoken = speak()
    assert flow.run(executor=executor).result[spoken].result == ["to both"]
    assert collected.lines("mpflow.speak") == ["INFO mpflow.speak to both"]


def test_a_handler_that_prints_does_not_log_its_own_prints(collected: Collector) -> None:
    class Printing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print("handled", record.getMessage())

    @task(log_stdout=True)
    def speak() -> None:
        print("once")

    printing = Printing()
    logging.getLogger("mpflow").addHandler(printing)
    try:
        with Flow("f") as flow:
            speak()
        assert flow.run().is_successful()
    finally:
        logging.getLogger("mpflow").removeHandler(printing)
    assert collected.lines("mpflow.speak") == ["INFO mpflow.speak once"]


def test_get_logger_names_and_adds_no_handler() -> None:
    assert mpflow.get_logger().name == "mpflow"
    assert mpflow.get_logger("a").name == "mpflow.a"
    assert mpflow.get_logger("a").handlers == []
