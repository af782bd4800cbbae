"""Search for the classifier that reads scikit-learn's handwritten digits best; kill the search, and it goes on where it was.

    pip install -e '.[examples]' && python examples/digits_search.py

1797 pictures of 8 × 8 points come with scikit-learn; nothing is downloaded. Each candidate is judged by cross-validation: one task for
each candidate and fold, all in one map. Each worker's numerical libraries use one thread, for there are as many workers as processors.
Every score is in the run store as soon as it is known: started again after `kill -9` or a power cut, the search scores only what it
had not scored yet. The best candidate is fitted anew and tried on pictures that took no part in the search.
"""

import argparse
import itertools
import sqlite3
import sys
from contextlib import closing
from statistics import mean

from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_info

from mpflow import Flow, Parameter, task, unmapped
from mpflow.executors import ProcessExecutor

GOOD = 0.96
"""What share of the pictures the winner has to read rightly."""

SEED = 7


def classifier(candidate):
    kind, *settings = candidate
    if kind == "neighbours":
        return KNeighborsClassifier(n_neighbors=settings[0], weights=settings[1])
    return SVC(C=settings[0], gamma=settings[1])


def halves():
    """Pictures to search with, and pictures to try the winner on."""
    digits = load_digits()
    return train_test_split(digits.data, digits.target, test_size=0.25, stratify=digits.target, random_state=SEED)


@task
def candidates():
    machines = itertools.product(["machine"], [0.1, 1, 10], [0.0001, 0.0005, 0.001, 0.005])
    neighbours = itertools.product(["neighbours"], [1, 3, 5, 7], ["uniform", "distance"])
    return [*machines, *neighbours]


@task
def pairs(candidates, folds):
    """Each candidate with each fold."""
    return list(itertools.product(candidates, range(folds)))


@task
def score(pair, folds):
    """Fit one candidate without one fold, and see how it reads that."""
    candidate, fold = pair
    pictures, _, digits, _ = halves()
    splits = StratifiedKFold(folds, shuffle=True, random_state=SEED).split(pictures, digits)
    learn, check = next(itertools.islice(splits, fold, None))
    model = classifier(candidate).fit(pictures[learn], digits[learn])
    threads = max((each["num_threads"] for each in threadpool_info()), default=1)
    return float(model.score(pictures[check], digits[check])), threads


@task
def best(candidates, scores, folds):
    """The candidate with the highest mean, the first of several."""
    values = [value for value, _ in scores]
    means = [mean(values[at : at + folds]) for at in range(0, len(values), folds)]
    top = max(range(len(means)), key=means.__getitem__)
    return candidates[top], means[top]


@task
def examine(found):
    """Fit the winner with all that the search had, and try it on the rest."""
    pictures, unseen, digits, truth = halves()
    return float(classifier(found[0]).fit(pictures, digits).score(unseen, truth))


with Flow("digits") as flow:
    folds = Parameter("folds", default=5)
    candidates_ = candidates()
    scores = score.map(pairs(candidates_, folds), unmapped(folds))
    winner = best(candidates_, scores, folds)
    accuracy = examine(winner)


def scored_before(store, run):
    """How many scores the store has of a run."""
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as runs:
            query = (
                "SELECT count(*) FROM units JOIN tasks USING (run, task) JOIN runs ON runs.number = units.run"
                " WHERE runs.id = ? AND tasks.name = 'score' AND idx >= 0 AND units.state = 'Success'"
            )
            return runs.execute(query, (run,)).fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="runs.db", help="the file that keeps runs (default: runs.db)")
    parser.add_argument("--run", default="digits", help="the run's id (default: digits)")
    parser.add_argument("--folds", type=int, default=5, help="folds of the cross-validation (default: 5)")
    parser.add_argument("--workers", type=int, default=None, help="worker processes (default: the usable processors)")
    wanted = parser.parse_args()
    before = scored_before(wanted.store, wanted.run)
    state = flow.run(
        folds=wanted.folds,
        executor=ProcessExecutor(wanted.workers, threads_per_task=1),
        store=wanted.store,
        run_id=wanted.run,
        resume=True,
    )
    if not state.is_successful():
        print(state)
        return 1
    found = state.result[scores].result
    print(f"scores: {len(found)}, {before} of them from before")
    print(f"threads of each worker's libraries: {max(threads for _, threads in found)}")
    candidate, in_search = state.result[winner].result
    print(f"winner: {candidate}, {in_search:.4f} in the search")
    print(f"accuracy on pictures it has never seen: {state.result[accuracy].result:.4f}")
    return 0 if state.result[accuracy].result >= GOOD else 1


if __name__ == "__main__":
    sys.exit(main())
