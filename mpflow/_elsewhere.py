"""Names that people bring along from other libraries and mpflow has under another name, or not at all.

Owns what the import error says then. It is asked last, when no module of that name has been found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

__all__ = ["ELSEWHERE_IN_FLOWS", "install", "lacking", "said_of", "said_of_option"]

_SCHEDULES = "mpflow keeps no schedules: let cron or a systemd timer run the script, or `mpflow run file.py`"
_SERVER = (
    "mpflow has no server, and flows are not registered anywhere: run them with flow.run(), or `mpflow run file.py`"
)
_PLACES = (
    "a flow runs on the machine that calls flow.run(), from the file it is written in; nothing is stored or deployed"
)
_LIBRARY = "mpflow.tasks has control_flow and core, and none for other systems; write a task that calls their Python package or program"
_RESULTS = "derive a class of your own from mpflow.results.Result, with exists, read and write, or use LocalResult"
_SERIALIZERS = "derive a class of your own from mpflow.serializers.Serializer, with serialize and deserialize"
_SECRETS = "mpflow keeps no secrets: read them in the body of a task, as in os.environ['TOKEN']"
_RUNNERS = "flow.run() is the way to run a flow, and its executor= says where; there are no runners to call or replace"
_NOTIFIERS = (
    "write a state handler instead: a function of (task, old_state, new_state) that sends what it likes, "
    "given as state_handlers=[...]"
)
_FLOW = "a flow is a block: `with Flow('name') as flow:` and then flow.run()"

_SAID = {
    # The language's own, where mpflow does otherwise.
    "schedules": _SCHEDULES,
    "Schedule": _SCHEDULES,
    "Client": _SERVER,
    "client": _SERVER,
    "backend": _SERVER,
    "agent": _SERVER,
    "artifacts": _SERVER,
    "cli": _SERVER,
    "storage": _PLACES,
    "run_configs": _PLACES,
    "environments": _PLACES,
    "config": "settings come from `mpflow config`, from MPFLOW_... in the environment, or are arguments of flow.run()",
    "exceptions": "its own errors are in mpflow.errors",
    "tasks": _LIBRARY,
    "tasks.secrets": _SECRETS,
    "tasks.prefect": "to run one flow from another, call its run() in the body of a task",
    "tasks.shell": "write a task that calls subprocess.run([...], check=True)",
    "tasks.notifications": _NOTIFIERS,
    "utilities.notifications": _NOTIFIERS,
    "utilities.configuration": "use `with mpflow.context(...)`, or MPFLOW_... in the environment",
    "utilities.context": "the context is mpflow.context",
    "utilities.exceptions": "its own errors are in mpflow.errors",
    "utilities.debug.is_serializable": "call cloudpickle.dumps(value) and see",
    "engine.executors": "executors are in mpflow.executors",
    "engine.flow_runner": _RUNNERS,
    "engine.task_runner": _RUNNERS,
    "engine.FlowRunner": _RUNNERS,
    "engine.TaskRunner": _RUNNERS,
    "engine.results": _RESULTS,
    "engine.results.PrefectResult": "mpflow.results.JSONResult() keeps a value as JSON in its location",
    "engine.results.SecretResult": _SECRETS,
    "engine.serializers": _SERIALIZERS,
    "executors.LocalExecutor": "that is SyncExecutor() here, or executor='sync'; nothing needs to be said, it is the default",
    "executors.LocalDaskExecutor": (
        "use ProcessExecutor(max_workers=4) for scheduler='processes' and ThreadExecutor(max_workers=4) for scheduler='threads', "
        "or flow.run(executor='processes', workers=4)"
    ),
    # What the same people may know from its later releases.
    "flow": _FLOW,
    "flows": _FLOW,
    "get_run_logger": "use mpflow.context.logger in the body of a task",
    "runtime.flow_run": "what is known of the run is in mpflow.context, such as flow_run_name",
    "runtime.task_run": "what is known of the task run is in mpflow.context, such as task_run_id",
    "task_runners": "say where tasks run with flow.run(executor='threads') or 'processes'",
    "futures": "a task that is called in a flow is no future: its result is flow.run().result[task].result",
    "states": "states are in mpflow.engine.state",
    "deployments": _SERVER,
    "blocks": _SECRETS,
    "variables": "use a Parameter, given to flow.run()",
    "transactions": "give a task a state handler, or one behind it the trigger any_failed, to undo what it did",
    "pause_flow_run": "use the trigger manual_only, or mpflow.pause_task()",
    "allow_failure": "give the task a trigger, such as mpflow.triggers.all_finished",
    # And from others.
    "delayed": "make it a task: task(function)(x) in a `with Flow(...)` block",
    "Parallel": "map a task: task(function).map(xs) in a `with Flow(...)` block",
    "compute": "run the flow: flow.run().result[task].result",
}


_RETRIES = "max_retries= with retry_delay="
_OPTIONS = {
    # Of a Flow.
    "Flow.schedule": _SCHEDULES,
    "Flow.storage": _PLACES,
    "Flow.run_config": _PLACES,
    "Flow.environment": _PLACES,
    "Flow.register": _SERVER,
    "Flow.run_agent": _SERVER,
    "Flow.serve": _SCHEDULES,
    "Flow.deploy": _SERVER,
    "Flow.serialize": "flow.visualize(format='mermaid') shows it as text; cloudpickle.dumps(flow) keeps it as bytes",
    "Flow.serialized_hash": "a run that is resumed from a store finds out itself which tasks have changed",
    "Flow.save": "cloudpickle.dumps(flow) keeps it as bytes, but the file it is written in is the better place",
    "Flow.load": "import it from the file it is written in",
    "Flow.diagnostics": "`mpflow doctor` looks at the machine, `mpflow graph file.py` at the flow",
    "Flow.submit": "call flow.run(), which returns when everything has ended",
    "Flow.task_runner": "say where tasks run as executor='threads' or 'processes', here or in flow.run()",
    "Flow.log_prints": "that is an option of each task here: @task(log_stdout=True)",
    "Flow.retries": f"that is for each task to say here: {_RETRIES}; or run it again with flow.run(store=..., run_id=..., resume=True)",
    "Flow.run_on_schedule": _SCHEDULES,
    "Flow.runner_cls": _RUNNERS,
    "Flow.scheduler": "say where tasks run as executor='threads' or 'processes'",
    "Flow.num_workers": "that is workers=",
    "Flow.n_jobs": "that is workers=",
    "Flow.max_workers": "that is workers=",
    # Of an executor.
    "Executor.workers": "that is max_workers= here; workers= is an argument of flow.run",
    "Executor.num_workers": "that is max_workers=",
    "Executor.n_workers": "that is max_workers=",
    "Executor.n_jobs": "that is max_workers=",
    "Executor.processes": "that is max_workers=",
    "Executor.mp_context": "that is start_method=",
    "Executor.max_tasks_per_child": "that is max_tasks_per_worker=",
    "Executor.maxtasksperchild": "that is max_tasks_per_worker=",
    "Executor.inner_max_num_threads": "that is threads_per_task=",
    "Executor.scheduler": "ProcessExecutor is for scheduler='processes', ThreadExecutor for scheduler='threads'",
    # Of a task.
    "task.retries": f"that is {_RETRIES}",
    "task.retry_delay_seconds": "that is retry_delay=, in seconds or as a timedelta",
    "task.retry_jitter_factor": "that is retry_jitter=",
    "task.retry_condition_fn": "that is retry_on=, which takes exception types",
    "task.timeout_seconds": "that is timeout=, in seconds or as a timedelta",
    "task.cache_expiration": "that is cache_for=, a timedelta",
    "task.cache_key_fn": "that is cache_validator=, from mpflow.engine.cache_validators, with cache_for=",
    "task.cache_policy": "that is cache_validator=, from mpflow.engine.cache_validators, with cache_for=",
    "task.persist_result": "that is checkpoint=, with result=LocalResult(...)",
    "task.result_storage": "that is result=, as in LocalResult(dir=...)",
    "task.result_storage_key": "that is target=, with result=LocalResult(...)",
    "task.result_serializer": "that is result=, as in LocalResult(dir=..., serializer=JSONSerializer())",
    "task.log_prints": "that is log_stdout=",
    "task.description": "that is the function's docstring",
    "task.on_completion": "that is state_handlers=, functions of (task, old_state, new_state)",
    "task.on_running": "that is state_handlers=, functions of (task, old_state, new_state)",
    "task.on_retry": "that is state_handlers=, functions of (task, old_state, new_state)",
    "task.wait_for": "that is upstream_tasks=, in the call",
    "task.upstream_tasks": "that goes into the call, not the decorator: the_task(x, upstream_tasks=[...])",
    "task.return_state": "the state is in the run's: flow.run().result[task]",
    "task.submit": "call the task inside `with Flow(...)` instead, and run the flow",
    "task.delay": "call the task inside `with Flow(...)` instead, and run the flow",
    "task.apply_async": "call the task inside `with Flow(...)` instead, and run the flow",
    "task.result_handler": "that is result=, as in LocalResult(dir=...)",
    "task.with_options": "that is copy(...), or task_args={...} in the call",
    "task.fn": "that is run",
    "task.n_jobs": "that goes to flow.run(workers=...)",
    "task.executor": "that goes to flow.run(executor=...), for all tasks",
    "task.depends_on": "that is upstream_tasks=, in the call",
    "task.compute": "call the task inside `with Flow(...)`, and run the flow: flow.run().result[task].result",
}


ELSEWHERE_IN_FLOWS = (
    "deploy", "diagnostics", "environment", "load", "register", "run_agent", "run_config", "save", "schedule", "serialize",
    "serialized_hash", "serve", "storage", "submit",
)  # fmt: skip
"""What flows have as attributes in other places, and not here."""


def said_of_option(owner: str, name: str, known: Iterable[str] = ()) -> str:
    """Return what to append to an error about an option that an owner (Flow, task) does not have: what is called so
    here, or the nearest of those there are.
    """
    said = _OPTIONS.get(f"{owner}.{name}")
    if said is None:
        import difflib

        close = difflib.get_close_matches(name, list(known), 1)
        said = f"did you mean {close[0]!r}?" if close else ""
    return f"; {said}" if said else ""


def said_of(name: str) -> str | None:
    """Return what to do instead of using this full name, such as `mpflow.Client`; None if nothing is known about it."""
    inner = name.removeprefix("mpflow.")
    # What is said of a package is said of what is not in it.
    return _SAID.get(inner) or _SAID.get(inner.rpartition(".")[0])


def lacking(module: str, name: str) -> AttributeError:
    """Return the error for a name that a module does not have."""
    said = said_of(f"{module}.{name}")
    # Given the module, Python suggests what is written alike.
    return AttributeError(
        f"module {module!r} has no attribute {name!r}" + (f"; {said}" if said else ""),
        name=name,
        obj=sys.modules[module],
    )


class _Elsewhere:
    """Finds nothing, but knows what to say about some of it."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name.startswith("mpflow.") and "._" not in name:
            said = said_of(name)
            if said is not None:
                # Not ModuleNotFoundError, which `from mpflow import name` would swallow, and these words with it.
                raise ImportError(f"there is no {name}; {said}", name=name)


def install() -> None:
    """Have the import system ask here last."""
    if _Elsewhere not in sys.meta_path:
        sys.meta_path.append(_Elsewhere)  # a class with a static find_spec serves as well
