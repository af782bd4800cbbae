from __future__ import annotations

from mpflow._context import context
from mpflow.authoring.decorators import defaults_from_attrs, flatten, mapped, tags, unmapped
from mpflow.authoring.graph import Graph
from mpflow.authoring.task import Task


class Sender(Task):
    def __init__(self, to=None, subject=None, **options):
        self.to, self.subject = to, subject
        super().__init__(**options)

    @defaults_from_attrs("to", "subject")
    def run(self, text, to=None, subject=None):
        """Send."""
        return text, to, subject


def test_defaults_come_from_attributes():
    t = Sender(to="a", subject="b")
    assert t.run("x") == ("x", "a", "b")
    assert t.run(text="x", subject="c") == ("x", "a", "c")
    assert Sender.run.__doc__ == "Send."
    with Graph("f") as g:
        u = t("x", to="d")
    assert g.constants[u] == {"text": "x", "to": "d"}
    assert u.run(**g.constants[u]) == ("x", "d", "b")


def test_tags_nest_and_end():
    with tags("a", "b"):
        assert context.tags == {"a", "b"}
        with tags("c"):
            assert context.tags == {"a", "b", "c"}
        assert context.tags == {"a", "b"}
    assert "tags" not in context


def test_marks_nest():
    assert flatten(unmapped(3)).annotations == {"flattened": True, "mapped": False}
    assert flatten(unmapped(3)).value == 3
    assert repr(mapped(3)) == "mapped(3)"
