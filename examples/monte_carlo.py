"""Price an option by simulation: the same answer, to the last bit, for any number of workers.

Each task gets a child of one `numpy.random.SeedSequence`, so its numbers depend on its place alone and not on which worker
draws them, or when. A few tasks fail on purpose; the trigger `some_successful` lets the summary go on as long as enough of
them are there, and stops it when they are not.
"""

import argparse
import math
import sys

import numpy

from mpflow import Flow, Parameter, task, unmapped
from mpflow.executors import ProcessExecutor
from mpflow.triggers import some_successful

SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.03, 0.2, 1.0
NEEDED = 0.9


@task
def spawn(seed, tasks):
    """One independent source of random numbers for each task."""
    return numpy.random.SeedSequence(seed).spawn(tasks)


@task
def simulate(source, paths, lost):
    """Sum and sum of squares of what the option pays on so many paths."""
    if source.spawn_key[-1] in lost:
        raise ConnectionError("the market data did not come")
    normal = numpy.random.default_rng(source).standard_normal(paths)
    drift = (RATE - VOLATILITY**2 / 2) * YEARS
    price = SPOT * numpy.exp(drift + VOLATILITY * math.sqrt(YEARS) * normal)
    paid = math.exp(-RATE * YEARS) * numpy.maximum(price - STRIKE, 0.0)
    return paths, float(paid.sum()), float((paid**2).sum())


@task(trigger=some_successful(at_least=NEEDED))
def summarize(parts):
    """Mean, standard error, and how many parts it is made of; a part that failed arrives as its exception."""
    there = [part for part in parts if not isinstance(part, BaseException)]
    count = sum(part[0] for part in there)
    # The sums are taken in the order of the tasks, however they ended, so that rounding is the same too.
    mean = math.fsum(part[1] for part in there) / count
    variance = math.fsum(part[2] for part in there) / count - mean**2
    return mean, math.sqrt(variance / count), len(there)


with Flow("monte carlo") as flow:
    parts = simulate.map(
        spawn(Parameter("seed"), Parameter("tasks")),
        unmapped(Parameter("paths")),
        unmapped(Parameter("lost", default=())),
    )
    summary = summarize(parts)


def exact():
    """The Black-Scholes price that the simulation must come near."""
    spread = VOLATILITY * math.sqrt(YEARS)
    high = (math.log(SPOT / STRIKE) + (RATE + VOLATILITY**2 / 2) * YEARS) / spread
    below = [math.erfc(-point / math.sqrt(2)) / 2 for point in (high, high - spread)]
    return SPOT * below[0] - STRIKE * math.exp(-RATE * YEARS) * below[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--paths", type=int, default=200_000, help="paths of one task")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    sizes = {"tasks": options.tasks, "paths": options.paths, "seed": options.seed}
    few = tuple(range(0, options.tasks, 20))  # 5 %
    many = tuple(range(0, options.tasks, 5))  # 20 %

    answers = []
    for workers in options.workers:
        with ProcessExecutor(workers) as executor:
            state = flow.run(**sizes, lost=few, executor=executor)
            refused = flow.run(**sizes, lost=many, executor=executor)
        if not state.is_successful():
            sys.exit(f"the flow ended {state!r}: {state.result[summary].message}")
        answers.append(state.result[summary].result)
        mean, error, there = answers[-1]
        print(f"workers: {workers}  price {mean!r} ± {error:.4f}, from {there} of {options.tasks} tasks")
        if type(refused.result[summary]).__name__ != "TriggerFailed":
            sys.exit("the summary was made of too few parts")
    print(f"with {len(many)} tasks lost: {refused.result[summary].message}")
    if len(set(answers)) != 1:
        sys.exit("the answers differ")
    if abs(answers[0][0] - exact()) > 5 * answers[0][1]:
        sys.exit(f"the price is far from {exact():.4f}")
    print(f"all answers are equal; the exact price is {exact():.4f}")


if __name__ == "__main__":
    main()
