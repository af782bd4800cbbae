"""Draw the Mandelbrot set: many small tasks, one band of rows each, put together in order and written as a PNG.

The bands near the middle take far longer than those at the edge, so the work spreads only because it is cut into many pieces.
Then the same picture is computed by a plain loop in this process, and the two are compared byte for byte.
"""

import argparse
import struct
import sys
import time
import zlib

import numpy

from mpflow import Flow, Parameter, task, unmapped
from mpflow.executors import ProcessExecutor

LEFT, RIGHT, LOW, HIGH = -2.2, 0.8, -1.2, 1.2
COLOURS = 256


def escape(first, last, width, height, limit):
    """How many rounds each point of the rows `first` to `last` stays near the origin; `limit` for those that never leave."""
    x = numpy.linspace(LEFT, RIGHT, width)
    y = numpy.linspace(HIGH, LOW, height)[first:last]
    c = (x[None, :] + 1j * y[:, None]).ravel()
    rounds = numpy.full(c.size, limit, dtype=numpy.uint16)
    left = numpy.arange(c.size)
    z = numpy.zeros_like(c)
    for number in range(limit):
        z = z * z + c
        near = z.real**2 + z.imag**2 <= 4.0
        rounds[left[~near]] = number
        z, c, left = z[near], c[near], left[near]
        if not left.size:
            break
    return rounds.reshape(len(y), width)


@task
def cut(height, rows):
    """Bands of neighbouring rows."""
    return [(first, min(first + rows, height)) for first in range(0, height, rows)]


@task
def band(rows, width, height, limit):
    return escape(*rows, width, height, limit)


@task
def join(bands):
    return numpy.concatenate(bands)


with Flow("mandelbrot") as flow:
    width, height, limit = Parameter("width"), Parameter("height"), Parameter("limit")
    bands = band.map(cut(height, Parameter("rows")), unmapped(width), unmapped(height), unmapped(limit))
    whole = join(bands)


def coloured(rounds, limit):
    """Rounds as red, green and blue: dark blue far out, through orange to white at the border, black inside."""
    stops = numpy.array([[0, 7, 60], [32, 107, 203], [237, 255, 255], [255, 170, 0], [120, 20, 10]], dtype=float)
    place = numpy.linspace(0, len(stops) - 1, COLOURS)
    palette = numpy.stack([numpy.interp(place, range(len(stops)), stops[:, part]) for part in range(3)], axis=1)
    share = numpy.log1p(rounds) / numpy.log1p(limit)
    picture = palette[(share * (COLOURS - 1)).astype(int)].astype(numpy.uint8)
    picture[rounds == limit] = 0
    return picture


def write_png(path, picture):
    """Write rows of red, green, blue bytes as a PNG file."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    high, wide, _ = picture.shape
    # Each row begins with the number of its filter: 0, none.
    rows = numpy.concatenate([numpy.zeros((high, 1), numpy.uint8), picture.reshape(high, -1)], axis=1)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)))
        file.write(chunk(b"IEND", b""))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=900)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--limit", type=int, default=300, help="rounds after which a point counts as inside")
    parser.add_argument("--rows", type=int, default=4, help="rows of one band")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--output", default="mandelbrot.png")
    options = parser.parse_args()
    sizes = {"width": options.width, "height": options.height, "limit": options.limit}

    began = time.perf_counter()
    state = flow.run(**sizes, rows=options.rows, executor=ProcessExecutor(options.workers))
    took = time.perf_counter() - began
    if not state.is_successful():
        sys.exit(f"the flow ended {state!r}")
    picture = state.result[whole].result
    print(f"{len(state.result[bands].map_states)} bands of {options.rows} rows: {took:.2f} s")

    began = time.perf_counter()
    alone = escape(0, options.height, **sizes)
    print(f"one process: {time.perf_counter() - began:.2f} s")
    if not numpy.array_equal(picture, alone):
        sys.exit("the two pictures differ")
    print("the two pictures are equal")
    write_png(options.output, coloured(picture, options.limit))
    print(f"{(picture == options.limit).mean():.1%} of the points never leave; written to {options.output}")


if __name__ == "__main__":
    main()
