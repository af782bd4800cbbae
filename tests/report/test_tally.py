from __future__ import annotations

from datetime import datetime, timezone

from mpflow.engine.messages import AttemptsEnded, Begin, Measured, Restored, SlotsChanged
from mpflow.engine.plan import Link, Plan, TaskSpec
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.state import Cached, Failed, Looped, Mapped, Paused, Retrying, Skipped, Success
from mpflow.report.frame import Head, chosen, frame, plain_line
from mpflow.report.tally import Row, Snapshot, Tally
from mpflow.triggers import all_finished, some_successful

HEAD = Head(flow="mc", run="brisk-otter (7f3a)", where="processes ×8")


class Run:
    """A scheduler with a tally that hears of what settles, on a clock of the test's."""

    def __init__(self, *specs: TaskSpec, slots: int = 4, workers: int = 2, given: tuple[Restored, ...] = ()) -> None:
        plan = Plan(specs)
        self.scheduler = Scheduler(plan)
        reused = {event.node: 1 for event in given}
        self.tally = Tally(plan, self.scheduler, workers=workers, began=100.0, reused=reused)
        self.now = 100.0
        self.tell(*given, SlotsChanged(slots), Begin())

    def tell(self, *events: object) -> None:
        for command in self.scheduler.handle(events, self.now):
            if type(command).__name__ == "Settle":
                self.tally.settled(command.units)

    def end(self, *outcomes: tuple[int, object]) -> None:
        numbers = [
            1 if not self.scheduler._units.past.get(uid) else self.scheduler._units.past[uid].serial
            for uid, _ in outcomes
        ]
        self.tell(AttemptsEnded([uid for uid, _ in outcomes], numbers, [state for _, state in outcomes]))

    def rows(self, later: float = 0.0) -> dict[str, Row]:
        self.now += later
        self.seen = self.tally.count(self.now)
        return {row.name: row for row in self.seen.rows}


def spec(name: str, *upstream: int, mapped: bool = False, **options: object) -> TaskSpec:
    links = tuple(Link(node, "x", mapped) for node in upstream)
    return TaskSpec(name, name, links, mapped=mapped, **options)


def test_a_map_is_one_row():
    run = Run(spec("seeds"), spec("simulate", 0, mapped=True), spec("total", 1))
    rows = run.rows()
    assert (rows["seeds"].running, rows["seeds"].total) == (1, 1)
    assert (rows["simulate"].total, rows["simulate"].waits_for) == (None, "waiting for seeds")
    assert rows["total"].waits_for == "waiting for simulate"
    run.end((0, b"pickle"))
    run.tell(Measured(1, 10))
    rows = run.rows(2.0)
    assert (rows["seeds"].over, rows["seeds"].seconds) == (True, 2.0)
    row = rows["simulate"]
    # Four are out, and there are two workers.
    assert (row.total, row.done, row.running, row.ready) == (10, 0, 2, 8)
    run.end((3, b"1"), (4, Failed("no")), (5, Skipped("none")))
    row = run.rows(1.0)["simulate"]
    assert (row.done, row.failed, row.skipped, row.running) == (3, 1, 1, 2)
    (failure,) = run.tally.failures()
    assert (failure.name, failure.index, failure.state) == ("simulate", 1, Failed("no"))
    assert run.tally.failures() == []


def test_many_of_a_name_are_one_row():
    run = Run(*(spec("same") for _ in range(20)), spec("other"), *(spec("same") for _ in range(3)))
    run.end((0, b"1"), (1, Success()))
    rows = run.rows()
    assert list(rows) == ["same", "other"]
    assert (rows["same"].total, rows["same"].done) == (23, 2)


def test_tried_again_paused_and_looped():
    run = Run(
        spec("retried"), spec("paused"), spec("loops"), spec("cached"), spec("refused", 0, trigger=some_successful(0.5))
    )
    run.end(
        (0, Retrying("wait", start_time=datetime.fromtimestamp(200, timezone.utc))),
        (1, Paused("ask")),
        (2, Looped("on")),
        (3, Cached()),
    )
    rows = run.rows()
    assert (rows["retried"].retrying, rows["retried"].done) == (1, 0)
    assert (rows["paused"].paused, rows["paused"].over) == (1, False)
    assert rows["loops"].round == 2
    assert (rows["cached"].cached, rows["cached"].over) == (1, True)
    run.now = 300.0
    run.tell()
    run.end((0, Failed("again")))
    rows = run.rows()
    assert (rows["retried"].failed, rows["retried"].retrying) == (1, 0)
    assert (rows["refused"].refused, rows["refused"].failed) == (1, 0)
    assert [ended.name for ended in run.tally.failures()] == ["retried"]


def test_what_was_done_before_is_told_apart():
    run = Run(spec("first"), spec("second", 0), given=(Restored(0, -1, Success()),))
    rows = run.rows()
    assert (rows["first"].done, rows["first"].reused, rows["first"].seconds) == (1, 1, None)
    assert (rows["second"].reused, rows["second"].running) == (0, 1)


