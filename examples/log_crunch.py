"""Crunch a folder of access logs: count answers, bytes and errors by address, with corrupt files put into quarantine.

The logs are generated, so what must come out is known. Some files are cut off in the middle of their compressed data: reading
them fails, each alone. A branch with the trigger `any_failed` names them, moves them out of the way and says why, while the
summary, with the trigger `any_successful`, is made of the files that can be read. On a day without corrupt files the
quarantine branch does not run at all.
"""

import argparse
import gzip
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mpflow import Flow, Parameter, task
from mpflow.executors import get_executor
from mpflow.triggers import any_failed, any_successful

PATHS = ("/", "/index.html", "/login", "/search", "/cart", "/api/items", "/favicon.ico")
CODES = (200, 200, 200, 200, 304, 404, 500)


def generate(folder, files, lines, corrupt, seed=11):
    """Write compressed logs into `folder`, some cut off; return the counts of those that are whole, and the names of the others."""
    chance = random.Random(seed)
    broken = set(chance.sample(range(files), corrupt))
    truth = Counter()
    names = []
    for number in range(files):
        text, counts = [], Counter()
        for _ in range(lines):
            path, code, size = chance.choice(PATHS), chance.choice(CODES), chance.randrange(200, 20_000)
            address = f"10.0.{chance.randrange(4)}.{chance.randrange(256)}"
            text.append(f'{address} - - "GET {path} HTTP/1.1" {code} {size}\n')
            counts.update({("lines", "all"): 1, ("code", code): 1, ("path", path): 1, ("bytes", path): size})
        file = folder / f"access-{number:03}.log.gz"
        data = gzip.compress("".join(text).encode(), mtime=0)
        if number in broken:
            file.write_bytes(data[: len(data) // 2])
            names.append(file.name)
        else:
            file.write_bytes(data)
            truth.update(counts)
    return truth, names


@task
def list_logs(folder):
    return sorted(Path(folder).glob("*.log.gz"))


@task
def crunch(file):
    """Count one file, line by line."""
    counts = Counter()
    with gzip.open(file, "rt") as lines:
        for line in lines:
            request, _, rest = line.partition('"')[2].partition('"')
            path = request.split()[1]
            code, size = rest.split()
            counts.update({("lines", "all"): 1, ("code", int(code)): 1, ("path", path): 1, ("bytes", path): int(size)})
    return counts


@task(trigger=any_successful)
def summarize(counted):
    """Add up what could be read; a file that could not arrives as the exception that it raised."""
    total = Counter()
    for counts in counted:
        if not isinstance(counts, BaseException):
            total.update(counts)
    return total


@task(trigger=any_failed)
def quarantine(files, counted, folder):
    """Move what could not be read out of the way."""
    apart = Path(folder) / "quarantine"
    apart.mkdir(exist_ok=True)
    moved = []
    for file, outcome in zip(files, counted, strict=True):
        if isinstance(outcome, BaseException):
            file.rename(apart / file.name)
            moved.append((file.name, f"{type(outcome).__name__}: {outcome}"))
    return moved


with Flow("log crunch") as flow:
    folder = Parameter("folder")
    logs = list_logs(folder)
    counted = crunch.map(logs)
    summary = summarize(counted)
    moved = quarantine(logs, counted, folder)
    flow.set_reference_tasks([summary])  # that files were put apart does not make the day a failure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--lines", type=int, default=5_000, help="lines of one file")
    parser.add_argument("--corrupt", type=int, default=3)
    parser.add_argument("--executor", default="processes", help="sync, threads or processes (default)")
    options = parser.parse_args()
    executor = get_executor(options.executor)
    with tempfile.TemporaryDirectory() as name:
        truth, broken = generate(Path(name), options.files, options.lines, options.corrupt)
        for day in ("first run", "again, without what is in quarantine"):
            state = flow.run(folder=name, executor=executor)
            if not state.is_successful():
                sys.exit(f"the flow ended {state!r}")
            total, apart = state.result[summary].result, state.result[moved]
            print(f"{day}: {len(state.result[counted].map_states)} files, {total['lines', 'all']} lines counted")
            print(f"  {total['code', 500]} answers 500, {total['code', 404]} answers 404")
            print(f"  quarantine: {type(apart).__name__}")
            for file, why in apart.result if apart.is_successful() else ():
                print(f"    {file}  {why}")
            if total != truth:
                sys.exit("the counts are not those that were generated")
            if apart.is_successful() and [file for file, _ in apart.result] != broken:
                sys.exit("other files than the corrupt ones were put apart")
    print("the counts are those that were generated")


if __name__ == "__main__":
    main()
