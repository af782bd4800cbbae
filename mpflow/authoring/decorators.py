"""`@task` and the marks on arguments."""
from __future__ import annotations
from contextlib import contextmanager
from typing import Any
from mpflow._context import context
from mpflow.authoring.literals import Constant, Marked
from mpflow.authoring.task import FunctionTask, Task

def task(fn=None, **options):
    if fn is None:
        return lambda fn: FunctionTask(fn, **options)
    return FunctionTask(fn, **options)

def unmapped(value): return Marked(value, kind="unmapped")
def mapped(value): return Marked(value, kind="mapped")
def flatten(value): return Marked(value, kind="flatten")

@contextmanager
def tags(*names):
    with context(tags=set(context.get("tags") or ()) | set(names)):
        yield
def as_task(value): return value if isinstance(value, Task) else Constant(value)
def defaults_from_attrs(*a): raise RuntimeError
