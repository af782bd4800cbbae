"""What a notebook shows of a flow and of a state."""

from __future__ import annotations

from mpflow import Flow, task
from mpflow.engine.state import Mapped, Success


@task(name="a <b>")
def each(x: int) -> int:
    if x == 2:
        raise ValueError("no & no")
    return x


def test_a_flow_is_its_tasks_and_what_they_wait_for() -> None:
    with Flow("f<g>") as flow:
        each(each(1))
    html = flow._repr_html_()
    assert html.startswith("<pre>flow &#x27;f&lt;g&gt;&#x27;")
    assert html.count("a &lt;b&gt;") >= 2
    assert "<b>" not in html


def test_a_state_is_a_table_of_its_parts() -> None:
    with Flow("f") as flow:
        mapped = each.map([1, 2])
    state = flow.run()
    html = state._repr_html_()
    assert "<b>Failed</b>" in html
    assert "a &lt;b&gt;" in html
    children = state.result[mapped]._repr_html_()
    assert "[1]" in children
    assert "ValueError: no &amp; no" in children


def test_a_wide_map_is_cut_short() -> None:
    wide = Mapped(map_states=[Success() for _ in range(150)], n_map_states=150)._repr_html_()
    assert wide.count("<tr>") == 101
    assert "and 50 more" in wide
