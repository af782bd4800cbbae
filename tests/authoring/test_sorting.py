from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpflow.authoring.live_set import LiveSet
from mpflow.authoring.sorting import cycle_among, topological

GRAPHS = st.integers(1, 8).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=4), min_size=n, max_size=n)
)


@given(GRAPHS)
def test_every_order_is_an_order_and_every_cycle_a_cycle(upstream):
    nodes = range(len(upstream))
    cycle = cycle_among(nodes, upstream.__getitem__)
    if cycle:
        assert cycle[0] == cycle[-1]
        for before, after in pairwise(cycle):
            assert before in upstream[after]
        with pytest.raises(ValueError, match="cycle"):
            topological(nodes, upstream.__getitem__)
    else:
        order = topological(nodes, upstream.__getitem__)
        place = {node: i for i, node in enumerate(order)}
        assert sorted(order) == list(nodes)
        assert all(place[up] < place[node] for node in nodes for up in upstream[node])


def test_what_was_not_asked_for_is_left_out():
    assert topological([2, 1], {2: [0, 1], 1: [0]}.__getitem__) == [1, 2]


def test_a_live_set_counts_changes():
    live = LiveSet([1, 2, 3])
    changes = [
        lambda: live.add(4),
        lambda: live.discard(9),
        lambda: live.remove(4),
        live.pop,
        lambda: live.update([7, 8]),
        lambda: live.difference_update([7]),
        lambda: live.intersection_update([8, 1]),
        lambda: live.symmetric_difference_update([5]),
        live.clear,
    ]
    for count, change in enumerate(changes, 1):
        change()
        assert live.changes == count
    live |= {1, 2}
    live &= {1}
    live ^= {2}
    live -= {2}
    assert live == {1}
    assert live.changes == len(changes) + 4
