"""What counts as a change of a body or of an input, and what does not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from mpflow.runtime.fingerprints import Fingerprints


def load(source: str, *, file: str = "/home/me/flow.py", module: str = "__main__") -> dict[str, Any]:
    """Run a script that is not there; its functions are the user's."""
    names: dict[str, Any] = {"__name__": module, "__file__": file}
    exec(compile(textwrap.dedent(source), file, "exec"), names)
    return names


def of(value: object) -> str:
    return Fingerprints().of(value)


def of_body(source: str, name: str = "body", **where: str) -> str:
    return of(load(source, **where)[name])


PLAIN = """
def body(x, y=2):
    total = x + y
    return [total * each for each in range(3)]
"""

SAME: dict[str, tuple[str, str]] = {
    "further down": (PLAIN, "\n\n\nimport os\n\n" + PLAIN),
    "under another name": (PLAIN, PLAIN.replace("def body", "def other") + "\nbody = other\n"),
    "with a docstring": ("def body(x):\n    '''One.'''\n    return x", "def body(x):\n    '''Two.'''\n    return x"),
    "with comments": (PLAIN, PLAIN.replace("    total", "    # The sum.\n    total")),
    "with a main part": (PLAIN, PLAIN + "\nif __name__ == '__main__' and False:\n    print(body(1))\n"),
    "beside others": (PLAIN, "def unrelated():\n    return 8\n" + PLAIN),
    "of a global that is data": (
        "LIMIT = 1\ndef body():\n    return LIMIT",
        "LIMIT = 2\ndef body():\n    return LIMIT",
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_the_same_body(what: str) -> None:
    first, second = SAME[what]
    assert of_body(first) == of_body(second)


@pytest.mark.parametrize("module", ["__main__", "__mp_main__", "pipelines.nightly"])
def test_the_same_body_in_another_file_and_module(module: str) -> None:
    assert of_body(PLAIN, file="/elsewhere/script.py", module=module) == of_body(PLAIN)


CHANGED: dict[str, tuple[str, str]] = {
    "code": (PLAIN, PLAIN.replace("x + y", "x - y")),
    "a constant": (PLAIN, PLAIN.replace("range(3)", "range(4)")),
    "a constant of another type": ("def body():\n    return 1", "def body():\n    return True"),
    "a name": ("def body():\n    return min(1, 2)", "def body():\n    return max(1, 2)"),
    "a default": (PLAIN, PLAIN.replace("y=2", "y=3")),
    "a keyword's default": ("def body(*, y=2):\n    return y", "def body(*, y=3):\n    return y"),
    "what it catches": (
        "def body():\n    try:\n        return f()\n    except ValueError:\n        return 1",
        "def body():\n    try:\n        return f()\n    except KeyError:\n        return 1",
    ),
    "an inner function": (
        "def body():\n    def inner():\n        return 1\n    return inner()",
        "def body():\n    def inner():\n        return 2\n    return inner()",
    ),
    "a comprehension": (PLAIN, PLAIN.replace("total * each", "total + each")),
    "a function that it calls": (
        "def helper():\n    return 1\ndef body():\n    return helper()",
        "def helper():\n    return 2\ndef body():\n    return helper()",
    ),
    "a function that one calls which it calls": (
        "def deep():\n    return 1\ndef helper():\n    return deep()\ndef body():\n    return helper()",
        "def deep():\n    return 2\ndef helper():\n    return deep()\ndef body():\n    return helper()",
    ),
    "a function that an inner one calls": (
        "def helper():\n    return 1\ndef body():\n    return [helper() for _ in range(2)]",
        "def helper():\n    return 2\ndef body():\n    return [helper() for _ in range(2)]",
    ),
    "a lambda that it calls": (
        "helper = lambda: 1\ndef body():\n    return helper()",
        "helper = lambda: 2\ndef body():\n    return helper()",
    ),
    "a partial that it calls": (
        "from functools import partial\nhelper = partial(int, '1')\ndef body():\n    return helper()",
        "from functools import partial\nhelper = partial(int, '2')\ndef body():\n    return helper()",
    ),
    "a cached function that it calls": (
        "import functools\n@functools.cache\ndef helper():\n    return 1\ndef body():\n    return helper()",
        "import functools\n@functools.cache\ndef helper():\n    return 2\ndef body():\n    return helper()",
    ),
    "a task that it calls": (
        "from mpflow import task\n@task\ndef helper():\n    return 1\ndef body():\n    return helper.run()",
        "from mpflow import task\n@task\ndef helper():\n    return 2\ndef body():\n    return helper.run()",
    ),
    "a method of a class that it makes": (
        "class Made:\n    def go(self):\n        return 1\ndef body():\n    return Made().go()",
        "class Made:\n    def go(self):\n        return 2\ndef body():\n    return Made().go()",
    ),
    "a property of such a class": (
        "class Made:\n    @property\n    def go(self):\n        return 1\ndef body():\n    return Made().go",
        "class Made:\n    @property\n    def go(self):\n        return 2\ndef body():\n    return Made().go",
    ),
    "a static method of such a class": (
        "class Made:\n    @staticmethod\n    def go():\n        return 1\ndef body():\n    return Made.go()",
        "class Made:\n    @staticmethod\n    def go():\n        return 2\ndef body():\n    return Made.go()",
    ),
    "a constant of such a class": (
        "class Made:\n    SIZE = 1\ndef body():\n    return Made.SIZE",
        "class Made:\n    SIZE = 2\ndef body():\n    return Made.SIZE",
    ),
    "a method of its base": (
        "class Base:\n    def go(self):\n        return 1\nclass Made(Base):\n    pass\ndef body():\n    return Made().go()",
        "class Base:\n    def go(self):\n        return 2\nclass Made(Base):\n    pass\ndef body():\n    return Made().go()",
    ),
    "a value it closes over": (
        "def make(n):\n    def body():\n        return n\n    return body\nbody = make(1)",
        "def make(n):\n    def body():\n        return n\n    return body\nbody = make(2)",
    ),
    "a function it closes over": (
        "def make(f):\n    def body():\n        return f()\n    return body\nbody = make(lambda: 1)",
        "def make(f):\n    def body():\n        return f()\n    return body\nbody = make(lambda: 2)",
    ),
    "what a decorator wraps": (
        "import functools\ndef loud(f):\n    @functools.wraps(f)\n    def inner():\n        return f()\n    return inner\n@loud\ndef body():\n    return 1",
        "import functools\ndef loud(f):\n    @functools.wraps(f)\n    def inner():\n        return f()\n    return inner\n@loud\ndef body():\n    return 2",
    ),
    "a decorator": (
        "import functools\ndef loud(f):\n    @functools.wraps(f)\n    def inner():\n        return f()\n    return inner\n@loud\ndef body():\n    return 1",
        "import functools\ndef loud(f):\n    @functools.wraps(f)\n    def inner():\n        return f() + 1\n    return inner\n@loud\ndef body():\n    return 1",
    ),
    "one of two that call each other": (
        "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\nbody = even",
        "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 2)\nbody = even",
    ),
    "an enumeration that it reads": (
        "import enum\nclass Colour(enum.Enum):\n    RED = 1\ndef body():\n    return Colour.RED",
        "import enum\nclass Colour(enum.Enum):\n    RED = 2\ndef body():\n    return Colour.RED",
    ),
    "the arguments of a partial": (
        "from functools import partial\nbody = partial(int, '1')",
        "from functools import partial\nbody = partial(int, '2')",
    ),
    "the method of an instance": (
        "class Made:\n    def go(self):\n        return 1\nbody = Made().go",
        "class Made:\n    def go(self):\n        return 2\nbody = Made().go",
    ),
    "the instance of a method": (
        "class Made:\n    def __init__(self, n):\n        self.n = n\n    def go(self):\n        return self.n\nbody = Made(1).go",
        "class Made:\n    def __init__(self, n):\n        self.n = n\n    def go(self):\n        return self.n\nbody = Made(2).go",
    ),
    "how an instance is called": (
        "class Made:\n    def __call__(self):\n        return 1\nbody = Made()",
        "class Made:\n    def __call__(self):\n        return 2\nbody = Made()",
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_change_of(what: str) -> None:
    first, second = CHANGED[what]
    assert of_body(first) == of_body(first, file="/elsewhere.py", module="other")
    assert of_body(first) != of_body(second)


def test_functions_of_the_user_s_modules_count_too(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = "import {0}\nfrom {0} import direct\ndef body():\n    return {0}.helper() + direct()"
    prints = set()
    for number, (helper, direct) in enumerate([(1, 1), (2, 1), (1, 2)]):
        name = f"users_module_{number}"
        text = f"def helper():\n    return {helper}\ndef direct():\n    return {direct}\n"
        (tmp_path / f"{name}.py").write_text(text)
        # Under one name in the body, whatever the module is called.
        names = load(source.format(name))
        prints.add(of(names["body"]))
        names = load(f"import {name} as it\ndef body():\n    return it.helper()")
        prints.add(("helper", of(names["body"])))
    assert len([each for each in prints if isinstance(each, tuple)]) == 2
    assert len(prints) == 5


def test_what_is_installed_counts_by_its_name() -> None:
    assert of(os.path.join) == of(os.path.join) != of(os.path.split)
    assert of_body("import json\ndef body():\n    return json.dumps(1)") != of(functools.reduce)


VALUES: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "numbers": lambda: (1, 1.5, -0.0, 2j, 10**30, True),
    "text": lambda: "grüße\ud800",
    "bytes": lambda: b"x\x00",
    "a list": lambda: [1, [2, [3]]],
    "a dict": lambda: {"a": 1, "b": [2]},
    "a set": lambda: {f"word-{n}" for n in range(50)},
    "a frozen set in a tuple": lambda: (frozenset({"a", "b", "c"}),),
    "a long list": lambda: list(range(5000)),
    "a long list of sets": lambda: [{"a", "b", str(n)} for n in range(200)],
}


@pytest.mark.parametrize("what", VALUES)
def test_equal_values_have_equal_prints(what: str) -> None:
    make = VALUES[what]
    assert of(make()) == of(make())
    others = [of(other()) for name, other in VALUES.items() if name != what]
    assert of(make()) not in others


def test_the_order_of_a_dict_does_not_matter_and_that_of_a_list_does() -> None:
    assert of({"a": 1, "b": 2}) == of({"b": 2, "a": 1})
    assert of([1, 2]) != of([2, 1])
    assert of([1, 2]) != of((1, 2))
    assert of([1]) != of([True]) != of([1.0])


def test_which_equal_parts_are_one_object_does_not_matter() -> None:
    one = ["a" * 3]
    assert of([one, one]) == of([["a" * 3], ["aa" + "a"]])
    long = [["a" * 3] for _ in range(200)]
    assert of(long) == of([one] * 200)


def test_what_holds_itself_has_a_print() -> None:
    def ring() -> list[Any]:
        made: list[Any] = [1]
        made.append(made)
        return made

    assert of(ring()) == of(ring()) != of([1, []])

    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert of(deep)


def test_numpy_arrays() -> None:
    numpy = pytest.importorskip("numpy")
    assert of(numpy.arange(10)) == of(numpy.arange(10))
    assert of(numpy.arange(10)) != of(numpy.arange(11))
    assert of(numpy.arange(10)) != of(numpy.arange(10).astype("float64"))
    changed = numpy.arange(10)
    changed[3] = 0
    assert of(numpy.arange(10)) != of(changed)


def test_what_cannot_be_pickled_goes_by_its_code() -> None:
    source = "import threading\nclass Holder:\n    def __init__(self):\n        self.lock = threading.Lock()\n    def go(self):\n        return {}\nbody = Holder()"
    assert of_body(source.format(1)) == of_body(source.format(1))
    assert of_body(source.format(1)) != of_body(source.format(2))


def test_an_object_that_will_not_be_looked_at() -> None:
    class Shy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert of(Shy()) == of(Shy())


def test_many_functions_that_all_call_each_other() -> None:
    names = [f"f{n}" for n in range(12)]
    calls = "+".join(f"{name}()" for name in names)
    source = "\n".join(f"def {name}():\n    return {n} + {calls}" for n, name in enumerate(names))
    first, second = load(source), load(source.replace("return 11 +", "return 12 +"))
    assert of(first["f3"]) != of(second["f3"])
    both = Fingerprints()
    assert [both.of(first[name]) for name in names] == [of(first[name]) for name in names]


def test_one_that_is_looked_at_from_two_sides() -> None:
    source = "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    prints = Fingerprints()
    names = load(source)
    together = [prints.of(names["even"]), prints.of(names["odd"])]
    names = load(source)
    assert together == [of(names["even"]), of(names["odd"])]
    # The same whichever is looked at first.
    prints = Fingerprints()
    assert [prints.of(names["odd"]), prints.of(names["even"])] == together[::-1]


SCRIPT = """
import functools, sys
from mpflow.runtime.fingerprints import Fingerprints

class Settings:
    def __init__(self):
        self.names = {"alpha", "beta", "gamma", "delta"}
        self.table = {"x": {"one", "two", "three"}, "y": frozenset({"four", "five"})}
    def __call__(self, x):
        return x in {"alpha", "beta", "gamma"}

def helper(word):
    return word in {"red", "green", "blue", "yellow"}

def make(colours):
    def body(word, seen=frozenset({"p", "q", "r"})):
        return word in colours or helper(word) or word in ("a", "b")
    return body

values = {
    "set": {"a", "b", "c", "d"},
    "nested": [{"k": {"x", "y", "z"}}, (frozenset({"m", "n", "o"}),)],
    "long": [{"x", "y", str(n)} for n in range(100)],
    "dict": {name: name for name in {"a", "b", "c", "d"}},
    "function": helper,
    "closure": make({"red", "green", "blue"}),
    "lambda": lambda x: x in {"one", "two", "three"},
    "partial": functools.partial(helper, word={"x", "y", "z"}),
    "instance": Settings(),
    "method": Settings().__call__,
    "class": Settings,
    "builtin": len,
}
try:
    import numpy
except ImportError:
    pass
else:
    values["array"] = numpy.linspace(0, 1, 1000)
    values["arrays"] = {"a": numpy.arange(10), "b": [numpy.float64(3)]}
for name, value in values.items():
    print(name, Fingerprints().of(value))
"""


def test_prints_are_the_same_in_every_process(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    said = {
        subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    told = [dict(line.split() for line in each.splitlines()) for each in said]
    different = {name for name in told[0] if len({each[name] for each in told}) > 1}
    assert not different
    assert len(set(told[0].values())) == len(told[0])
