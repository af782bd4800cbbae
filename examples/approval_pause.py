"""A task waits for a person: the flow comes back unfinished, and goes on from there when somebody says yes."""

import argparse

from mpflow import Flow, task
from mpflow.engine.state import Resume
from mpflow.triggers import manual_only


@task
def draft():
    return "Prices go up by 2 %."


@task(trigger=manual_only)
def approve(text):
    return text.replace("2", "1")


@task
def publish(text):
    return f"published: {text}"


with Flow("approval") as flow:
    drafted = draft()
    approved = approve(drafted)
    published = publish(approved)


def tell(title, state):
    print(f"{title}: the flow is {type(state).__name__}")
    for call in (drafted, approved, published):
        end = state.result[call]
        print(f"  {call.name:8} {type(end).__name__:8}", end.result if end.is_successful() else "-")


arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--executor", default="processes", help="sync, threads or processes (default)")
executor = arguments.parse_args().executor

earlier = flow.run(executor=executor)
tell("first run", earlier)

# Minutes or days later, somebody has read the draft. Only `approve` and what is behind it run.
later = flow.run(
    executor=executor,
    task_states={**earlier.result, approved: Resume()},
    start_tasks=[approved],
)
tell("after the approval", later)
