"""Index the standard library's own sources: definitions, imports and words, into one SQLite file.

The list of files is cut into chunks, the chunks are indexed in parallel, and the pieces are reduced into the database. One
chunk names a file that is not there: it alone fails, a branch with the trigger `any_failed` puts it into quarantine, and the
rest is written as if nothing had happened. Then the same work is done by a plain loop in this process, and the two databases
are compared.
"""

import argparse
import ast
import os
import re
import sqlite3
import sys
import sysconfig
import tempfile
import time
import tokenize
import warnings
from collections import Counter

from mpflow import Flow, Parameter, task, unmapped
from mpflow.executors import ProcessExecutor
from mpflow.triggers import all_finished, any_failed

CHUNK_BYTES = 500_000
WORD = re.compile(r"[^\W\d]\w+")
KINDS = {ast.FunctionDef: "function", ast.AsyncFunctionDef: "function", ast.ClassDef: "class"}
MISSING = "removed_since_the_list_was_made.py"


def library_files(root, limit):
    """Paths of all sources below `root`, in a fixed order; third-party packages are left out."""
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in {"site-packages", "dist-packages", "__pycache__"})
        found += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")]
    return found[:limit]


def cut(paths, root):
    """Lists of neighbouring files, of about the same number of bytes; one list names a file that is missing."""
    chunks, size = [[]], 0
    for path in paths:
        if size >= CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(path)
        size += os.path.getsize(path)
    chunks.insert(len(chunks) // 2, [os.path.join(root, MISSING)])
    return chunks


def statements(tree):
    """Every statement of a module, outermost first; expressions, the bulk of the tree, are not entered."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, part, None)
            if isinstance(below, list):
                waiting += below
                yield from (child for child in below if isinstance(child, ast.stmt))


def index_file(path, root):
    """What one file holds. What Python itself cannot read is noted and is no error."""
    with open(path, "rb") as file:
        data = file.read()
    name = os.path.relpath(path, root)
    definitions, imports, words, problem = [], Counter(), Counter(), None
    try:
        encoding, _ = tokenize.detect_encoding(iter(data.splitlines(keepends=True)).__next__)
        words.update(WORD.findall(data.decode(encoding)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = type(error).__name__
    else:
        for node in statements(tree):
            if type(node) in KINDS:
                definitions.append((name, node.lineno, KINDS[type(node)], node.name))
            elif isinstance(node, ast.Import):
                imports.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                imports["." * node.level + (node.module or "")] += 1
        definitions.sort()
    return (name, len(data), data.count(b"\n"), problem), definitions, imports, words


def index_files(paths, root):
    """The pieces of several files as one piece."""
    piece = {"files": [], "definitions": [], "imports": Counter(), "words": Counter()}
    for path in paths:
        file, definitions, imports, words = index_file(path, root)
        piece["files"].append(file)
        piece["definitions"] += definitions
        piece["imports"].update(imports)
        piece["words"].update(words)
    return piece


def write(output, pieces, quarantined):
    """Put the pieces into a new SQLite file and return how many rows each of its tables has."""
    imports, words = Counter(), Counter()
    with sqlite3.connect(output) as database:
        database.executescript(
            """
            CREATE TABLE files (path TEXT PRIMARY KEY, bytes INTEGER, lines INTEGER, problem TEXT) WITHOUT ROWID;
            CREATE TABLE definitions (path TEXT, line INTEGER, kind TEXT, name TEXT);
            CREATE TABLE imports (module TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID;
            CREATE TABLE words (word TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID;
            CREATE TABLE quarantined (path TEXT, reason TEXT);
            """
        )
        for piece in pieces:
            database.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", piece["files"])
            database.executemany("INSERT INTO definitions VALUES (?, ?, ?, ?)", piece["definitions"])
            imports.update(piece["imports"])
            words.update(piece["words"])
        database.executemany("INSERT INTO imports VALUES (?, ?)", sorted(imports.items()))
        database.executemany("INSERT INTO words VALUES (?, ?)", sorted(words.items()))
        database.executemany("INSERT INTO quarantined VALUES (?, ?)", quarantined)
    database.close()


@task
def find_chunks(root, limit):
    return cut(library_files(root, limit), root)


@task
def index_chunk(chunk, root):
    return index_files(chunk, root)


@task(trigger=any_failed)
def quarantine(chunks, pieces):
    """Runs only because a chunk failed. A failed task's result is its exception."""
    return [
        (path, f"{type(piece).__name__}: {os.path.basename(piece.filename)}")
        for chunk, piece in zip(chunks, pieces, strict=True)
        if isinstance(piece, OSError)
        for path in chunk
    ]


@task(trigger=all_finished)
def write_index(output, pieces, quarantined):
    """Runs whatever became of the chunks, and writes those that are whole."""
    whole = [piece for piece in pieces if not isinstance(piece, Exception)]
    write(output, whole, quarantined)
    return len(whole)


def build():
    with Flow("code-index") as flow:
        root = Parameter("root")
        chunks = find_chunks(root, Parameter("limit", default=None))
        pieces = index_chunk.map(chunks, unmapped(root))
        written = write_index(Parameter("output"), pieces, quarantine(chunks, pieces))
        flow.set_reference_tasks([written])
    return flow, pieces, written


def in_one_process(root, limit, output):
    """The same answer without mpflow: a loop, and a `try` around each chunk."""
    pieces, quarantined = [], []
    for chunk in cut(library_files(root, limit), root):
        try:
            pieces.append(index_files(chunk, root))
        except OSError as error:
            quarantined += [(path, f"{type(error).__name__}: {os.path.basename(error.filename)}") for path in chunk]
    write(output, pieces, quarantined)


def content(path):
    """All rows of all tables."""
    database = sqlite3.connect(path)
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    rows = {table: sorted(database.execute(f"SELECT * FROM {table}"), key=str) for table in tables}
    database.close()
    return rows


def tell(path):
    database = sqlite3.connect(path)

    def one(query):
        return database.execute(query).fetchone()

    def top(query):
        return ", ".join(f"{name} {times:,}" for name, times in database.execute(query))

    files, size, lines, problems = one("SELECT count(*), sum(bytes), sum(lines), count(problem) FROM files")
    print(f"  {files:,} files, {size / 1e6:.1f} MB, {lines:,} lines; {problems} that Python cannot parse")
    functions, classes = one("SELECT sum(kind = 'function'), sum(kind = 'class') FROM definitions")
    print(
        f"  {functions:,} functions and {classes:,} classes; {one('SELECT count(*) FROM words')[0]:,} different words"
    )
    print(f"  imported most: {top('SELECT module, times FROM imports ORDER BY times DESC, module LIMIT 5')}")
    print(f"  written most:  {top('SELECT word, times FROM words ORDER BY times DESC, word LIMIT 5')}")
    for name, reason in database.execute("SELECT path, reason FROM quarantined"):
        print(f"  in quarantine: a chunk of 1 file, {os.path.basename(name)} ({reason.partition(':')[0]})")
    database.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=None, help="worker processes (default: all usable cores)")
    parser.add_argument("--output", help="where to put the SQLite file (default: a temporary one, removed at the end)")
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="index the first N files only")
    parser.add_argument("--no-check", action="store_true", help="leave out the run on one process and the comparison")
    options = parser.parse_args()
    root = sysconfig.get_path("stdlib")

    with tempfile.TemporaryDirectory() as scratch:
        output = options.output or os.path.join(scratch, "parallel.sqlite")
        if os.path.exists(output):
            parser.error(f"{output} exists already; name another file or remove it")
        flow, pieces, written = build()
        executor = ProcessExecutor(options.workers)

        began = time.perf_counter()
        state = flow.run(root=root, limit=options.limit, output=output, executor=executor)
        parallel = time.perf_counter() - began
        if not state.is_successful():
            sys.exit(f"the index was not written: {state.result[written].message}")
        children = state.result[pieces].map_states
        failed = sum(child.is_failed() for child in children)
        print(f"Indexed {root}: {len(children)} chunks, {failed} of them failed")
        tell(output)
        print(f"on worker processes: {parallel:.1f} s")
        if options.no_check:
            return

        single = os.path.join(scratch, "single.sqlite")
        began = time.perf_counter()
        in_one_process(root, options.limit, single)
        alone = time.perf_counter() - began
        print(f"on one process:      {alone:.1f} s, so {alone / parallel:.2f} times as fast")
        if content(output) != content(single):
            sys.exit("THE TWO ANSWERS DIFFER")
        print("the two answers are equal")


if __name__ == "__main__":
    main()
