"""One task, and two behind it: one for when it succeeds, one for when it fails."""

from mpflow import Flow, Parameter, task
from mpflow.triggers import all_failed, all_successful


@task
def measure(reading):
    return float(reading)


@task(trigger=all_successful)
def record(value):
    return f"recorded {value}"


@task(trigger=all_failed)
def alert(error):
    return f"nobody can read this: {error}"


with Flow("first") as flow:
    value = measure(Parameter("reading"))
    recorded = record(value)
    alerted = alert(value)
    flow.set_reference_tasks([recorded])  # recorded alone decides how the flow ends

for reading in ("21.5", "n/a"):
    state = flow.run(reading=reading, executor="processes")
    print(f"{reading}: the flow ended {type(state).__name__}")
    for call in (value, recorded, alerted):
        end = state.result[call]
        print(f"  {call.name:8} {type(end).__name__:14} {end.result if end.is_successful() else end.message}")
