"""Find the vessels in scikit-image's picture of a retina: tiles as large arrays, put together into a map, written as a PNG.

    pip install -e '.[examples]' && python examples/retina_vessels.py

The picture is 1411 points wide and high and comes with scikit-image; nothing is downloaded. It is cut into tiles that overlap by as far
as the ridge filter looks, each tile is filtered in a worker, and the middles of the tiles are put together. Arrays of this size do not
go through the pipes to the workers but through shared memory, and each worker may occupy only so much memory. Then the whole picture
is filtered at once in this process, and the two maps are compared bit by bit.
"""

import argparse
import sys
import time
from math import sqrt

import numpy
from scipy import ndimage
from skimage import data, filters, io, morphology

from mpflow import Flow, Parameter, task, unmapped
from mpflow.executors import ProcessExecutor

WIDTHS = (2, 3, 4, 5, 6)
"""Half the widths of the vessels that are looked for, in points."""

REACH = 2 * (round(8 * max(WIDTHS) / sqrt(2)) + 1)
"""How far the filter looks: it differentiates twice, each time over eight standard deviations of a bell curve narrower by √2."""

BRIGHT, BORDER = 20, 25
"""From which value on a point belongs to the eye and not to the dark around it, and how far from the edge it is looked at."""

CERTAIN, POSSIBLE, SMALLEST = 0.97, 0.90, 150
"""Vessels are ridges among the strongest 3 %, with all that hangs together with them among the strongest 10 %, if large enough."""


def ridges(green):
    """How much each point looks like part of a dark line on bright ground."""
    return filters.sato(green, sigmas=WIDTHS, black_ridges=True, mode="reflect")


@task
def photograph():
    """Vessels show best in green."""
    return data.retina()[..., 1].astype(float) / 255


@task
def cut(green, size):
    """Tiles with their surroundings, and where they belong."""
    high, wide = green.shape
    pieces = []
    for top in range(0, high, size):
        for left in range(0, wide, size):
            # At the picture's own edge there are no surroundings, and the filter sees what it would see in the whole picture.
            above, beside = max(0, top - REACH), max(0, left - REACH)
            around = green[above : top + size + REACH, beside : left + size + REACH]
            pieces.append((numpy.ascontiguousarray(around), (top, left), (top - above, left - beside)))
    return pieces


@task
def filtered(piece, size):
    around, place, (above, beside) = piece
    return place, ridges(around)[above : above + size, beside : beside + size]


@task
def join(tiles, green):
    whole = numpy.empty_like(green)
    for (top, left), tile in tiles:
        whole[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return whole


@task
def vessels(strength, green):
    """Which points are vessels: lines that are clear somewhere and long enough, and not the edge of the eye."""
    eye = ndimage.binary_fill_holes(green * 255 > BRIGHT)
    seen = ndimage.distance_transform_edt(eye) > BORDER
    possible, certain = numpy.quantile(strength[seen], (POSSIBLE, CERTAIN))
    found = filters.apply_hysteresis_threshold(numpy.where(seen, strength, 0), possible, certain)
    labels, count = ndimage.label(found, structure=numpy.ones((3, 3)))
    sizes = ndimage.sum_labels(found, labels, range(1, count + 1))
    return numpy.isin(labels, 1 + numpy.flatnonzero(sizes >= SMALLEST)), seen


with Flow("retina") as flow:
    size = Parameter("size")
    green = photograph()
    tiles = filtered.map(cut(green, size), unmapped(size))
    strength = join(tiles, green)
    found = vessels(strength, green)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=480, help="width and height of a tile, without its surroundings")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--memory-limit", default="1GB", help="what one worker may occupy (default: %(default)s)")
    parser.add_argument("--output", default="retina_vessels.png")
    options = parser.parse_args()

    # Imported once, before workers are forked, and not once in each of them.
    executor = ProcessExecutor(options.workers, memory_limit=options.memory_limit, preload=["skimage.filters"])
    began = time.perf_counter()
    state = flow.run(size=options.size, executor=executor)
    took = time.perf_counter() - began
    if not state.is_successful():
        sys.exit(f"the flow ended {state!r}")
    results = {call: state.result[call].result for call in (green, strength, found)}
    print(f"{len(state.result[tiles].map_states)} tiles of {options.size} × {options.size}: {took:.2f} s")

    began = time.perf_counter()
    alone = ridges(results[green])
    print(f"one process, the filter alone: {time.perf_counter() - began:.2f} s")
    if not numpy.array_equal(results[strength], alone):
        sys.exit("the two maps differ")
    print("the two maps are equal")
    vessel, seen = results[found]
    io.imsave(options.output, painted(results[green], vessel), check_contrast=False)
    print(f"{vessel.sum() / seen.sum():.1%} of what is seen of the retina are vessels; written to {options.output}")


def painted(green, vessel):
    """The picture in grey on the left, and on the right the vessels, the middle of each in a stronger colour."""
    grey = numpy.repeat((green * 255).astype(numpy.uint8)[..., None], 3, axis=2)
    drawn = numpy.zeros_like(grey)
    drawn[vessel] = (200, 60, 50)
    drawn[morphology.skeletonize(vessel)] = (255, 225, 190)
    return numpy.concatenate([grey, drawn], axis=1)


if __name__ == "__main__":
    main()
