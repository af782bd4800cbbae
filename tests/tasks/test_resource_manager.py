from __future__ import annotations

import pytest

from mpflow._context import context
from mpflow.authoring.decorators import task
from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.engine.signals import SKIP, TRIGGERFAIL
from mpflow.engine.state import Failed, Running, Skipped, Success
from mpflow.tasks.core.resource_manager import ResourceCleanupTask, ResourceInitTask, ResourceSetupTask
from mpflow.tasks.resource_manager import ResourceManager, resource_cleanup_trigger, resource_manager


@resource_manager
class Cluster:
    def __init__(self, size, kind="small"):
        self.size, self.kind = size, kind

    def setup(self):
        return f"{self.size} {self.kind}"

    def cleanup(self, resource):
        self.cleaned = resource


@task
def use(r, x=1):
    return r, x


def only(graph, kind):
    (found,) = graph.get_tasks(task_type=kind)
    return found


def test_tasks_of_the_block_run_between_setup_and_cleanup():
    with Graph("f") as g:
        size = use(3)
        block = Cluster(size, kind="big")
        with block as cluster:
            assert context.resource is block
            a = use(cluster)
            b = use(2)
            c = use(b)
        d = use(a)
    init, setup, cleanup = (only(g, kind) for kind in (ResourceInitTask, ResourceSetupTask, ResourceCleanupTask))
    assert cluster is setup
    assert context.get("resource") is None
    assert [t.name for t in (init, setup, cleanup)] == ["Cluster", "Cluster.setup", "Cluster.cleanup"]
    assert Edge(size, init, "size") in g.edges
    assert g.constants[init] == {"kind": "big"}
    assert {Edge(init, setup, "mgr"), Edge(init, cleanup, "mgr"), Edge(setup, cleanup, "resource")} <= g.edges
    assert g.upstream_tasks(a) == {setup}
    assert g.upstream_tasks(b) == {setup}
    assert g.upstream_tasks(c) == {b}
    assert g.upstream_tasks(cleanup) == {init, setup, a, c}
    assert g.upstream_tasks(d) == {a}
    assert g.reference_tasks() == {c, d}


def test_a_manager_without_setup():
    @resource_manager(name="mine", init_task_kwargs={"tags": ["i"]}, cleanup_task_kwargs={"name": "done"})
    class Plain:
        def cleanup(self, resource):
            pass

    assert isinstance(Plain, ResourceManager)
    with Graph("f") as g:
        with Plain() as nothing:
            t = use(1)
        assert nothing is None
    init, cleanup = only(g, ResourceInitTask), only(g, ResourceCleanupTask)
    assert (init.name, init.tags, cleanup.name) == ("mine", {"i"}, "done")
    assert g.upstream_tasks(t) == set()
    assert g.upstream_tasks(cleanup) == {init, t}


def test_bodies():
    manager = Cluster.resource_class(2)
    assert ResourceSetupTask().run(manager) == "2 small"
    ResourceCleanupTask().run(manager, "r")
    assert manager.cleaned == "r"
    made = ResourceInitTask(Cluster.resource_class)
    assert made.run(5).size == 5
    assert made.copy().run(6).size == 6


def test_misuse():
    with pytest.raises(ValueError, match="outside a flow"):
        Cluster(1)
    g = Graph("f")
    block = Cluster(1, flow=g)
    with pytest.raises(ValueError, match=r"'f'.*'g'"):
        block.add_task(use, Graph("g"))
    with Graph("h"), pytest.raises(TypeError, match="'size'"):
        Cluster()


def test_cleanup_happens_if_there_is_something_to_clean_up():
    class Key:
        def __init__(self, key):
            self.key = key

    def ask(mgr, resource, used):
        return resource_cleanup_trigger({Key("mgr"): mgr, Key("resource"): resource, Key(None): used})

    assert ask(Success(), Success(), Failed())
    assert ask(Success(), Success(), Skipped())
    for mgr, resource in [(Failed(), Failed()), (Skipped(), Skipped()), (Success(), Failed()), (Success(), Skipped())]:
        with pytest.raises(SKIP):
            ask(mgr, resource, Success())
    with pytest.raises(TRIGGERFAIL):
        ask(Success(), Success(), Running())
