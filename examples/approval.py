"""New prices for a shop: prepared at night, kept in a run store, published into the shop's database when somebody has agreed.

    python examples/approval.py                # prepares; then it waits, and the process ends
    python examples/approval.py --approve      # perhaps days later, perhaps after a crash: publishes

The command line does the same, and finds the run by itself: `mpflow run examples/approval.py`, then
`mpflow resume last --approve approve`.

The shop's database is made on the spot. Each department's prices are prepared by a task of its own; as SQLite takes one writer at a
time, each of them asks for the resource `db`, of which the run has one. What is published is known, so it is checked.
"""

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from mpflow import Flow, Parameter, task, unmapped
from mpflow.engine.state import Paused, Resume
from mpflow.triggers import manual_only

DEPARTMENTS = {"garden": 3, "kitchen": 2, "toys": 5}
"""By how many percent each department's prices go up."""

PRODUCTS = 40
"""Products of each department."""


def open_shop(path):
    """The shop's database, with its products, made where there is none yet."""
    shop = sqlite3.connect(path, timeout=30)
    with shop:
        shop.execute("CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, department TEXT, cents INTEGER)")
        shop.execute("CREATE TABLE IF NOT EXISTS prepared (id INTEGER PRIMARY KEY, cents INTEGER)")
        shop.execute("CREATE TABLE IF NOT EXISTS published (id INTEGER PRIMARY KEY, cents INTEGER)")
        rows = [
            (number * PRODUCTS + each, name, 1000 + 10 * each)
            for number, name in enumerate(DEPARTMENTS)
            for each in range(PRODUCTS)
        ]
        shop.executemany("INSERT OR IGNORE INTO products VALUES (?, ?, ?)", rows)
    return shop


@task
def departments():
    return list(DEPARTMENTS)


@task(resources={"db": 1})
def prepare(database, department):
    """Work out a department's new prices. Done twice, it leaves the same rows."""
    with closing(open_shop(database)) as shop, shop:
        rows = [
            (number, round(cents * (100 + DEPARTMENTS[department]) / 100))
            for number, cents in shop.execute("SELECT id, cents FROM products WHERE department = ?", (department,))
        ]
        shop.executemany("INSERT OR REPLACE INTO prepared VALUES (?, ?)", rows)
    return {"department": department, "rows": len(rows), "cents": sum(cents for _, cents in rows)}


@task(trigger=manual_only)
def approve(prepared):
    """Waits until somebody lets it run."""
    return prepared


@task(resources={"db": 1})
def publish(database, prepared):
    """Take all prices over at once, or none."""
    with closing(open_shop(database)) as shop, shop:
        shop.execute("INSERT OR REPLACE INTO published SELECT id, cents FROM prepared")
        (count, cents) = shop.execute("SELECT count(*), sum(cents) FROM published").fetchone()
    assert count == sum(each["rows"] for each in prepared)
    return {"rows": count, "cents": cents}


with Flow("approval") as flow:
    database = Parameter("database", default="shop.db")
    prepared = prepare.map(unmapped(database), departments())
    approved = approve(prepared)
    published = publish(database, approved)


def expected():
    """The rows that must be there in the end, worked out without a flow."""
    cents = [
        round((1000 + 10 * each) * (100 + percent) / 100)
        for percent in DEPARTMENTS.values()
        for each in range(PRODUCTS)
    ]
    return {"rows": len(cents), "cents": sum(cents)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="shop.db", type=Path, help="the shop's database (default: shop.db)")
    parser.add_argument("--store", default="runs.db", help="the file that keeps runs (default: runs.db)")
    parser.add_argument("--run", default="prices", help="the run's id (default: prices)")
    parser.add_argument("--approve", action="store_true", help="agree with what was prepared, and publish it")
    parser.add_argument("--executor", default="processes", help="sync, threads or processes (default)")
    wanted = parser.parse_args()
    state = flow.run(
        database=str(wanted.database),
        executor=wanted.executor,
        limits={"db": 1},
        store=wanted.store,
        run_id=wanted.run,
        resume=True,
        task_states={approved: Resume()} if wanted.approve else {},
    )
    for each in state.result[prepared].result or ():
        print(f"prepared: {each['department']:8} {each['rows']} prices, {each['cents'] / 100:.2f} in all")
    if isinstance(state.result[approved], Paused):
        print("waiting for approval; nothing is published. Run this again with --approve")
        return 3
    if not state.is_successful():
        print(state)
        return 1
    found = state.result[published].result
    print(f"published: {found['rows']} prices, {found['cents'] / 100:.2f} in all")
    if found != expected():
        print(f"that should have been {expected()}")
        return 1
    print("the rows are those that were worked out beforehand")
    return 0


if __name__ == "__main__":
    sys.exit(main())
