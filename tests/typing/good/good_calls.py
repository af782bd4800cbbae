"""Typed tasks called in every way that is meant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mpflow import Flow, Parameter, Task, case, flatten, mapped, merge, resource_manager, tags, task, unmapped


@task
def load(path: str) -> list[int]:
    return [len(path)]


@task(max_retries=3, retry_delay=timedelta(seconds=1), tags=["math"], timeout=2.5)
def add(x: int, y: int = 1) -> int:
    return x + y


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


class Scale(Task):
    def __init__(self, factor: int, **options: Any) -> None:
        self.factor = factor
        super().__init__(**options)

    def run(self, x: int) -> int:
        return self.factor * x


class Cluster:
    def setup(self) -> str:
        return "ready"

    def cleanup(self, resource: str) -> None:
        del resource


# Not as a decorator: type checkers take a decorated class for the class itself.
cluster_resource = resource_manager(Cluster)


with Flow("typed") as flow:
    n = Parameter("n", default=3)
    one = add(1)
    two = add(one, y=2)
    three = add(n)
    numbers = load("a")
    all_of_it = total([one, two, three])
    each = add.map(numbers, y=unmapped(two))
    again = total(flatten(each), upstream_tasks=[one])
    more = add(mapped(numbers), y=1, mapped=False)
    other = add(1, task_args={"name": "other"})
    scaled = Scale(3, name="scaled")(two)
    answer = (one + two) * 2 - numbers[0]
    with case(one, 1), tags("x"):
        inner = add(2)
    merged = merge(inner, two)
    with cluster_resource() as cluster:
        add(two, flow=flow)
    add.copy(name="renamed").bind(1, y=2)
    one.set_upstream(two)

value: int = add.run(1, y=2)
values: list[int] = load.run("a")
retries: int = add.max_retries
delay: timedelta | None = add.retry_delay
names: list[str] = [t.name for t in flow.sorted_tasks()]


def count(t: Task) -> int:
    return t.priority