def test_a_map_that_was_done_in_part():
    half = Mapped("", map_states=[Success(), None], n_map_states=2)
    run = Run(
        spec("xs"), spec("each", 0, mapped=True), given=(Restored(0, -1, Success(result=[1, 2])), Restored(1, -1, half))
    )
    run.tell(Measured(1, 2))
    row = run.rows()["each"]
    assert (row.total, row.done, row.reused, row.running) == (2, 1, 1, 1)


def test_estimates():
    run = Run(*(spec("work") for _ in range(10)), slots=2, workers=2)
    assert run.rows()["work"].eta is None
    run.rows(1.0)
    run.end((0, b"1"), (1, b"1"))
    row = run.rows(0.0)["work"]
    # Two ended in a second of two workers, two more have just begun: taken for half done.
    assert row.eta is not None
    assert 1.5 < row.eta < 4.0
    assert run.seen.eta == row.eta


def test_tasks_never_seen_are_taken_to_last_as_long_as_the_others():
    run = Run(*(spec(f"t{number}") for number in range(8)), slots=1, workers=1)
    for node in range(6):
        if 0 < node < 5:
            assert run.seen.eta is None
        run.rows(1.0)
        run.end((node, b"1"))
        run.rows()
    assert run.seen.rough
    assert run.seen.eta == 2.0
    # The one at work takes longer than all before: only the other one is counted.
    run.rows(5.0)
    assert run.seen.eta == 1.0


def test_estimates_from_earlier_runs():
    run = Run(spec("long"), spec("after", 0), workers=1)
    run.tally.learn({"long": 60.0, "after": 30.0, "gone": 5.0})
    rows = run.rows(20.0)
    assert rows["long"].eta == 40.0
    assert run.seen.eta == 70.0
    assert not run.seen.rough


def test_what_a_trigger_waits_for():
    run = Run(
        spec("xs"), spec("sum", 0, trigger=some_successful(at_least=0.9)), spec("always", 0, trigger=all_finished)
    )
    rows = run.rows()
    assert rows["sum"].waits_for == "waiting (some_successful ≥ 0.9: 0/1)"
    assert rows["always"].waits_for == "waiting (all_finished: 0/1)"


ROWS = [
    Row(name="seeds", total=1, done=1, seconds=0.1),
    Row(name="simulate", total=500, done=412, failed=6, retrying=2, running=8, eta=72.0, seconds=30.0),
    Row(name="summarize", total=1, done=0, waits_for="waiting (some_successful ≥ 0.9: 406/450)"),
]


def texts(rows: list[Row], **options: object) -> list[str]:
    seen = Snapshot(rows=rows, seconds=63.0, eta=72.0)
    asked = {"width": 100, "height": 20, **options}
    return [text.plain for text in frame(HEAD, seen, **asked)]


def test_the_picture():
    assert texts(ROWS, memory="rss 3.1 GB/16.0 GB") == [
        "mc · run brisk-otter (7f3a) · processes ×8 · 1m03s · eta 1m12s · rss 3.1 GB/16.0 GB",
        " ✔ seeds         1/1  0.1s",
        " ▶ simulate  412/500  ━━━━━━━━━━━━━━━━  6 ✗  2 ↻  eta 1m12s  8 running",
        " · summarize     0/1  waiting (some_successful ≥ 0.9: 406/450)",
    ]


def test_a_narrow_screen():
    assert texts(ROWS, width=40) == [
        "mc · run brisk-otter (7f3a) · processe…",
        " ✔ seeds         1/1  0.1s",
        " ▶ simulate  412/500  6 ✗  2 ↻  eta 1m…",
        " · summarize     0/1  waiting (some_su…",
    ]


def test_the_end():
    over = [Row(name="a", total=2, done=2, failed=1, seconds=3.0), Row(name="b", total=1, done=1, refused=1)]
    assert texts(over, word="FAILED") == [
        "FAILED mc · run brisk-otter (7f3a) · processes ×8 · 1m03s",
        " ✗ a 2/2  1 ✗  3.0s",
        " · b 1/1  1 trigger failed",
    ]


def test_more_tasks_than_lines():
    many = [Row(name=f"t{number}", total=1, done=int(number < 20)) for number in range(40)]
    many[25] = Row(name="t25", total=1, done=0, running=1)
    many[3] = Row(name="t3", total=1, done=1, failed=1)
    shown, left = chosen(many, 5)
    assert [row.name for row in shown] == ["t25", "t3", "t20", "t21"]
    assert len(left) == 36
    assert texts(many, height=6)[-1] == " … and 36 more tasks: 19 done, 17 to come"
    assert len(texts(many, height=6)) == 6


def test_a_plain_line():
    seen = Snapshot(rows=ROWS, seconds=63.0, eta=72.0)
    assert plain_line(HEAD, seen) == (
        "mc: 413 of 502 done, 6 failed, 2 retrying, 8 running, eta 1m12s: simulate 412/500"
    )
