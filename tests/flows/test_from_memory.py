"""Flows as people who know the language write them from memory, with the imports they remember, on every executor."""

from __future__ import annotations

from datetime import timedelta

import mpflow
from mpflow import Flow, Parameter, Task, case, task
from mpflow.core.edge import Edge
from mpflow.engine import signals
from mpflow.engine.result import Result
from mpflow.engine.results import LocalResult
from mpflow.engine.serializers import JSONSerializer
from mpflow.engine.state import Mapped, Skipped
from mpflow.executors.port import Executor
from mpflow.tasks.control_flow import merge
from mpflow.tasks.control_flow.filter import FilterTask
from mpflow.tasks.core.resource_manager import resource_manager
from mpflow.triggers import all_finished
from mpflow.utilities.edges import flatten, unmapped
from mpflow.utilities.logging import get_logger
from mpflow.utilities.tasks import defaults_from_attrs, tags


class Query(Task):
    def __init__(self, db=None, user="me", **kwargs):
        self.db, self.user = db, user
        super().__init__(**kwargs)

    @defaults_from_attrs("db", "user")
    def run(self, sql, db=None, user=None):
        self.logger.info("asking %s", db)
        return f"{sql} of {db} by {user}"


@resource_manager
class Connection:
    def __init__(self, host):
        self.host = host

    def setup(self):
        return f"connected to {self.host}"

    def cleanup(self, connection):
        pass


@task
def check(flight):
    if flight == 2:
        raise signals.SKIP("diverted", result=None)
    if flight == 3:
        raise ValueError("lost")
    return flight


@task
def add(flight, more):
    return flight + more


def test_aircraft(executor: Executor, tmp_path) -> None:
    seen = []

    def post(obj, old, new):
        if new.is_failed():
            seen.append(f"{obj.name} failed")
        return new

    @task(max_retries=3, retry_delay=timedelta(seconds=0))
    def extract(airport):
        if mpflow.context.task_run_count < 2:
            raise ConnectionError("down")
        mpflow.context.get("logger").info("flights of %s", airport)
        return [[1, 2], [3]]

    @task(result=LocalResult(dir=tmp_path, location="{airport}.json", serializer=JSONSerializer()), checkpoint=True)
    def load(flights, airport, connection):
        return {"airport": airport, "flights": flights, "by": connection}

    @task(trigger=all_finished, skip_on_upstream_skip=False, state_handlers=[post])
    def report(flights):
        raise signals.FAIL(f"{len(flights)} seen")

    with Flow("aircraft", result=LocalResult(dir=tmp_path)) as flow:
        airport = Parameter("airport", default="IAD")
        dry = Parameter("dry", default=False)
        with tags("extract"):
            flights = extract(airport)
        checked = check.map(flatten(flights))
        kept = FilterTask(filter_func=lambda flight: isinstance(flight, int))(checked)
        shifted = add.map(kept, unmapped(10))
        with case(dry, False):
            with Connection(host="db") as connection:
                loaded = load(shifted, airport, connection)
        with case(dry, True):
            asked = Query(db="test", name="asked")("flights")
        done = merge(loaded, asked)
        reported = report(checked)
    flow.set_reference_tasks([done])

    with mpflow.context(checkpointing=True):
        state = flow.run(parameters={"airport": "DCA"}, executor=executor)
    get_logger("tests").info(state.message)
    assert state.is_successful()
    assert type(state.result[checked]) is Mapped
    assert state.result[shifted].result == [11]
    assert state.result[done].result == {"airport": "DCA", "flights": [11], "by": "connected to db"}
    assert state.result[reported].message == "3 seen"
    assert type(state.result[asked]) is Skipped
    assert seen == ["report failed"]
    assert LocalResult(dir=tmp_path, serializer=JSONSerializer()).read("DCA.json").value["flights"] == [11]
    assert isinstance(flow.result, Result)
    assert Edge(flights, checked, key="flight", mapped=True, flattened=True) in flow.edges
    assert flow.run(dry=True, executor=executor).result[done].result == "flights of test by me"
