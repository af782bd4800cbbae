"""A small flow with a retry, a skip, and a failure that a trigger handles."""

from mpflow import Flow, Parameter, context, task
from mpflow.engine import signals
from mpflow.triggers import all_finished, all_successful, any_failed


@task(max_retries=2, retry_delay=0.1)
def fetch(pages):
    """Fails the first time, as networks do; the retry succeeds."""
    if context.task_run_count == 1:
        raise ConnectionError("connection reset")
    return list(range(1, pages + 1))


@task
def parse(page):
    """Runs once for each page, on whichever worker is free; page 3 is rotten."""
    if page == 3:
        raise ValueError(f"page {page} is not readable")
    return page * page


@task
def translate(pages):
    """Decides for itself that there is nothing to do."""
    raise signals.SKIP("the pages are in English already")


@task(trigger=all_successful)
def publish(squares):
    """Runs only if every page could be parsed."""
    return sum(squares)


@task(trigger=any_failed)
def quarantine(squares):
    """Runs only because a page failed; its inputs show which."""
    return [number for number, square in enumerate(squares, start=1) if isinstance(square, Exception)]


@task(trigger=all_finished)
def report(total, rotten):
    """Runs whatever happened; the result of a task that failed is its exception."""
    return f"{rotten} in quarantine" if isinstance(total, BaseException) else f"published {total}"


with Flow("demo") as flow:
    found = fetch(Parameter("pages", default=4))
    squares = parse.map(found)
    translate(found)
    reported = report(publish(squares), quarantine(squares))
    flow.set_reference_tasks([reported])
