from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from mpflow._context import context
from mpflow.authoring.graph import Graph
from mpflow.authoring.parameter import DateTimeParameter, Parameter
from mpflow.engine.signals import FAIL


def test_without_a_default_it_is_required():
    assert Parameter("p").required
    assert not Parameter("p", default=None).required
    assert not Parameter("p", required=False).required
    assert Parameter("p", default=3, required=True).required
    assert (Parameter("p").default, Parameter("p", default=3).default) == (None, 3)
    assert repr(Parameter("p")) == "<Parameter: p>"


def test_its_slug_is_its_name():
    p = Parameter("p", tags=["t"])
    assert (p.name, p.slug, p.tags) == ("p", "p", {"t"})
    q = p.copy("q", default=4)
    assert (q.name, q.slug, q.tags, q.default) == ("q", "q", {"t"}, 4)


def test_calling_it_adds_itself():
    g = Graph("f")
    with g:
        p = Parameter("p")
        assert p() is p
    assert g.parameters() == {p}
    assert Parameter("q")(flow=g).name == "q"


def test_its_value_comes_from_the_context():
    p = Parameter("p", default=3)
    assert p.run() == 3
    with context(parameters={"p": 4}):
        assert p.run() == 4
    with pytest.raises(FAIL, match=r"flow\.run\(q=\.\.\.\)"):
        Parameter("q").run()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2020-01-02", datetime(2020, 1, 2, tzinfo=timezone.utc)),
        ("2020-01-02T03:04:05", datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("2020-01-02T03:04:05Z", datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("2020-01-02 03:04:05+02:00", datetime(2020, 1, 2, 1, 4, 5, tzinfo=timezone.utc)),
        (datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=1))), datetime(2020, 1, 1, 23, tzinfo=timezone.utc)),
        (datetime(2020, 1, 2), datetime(2020, 1, 2, tzinfo=timezone.utc)),  # noqa: DTZ001 - naive on purpose
        (None, None),
    ],
)
def test_times_are_parsed(given, expected):
    with context(parameters={"d": given}):
        value = DateTimeParameter("d").run()
    assert value == expected
    assert value is None or value.tzinfo is not None


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match="garbage"):
        DateTimeParameter("d").value_from({"d": "garbage"})
    with pytest.raises(TypeError, match="5"):
        DateTimeParameter("d").value_from({"d": 5})
    assert DateTimeParameter("d").required
    assert DateTimeParameter("d", default="2020-01-01", required=False).run().year == 2020
