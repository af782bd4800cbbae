"""The names people know, from the places they know, in the types they have here."""

from __future__ import annotations

import mpflow
from mpflow.core import Flow, Task
from mpflow.core.edge import Edge
from mpflow.core.parameter import DateTimeParameter, Parameter
from mpflow.engine import signals, state
from mpflow.engine.cache_validators import all_inputs
from mpflow.engine.result import Result
from mpflow.engine.results import LocalResult
from mpflow.engine.serializers import JSONSerializer, Serializer
from mpflow.tasks.control_flow.case import case
from mpflow.tasks.control_flow.conditional import merge
from mpflow.tasks.control_flow.filter import FilterTask
from mpflow.utilities.debug import raise_on_exception
from mpflow.utilities.edges import flatten, unmapped
from mpflow.utilities.logging import get_logger
from mpflow.utilities.tasks import defaults_from_attrs, tags, task


class Text(Serializer):
    def serialize(self, value: object) -> bytes:
        return str(value).encode()

    def deserialize(self, value: bytes) -> str:
        return value.decode()


class Query(Task):
    def __init__(self, db: str = "here", **options: object) -> None:
        self.db = db
        super().__init__(name=str(options.get("name", "query")))

    @defaults_from_attrs("db")
    def run(self, sql: str, db: str | None = None) -> str:
        if not sql:
            raise signals.FAIL("nothing to ask")
        return f"{sql} of {db}"


@task(cache_for=60, cache_validator=all_inputs, result=LocalResult(dir="/tmp", serializer=JSONSerializer()))
def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@task(result=LocalResult(serializer=Text()))
def shout(text: str, mark: str = "!") -> str:
    return text + mark


kept: Result = LocalResult(location="x")
with Flow("imports") as flow:
    day = DateTimeParameter("day", required=False)
    text = Parameter("text", default="a")
    asked = Query()(text)
    with case(asked, "a"), tags("x"):
        one = shout(asked)
    other = shout.map(flatten([["a"]]), unmapped("?"))
    left = FilterTask()(other)
    chosen = merge(one, left)
edge: Edge = flow.add_edge(asked, chosen)
with raise_on_exception():
    ended: state.State = flow.run(executor=mpflow.executors.SyncExecutor())
get_logger("imports").info(ended.message)
flow.logger.info(mpflow.utilities.edges.flatten)
