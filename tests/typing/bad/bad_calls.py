"""Mistakes that a type checker finds before the flow is ever built."""

from __future__ import annotations

from mpflow import Client, Edge, Flow, Task, task  # E: attr-defined
from mpflow.executors import LocalDaskExecutor  # E: attr-defined
from mpflow.results import LocalResult


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task(max_retry=3)  # E: call-overload
def misspelt() -> None: ...


@task(max_retries="3")  # E: call-overload
def mistyped() -> None: ...


with Flow("bad") as flow:
    add()  # E: call-overload
    add("one")  # E: call-overload
    add(1, 2, 3)  # E: call-overload
    add(1, z=2)  # E: call-overload
    add(1, y="2")  # E: call-overload

text: str = add.run(1, 2)  # E: assignment
add.run("1")  # E: arg-type
wrong: str = add.max_retries  # E: assignment
print(add.nothing)  # E: attr-defined
Flow("daily", schedule="@daily")  # E: arg-type
Task(max_retry=3)  # E: arg-type
LocalResult(serializer="json")  # E: arg-type
flow.register(Client, LocalDaskExecutor)  # E: attr-defined
flow.add_task(5)  # E: arg-type
Edge(Task(), Task(), key=3)  # E: arg-type
