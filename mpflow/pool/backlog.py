"""The jobs that no worker holds yet, and which of them goes where.

Owns how deep the queues are: some milliseconds of measured work for each worker, and what is not known to be quick alone. Sends
nothing; whoever asks gets the orders that are to be sent, and finds them in the queues of their links.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from mpflow.pool.link import Link, Order

BUDGET_NS: Final = 40_000_000
"""Measured work to keep queued at one worker; a job nobody has measured counts as all of it."""
DEEPEST: Final = 256
"""Most jobs queued at one worker."""
OVERHEAD_NS: Final = 5_000
"""What a worker spends on a job besides the body."""
LARGE: Final = 256 * 1024
"""A job with more bytes than this goes only to a worker that is waiting to read."""
_BLIND: Final = 16
"""Most jobs queued where nobody knows yet how long they take, each of them waiting for the one before."""

Batches = dict[int, tuple[Link, list[Order]]]
"""By number of a link: the orders that were put into its queue and are to be sent."""


class Backlog:
    """Orders in line for workers, and what is known of how long bodies take."""

    def __init__(self, size: int, max_tasks: int) -> None:
        self.orders: deque[Order] = deque()
        self._size = size
        self._max_tasks = max_tasks
        self._costs: dict[int, int] = {}
        """By body: ns that a job takes, as a running average."""
        self.bulky: set[int] = set()
        """Bodies that have returned what is too large for the pipe."""
        self._mean_ns = 0
        """The same of all jobs; 0 while none has been measured."""

    @property
    def capacity(self) -> int:
        """How many jobs are wanted at a time, so that no worker runs dry."""
        depth = max(2, min(DEEPEST, BUDGET_NS // ((self._mean_ns or BUDGET_NS) + OVERHEAD_NS)))
        return self._size * depth * 2

    def forget(self, kept: Collection[int]) -> None:
        """Drop every order, and what is known of bodies other than these."""
        self.orders.clear()
        self._costs = {known: cost for known, cost in self._costs.items() if known in kept}
        self.bulky.intersection_update(kept)

    def measured(self, body: int, spent: int, number: int) -> None:
        """Learn from so many jobs of one body, which took so many ns together."""
        taken = spent // number + OVERHEAD_NS
        before = self._costs.get(body, 0)
        self._costs[body] = (before * 3 + taken * number) // (3 + number) if before else taken
        known = self._mean_ns or taken
        self._mean_ns = (known * 7 + taken * number) // (7 + number)

    def open_to_work(self, link: Link) -> bool:
        """Whether a worker may be given anything now."""
        return not (
            link.barred
            or link.retiring
            or link.condemned
            or link.clogged
            or (self._max_tasks and link.taken >= self._max_tasks)
            or len(link.queue) >= DEEPEST
        )

    def share_out(self, all_links: Iterable[Link]) -> Batches:
        """Move orders from the backlog to the queues of links, by number of which they are returned to be sent."""
        backlog = self.orders
        batches: Batches = {}
        links = [link for link in all_links if self.open_to_work(link)]
        if backlog and backlog[0].work.body in self.bulky:
            # Among equals whoever has memory to fill again: new pages cost most, and what lies idle elsewhere adds up.
            links.sort(key=lambda link: not link.spare)
        while backlog and links:
            link = links[0]
            for other in links:
                if other.load < link.load:
                    link = other
            # Several at a time, but not so many that the others would go without.
            most = -(-len(backlog) // len(links))
            taken = self.take(link, most)
            if not taken:
                links.remove(link)
                continue
            batch = batches.setdefault(link.number, (link, []))[1]
            batch += taken
            if taken[-1].size > LARGE or (self._max_tasks and link.taken >= self._max_tasks):
                links.remove(link)
        return batches

    def take_one(self, link: Link) -> Order:
        """Move the first order to the queue of a link that has nothing to do."""
        order = self.orders.popleft()
        order.cost = self._costs.get(order.work.body, 0) or BUDGET_NS
        order.link = link.number
        link.queue.append(order)
        link.load += order.cost
        link.taken += 1
        return order

    def take(self, link: Link, most: int) -> list[Order]:
        """Move up to `most` orders of one body from the backlog to a link, as far as it has room."""
        backlog, queue = self.orders, link.queue
        body = backlog[0].work.body
        cost = self._costs.get(body, 0)
        count = len(queue)
        if not cost:
            # Nobody knows how long it takes, so nothing may have to wait behind it.
            cost, room = BUDGET_NS, 1 - count
        else:
            room = min(DEEPEST - count, max(2 - count, (BUDGET_NS - link.load) // cost))
        if self._max_tasks:
            room = min(room, self._max_tasks - link.taken)
        taken: list[Order] = []
        for _ in range(min(room, most)):
            order = backlog[0] if backlog else None
            if order is None or order.work.body != body or (order.size > LARGE and (queue or taken)):
                break
            backlog.popleft()
            order.cost = cost
            order.link = link.number
            taken.append(order)
        queue.extend(taken)
        link.load += cost * len(taken)
        link.taken += len(taken)
        return taken

    def place_behind(self, order: Order, links: Mapping[int, Link], batches: Batches) -> bool:
        """Queue an order where what it follows is, if that is one worker and it has room."""
        number = order.after[0][1].link
        link = links.get(number)
        for _, before in order.after:
            # A worker keeps nothing large for those that follow, and would only hand them back; what is made of something large
            # may well be large itself.
            if before.link != number or before.apart or before.work.body in self.bulky:
                link = None
        if link is None or order.size > LARGE or not self.open_to_work(link):
            return False
        queue = link.queue
        cost = self._costs.get(order.work.body, 0)
        if cost:
            if len(queue) > 1 and link.load + cost > BUDGET_NS:
                return False
        else:
            # Nobody knows how long it takes, so it may wait only behind what it would wait for anywhere.
            if len(queue) >= _BLIND or (queue and queue[-1] is not order.after[-1][1]):
                return False
            cost = OVERHEAD_NS
        order.cost = cost
        order.link = link.number
        queue.append(order)
        link.load += cost
        link.taken += 1
        batches.setdefault(link.number, (link, []))[1].append(order)
        return True
