"""What is in `mpflow.context` around `flow.run` is there in every task body, in whatever process that runs."""

import argparse
import os

import mpflow
from mpflow import Flow, task


@task
def greet():
    return f"hello {mpflow.context.key}", os.getpid()


@task
def want_more():
    return mpflow.context.no_such_key


with Flow("context") as flow:
    greeted = greet()
    wanted = want_more()

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--executor", default="processes", help="sync, threads or processes (default)")
executor = arguments.parse_args().executor

with mpflow.context(key="abc"):
    state = flow.run(executor=executor)

text, pid = state.result[greeted].result
print(f"{text}, from {'this' if pid == os.getpid() else 'another'} process")
print(f"what it received: key={state.result[greeted].context['key']!r}")
print(f"without the key: {type(state.result[wanted]).__name__}: {state.result[wanted].message}")
