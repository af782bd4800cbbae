"""Names that people bring along: those of the language are where they expect them, the others say what to do instead."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import mpflow
from mpflow import Flow, task
from mpflow.results import LocalResult, Result
from mpflow.serializers import JSONSerializer, Serializer

SAME = {
    "mpflow": "context triggers engine core executors results serializers store tasks utilities",
    "mpflow.core": "Edge Flow Parameter Task",
    "mpflow.core.edge": "Edge",
    "mpflow.core.flow": "Flow",
    "mpflow.core.parameter": "DateTimeParameter Parameter",
    "mpflow.core.task": "Task",
    "mpflow.engine": "cache_validators result results serializers signals state",
    "mpflow.engine.result": "NoResult Result",
    "mpflow.engine.results": "ConstantResult LocalResult",
    "mpflow.engine.serializers": "JSONSerializer PickleSerializer Serializer",
    "mpflow.tasks": "control_flow core",
    "mpflow.tasks.control_flow": "FilterTask case ifelse merge switch",
    "mpflow.tasks.control_flow.case": "case",
    "mpflow.tasks.control_flow.conditional": "CompareValue Merge ifelse merge switch",
    "mpflow.tasks.control_flow.filter": "FilterTask",
    "mpflow.tasks.core.collections": "Dict List Set Tuple",
    "mpflow.tasks.core.constants": "Constant",
    "mpflow.tasks.core.function": "FunctionTask",
    "mpflow.tasks.core.resource_manager": "resource_manager",
    "mpflow.utilities": "debug edges logging tasks",
    "mpflow.utilities.debug": "raise_on_exception",
    "mpflow.utilities.edges": "EdgeAnnotation flatten mapped unmapped",
    "mpflow.utilities.logging": "get_logger",
    "mpflow.utilities.tasks": "apply_map as_task defaults_from_attrs pause_task tags task unmapped",
}


@pytest.mark.parametrize("module", SAME)
def test_names_are_where_they_have_always_been(module: str) -> None:
    found = importlib.import_module(module)
    for name in SAME[module].split():
        value = getattr(found, name)
        assert not callable(value) or getattr(mpflow, name, value) is value


def test_parts_are_reachable_by_dots() -> None:
    parts = [
        f"{module}.{name}"
        for module, names in SAME.items()
        for name in names.split()
        if module != "mpflow.tasks.control_flow.case" and "core." not in module
    ]
    code = "import mpflow\n" + "\n".join(parts)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("import mpflow.schedules", "cron"),
        ("from mpflow.schedules import IntervalSchedule", "cron"),
        ("from mpflow.schedules.clocks import CronClock", "cron"),
        ("from mpflow import Client", "no server"),
        ("from mpflow.client import Secret", "no server"),
        ("from mpflow.storage import Local", "nothing is stored"),
        ("from mpflow.run_configs import LocalRun", "nothing is stored"),
        ("from mpflow.executors import LocalDaskExecutor", r"ProcessExecutor\(max_workers=4\)"),
        ("from mpflow.executors import LocalExecutor", r"SyncExecutor\(\)"),
        ("from mpflow.tasks.shell import ShellTask", "subprocess.run"),
        ("from mpflow.tasks.aws.s3 import S3Download", "none for other systems"),
        ("from mpflow.tasks.secrets import PrefectSecret", "os.environ"),
        ("from mpflow.engine.results import S3Result", r"derive a class of your own from mpflow\.results\.Result"),
        ("from mpflow.engine.serializers import PandasSerializer", r"from mpflow\.serializers\.Serializer"),
        ("from mpflow.engine import TaskRunner", r"flow\.run\(\) is the way"),
        ("from mpflow.utilities.notifications import slack_notifier", "state handler"),
        ("from mpflow import flow", r"with Flow\('name'\) as flow"),
        ("from mpflow import get_run_logger", r"mpflow\.context\.logger"),
        ("from mpflow import delayed", r"task\(function\)\(x\)"),
    ],
)
def test_names_that_are_not_here_say_what_to_do_instead(statement: str, said: str) -> None:
    with pytest.raises(ImportError, match=f"^there is no mpflow.*{said}"):
        exec(statement)


def test_by_dots_they_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'schedules'; .*cron"):
        mpflow.schedules  # noqa: B018
    assert not hasattr(mpflow, "Client")
    assert not hasattr(mpflow.engine, "FlowRunner")
    assert not hasattr(mpflow.tasks, "shell")


@pytest.mark.parametrize(
    "name", ["mpflow.no_such", "mpflow.tasks.control_flow.no_such", "mpflow.core.no_such", "no_such"]
)
def test_other_names_are_simply_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        importlib.import_module(name)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("schedule", "cron"),
        ("run_config", "nothing is stored"),
        ("executer", "did you mean 'executor'"),
        ("log_prints", "log_stdout"),
    ],
)
def test_options_that_a_flow_does_not_have(option: str, said: str) -> None:
    with pytest.raises(TypeError, match=rf"Flow\('f'\) got an unknown option '{option}'; .*{said}"):
        Flow("f", **{option: 1})  # type: ignore[arg-type]


def test_methods_that_a_flow_does_not_have() -> None:
    flow = Flow("f")
    for name, said in [("register", "no server"), ("serialize", "visualize"), ("deploy", "no server")]:
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; .*{said}"):
            getattr(flow, name)
    with pytest.raises(AttributeError, match="has no attribute 'load'; import it"):
        Flow.load("f.pickle")  # type: ignore[attr-defined]
    assert "register" not in dir(flow)
    assert not hasattr(flow, "register")
    flow.schedule = "nightly"  # type: ignore[attr-defined]
    assert flow.schedule == "nightly"  # type: ignore[attr-defined]
    assert "schedule" in dir(flow)
    with pytest.raises(AttributeError, match=r"has no attribute 'no_such'$"):
        flow.no_such  # noqa: B018
    assert flow.logger.name == "mpflow.f"


def test_results_take_serializers(tmp_path) -> None:
    @task(result=LocalResult(dir=tmp_path, location="{n}.json", serializer=JSONSerializer()))
    def numbers(n: int) -> dict[str, int]:
        return {"n": n}

    with Flow("f") as flow:
        numbers(3)
    with mpflow.context(checkpointing=True):
        assert flow.run().is_successful()
    assert json.loads((tmp_path / "3.json").read_text()) == {"n": 3}
    assert LocalResult(dir=tmp_path, serializer=JSONSerializer()).read("3.json").value == {"n": 3}
    assert LocalResult(dir=tmp_path).write(1).location.endswith(".pickle")
    assert Result(1) == Result(1) != Result(1, serializer=JSONSerializer())


@pytest.mark.parametrize("given", [JSONSerializer, "json", 3])
def test_what_cannot_serialize_is_refused(given: object) -> None:
    with pytest.raises(
        TypeError, match=r"LocalResult: serializer is .*; pass an object with serialize and deserialize"
    ):
        LocalResult(serializer=given)  # type: ignore[arg-type]


def test_a_serializer_that_lacks_a_method_says_which() -> None:
    with pytest.raises(NotImplementedError, match="has no serialize"):
        LocalResult(serializer=Serializer()).write(1)
    with pytest.raises(NotImplementedError, match="has no deserialize"):
        Serializer().deserialize(b"")
