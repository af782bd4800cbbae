"""Whose work is fetched back for workers that have none: queues and marks in, links and jobs out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mpflow.pool.fairness import overdue
from mpflow.pool.link import Link, Order, Work
from mpflow.worker.protocol import BEGUN, START

MILLISECOND = 1_000_000


@pytest.fixture
def link() -> Iterator[Link]:
    made = Link(1)
    made.was_up = True
    yield made
    made.close()


def give(link: Link, jobs: int, cost: int, *, ran: int = 0) -> None:
    """Queue jobs of so many ns, the first of which has run for so long."""
    for number in range(1, jobs + 1):
        order = Order(number, Work(body=1, spec=2), "slug", -1, 1, (), None, 0)
        order.seq, order.cost = number, cost
        link.queue.append(order)
        link.load += cost
    link.last_seq = jobs
    link.cell[BEGUN] = 1
    link.cell[START] = time.monotonic_ns() - ran


def test_all_that_waits_behind_a_long_body_is_fetched(link: Link) -> None:
    give(link, 3, 10_000, ran=5 * MILLISECOND)
    assert overdue([link], 1) == [(link, 1)]


def test_little_work_in_short_jobs_stays_where_it_is(link: Link) -> None:
    give(link, 50, 10_000)
    assert overdue([link], 1) == []


@pytest.mark.parametrize(("idle", "kept"), [(1, 11), (3, 6)])
def test_much_work_in_short_jobs_is_shared(link: Link, idle: int, kept: int) -> None:
    give(link, 20, MILLISECOND // 2)
    assert overdue([link], idle) == [(link, kept)]


def test_a_chain_stays_together(link: Link) -> None:
    give(link, 20, MILLISECOND // 2)
    for before, order in zip(list(link.queue), list(link.queue)[1:], strict=False):
        order.after = (("x", before),)
    assert overdue([link], 1) == []
    # All that it waited for has ended.
    last = link.queue[-1]
    done = Order(0, last.work, "slug", -1, 1, (), None, 0)
    for order in link.queue:
        order.after = (("x", done),)
    assert overdue([link], 1) == [(link, 11)]


@pytest.mark.parametrize("state", ["barred", "retiring"])
def test_nothing_is_fetched_from_a_worker_that_gives_its_work_back_already(link: Link, state: str) -> None:
    give(link, 20, MILLISECOND, ran=5 * MILLISECOND)
    setattr(link, state, True)
    assert overdue([link], 1) == []
