"""When the pool looks at its workers by itself, and when these may keep reports to themselves: queues in, moments out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mpflow.pool.link import Link, Order, Work
from mpflow.pool.vigil import Vigil
from mpflow.worker.protocol import BEGUN, QUIET

MILLISECOND = 1_000_000


@pytest.fixture
def links() -> Iterator[list[Link]]:
    made = [Link(1), Link(2)]
    yield made
    for link in made:
        link.close()


def give(link: Link, jobs: int, cost: int) -> None:
    for _ in range(jobs):
        link.last_seq += 1
        order = Order(link.last_seq, Work(body=1, spec=2), "slug", -1, 1, (), None, 0)
        order.seq, order.cost = link.last_seq, cost
        link.queue.append(order)
        link.load += cost
    link.cell[BEGUN] = link.queue[0].seq


def test_with_nothing_queued_behind_anything_it_waits_for_news_alone(links: list[Link]) -> None:
    give(links[0], 1, 5 * MILLISECOND)
    assert Vigil().patience(links, False, None) is None


def test_a_deadline_bounds_the_wait(links: list[Link]) -> None:
    patience = Vigil().patience(links, False, time.monotonic() + 3600)
    assert patience is not None
    assert 3000 < patience <= 3600


def test_where_a_queue_is_deep_it_looks_soon_and_then_ever_more_rarely(links: list[Link]) -> None:
    give(links[0], 3, 5 * MILLISECOND)
    vigil = Vigil()
    pauses = []
    now = time.monotonic()
    for _ in range(30):
        patience = vigil.patience(links, False, None)
        assert patience is not None
        pauses.append(patience)
        assert vigil.due(now + 10)
        now = time.monotonic()
        vigil.looked(now, found=False)
    assert pauses[0] < 0.0011
    assert 0.04 < pauses[-1] <= 0.05
    vigil.looked(time.monotonic(), found=True)
    assert (vigil.patience(links, False, None) or 1.0) < 0.0011


def test_workers_that_have_enough_to_do_report_together(links: list[Link]) -> None:
    for link in links:
        give(link, 4, 5 * MILLISECOND)
    vigil = Vigil()
    before = time.monotonic_ns()
    vigil.patience(links, True, None)
    assert vigil.calm
    until = {link.cell[QUIET] for link in links}
    assert len(until) == 1
    assert before < until.pop() <= time.monotonic_ns() + 10 * MILLISECOND


@pytest.mark.parametrize("case", ["nothing more in line", "one has little to do"])
def test_where_somebody_may_wait_for_reports_they_come_at_once(links: list[Link], case: str) -> None:
    for link in links:
        give(link, 4, 5 * MILLISECOND)
    vigil = Vigil()
    vigil.patience(links, True, None)
    assert all(link.cell[QUIET] for link in links)
    if case == "one has little to do":
        links[0].load = MILLISECOND
    vigil.patience(links, case == "one has little to do", None)
    assert not vigil.calm
    assert [link.cell[QUIET] for link in links] == [0, 0]
