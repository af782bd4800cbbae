"""Which functions a worker may keep from one run to the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mpflow.worker.codec import lasting_key

GLOBAL = 1


def make(source: str, **names: Any) -> Callable[..., Any]:
    """A function of a module that workers cannot import."""
    there: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, there)
    made: Callable[..., Any] = there["f"]
    return made


def test_what_is_imported_goes_by_its_name() -> None:
    assert lasting_key(json.dumps) == ("json", "dumps")


def test_a_function_on_its_own_is_known_again() -> None:
    one, again = make("def f(x, y=1): return len(str(x)) + y"), make("def f(x, y=1): return len(str(x)) + y")
    assert lasting_key(one) is not None
    assert lasting_key(one) == lasting_key(again)
    assert lasting_key(one) != lasting_key(make("def f(x, y=1): return len(str(x)) - y"))


def test_defaults_of_other_types_are_others() -> None:
    assert lasting_key(make("def f(y=1): return y")) != lasting_key(make("def f(y=True): return y"))
    assert lasting_key(make("def f(*, y=1): return y")) != lasting_key(make("def f(*, y=1.0): return y"))


def test_what_holds_something_that_may_change_has_none() -> None:
    held = [1]
    assert lasting_key(make("def f(): return other", other=1)) is None
    assert lasting_key(make("def f(): return [other for _ in range(3)]", other=1)) is None
    assert lasting_key(make("def f(y=held): return y", held=held)) is None
    assert lasting_key(lambda: held) is None
    marked = make("def f(): return 1")
    marked.mark = held  # type: ignore[attr-defined]
    assert lasting_key(marked) is None


def test_only_functions_have_one() -> None:
    assert lasting_key(len) is None
    assert lasting_key([].append) is None
    assert lasting_key(object()) is None
