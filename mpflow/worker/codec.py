"""Objects to bytes and back: `pickle` where that is right, `cloudpickle` where an object must travel by value.

Owns the choice between the two, and the friendly words when neither will do. By reference goes only what the other process
can import: never `__main__`, which is never imported again, and no module made on the spot or found by unusual means.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

from mpflow.errors import PayloadError

# Bound at import: a body may patch or remove the standard modules afterwards.
_dumps = pickle.dumps
_loads = pickle.loads
_Pickler = pickle.Pickler
_Unpickler = pickle.Unpickler
_BytesIO = io.BytesIO

PROTOCOL: Final = 5
_GLOBAL: Final = b"\x93"
"""STACK_GLOBAL, without which a protocol 5 pickle names no class or function."""


def names_nothing(data: bytes) -> bool:
    """Whether a pickle is surely plain data: no class or function is named in it."""
    return _GLOBAL not in data


def encode(value: object, *, what: str) -> bytes:
    """Pickle a value of the main process for a worker.

    Raises PayloadError, which begins with `what`, if neither pickle nor cloudpickle can.
    """
    try:
        data = _dumps(value, PROTOCOL)
    # Pickling runs the user's __reduce__ and __getstate__.
    except Exception:
        return by_value(value, what=what)
    if _GLOBAL in data and not all(map(_travels, _modules_named(value))):
        return by_value(value, what=what)
    return data


def by_value(value: object, *, what: str) -> bytes:
    """Pickle with cloudpickle: functions and classes of modules that workers cannot import go along."""
    import cloudpickle

    with _by_value_modules(value) as unknown:
        try:
            data: bytes = cloudpickle.dumps(value, PROTOCOL)
        # Pickling runs the user's __reduce__ and __getstate__; a deep structure recurses too far.
        except Exception as error:
            raise PayloadError(refusal(value, error, what=what)) from error
    del unknown
    return data


def refusal(value: object, error: BaseException, *, what: str) -> str:
    """Say that a value will not pickle, and what to do about it."""
    return (
        f"{what} of type {type(value).__qualname__} cannot be pickled ({_words(error)}); "
        "use plain data, a path, or something that is opened inside the task"
    )


def _words(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    # str() of a user's exception runs the user's __str__.
    except Exception:
        return kind


class _Spy(_Pickler):
    """Notes the modules whose functions and classes a pickle would name."""

    def __init__(self) -> None:
        super().__init__(_BytesIO(), PROTOCOL)
        self.modules: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) or callable(value):
            name = getattr(value, "__module__", None)
            if isinstance(name, str):
                self.modules.add(name)
        else:
            self.modules.add(type(value).__module__)
        return NotImplemented


def _modules_named(value: object) -> Iterable[str]:
    spy = _Spy()
    try:
        spy.dump(value)
    # It pickled a moment ago, but what runs is the user's code.
    except Exception:
        return ("__main__",)
    return spy.modules


_known: dict[str, tuple[ModuleType | None, bool]] = {}


def _travels(name: str) -> bool:
    """Whether a worker can import the module of this name and get the same one."""
    if name == "builtins":
        return True
    module = sys.modules.get(name)
    known = _known.get(name)
    if known is not None and known[0] is module:
        return known[1]
    answer = _importable(name, module)
    _known[name] = (module, answer)
    return answer


def _importable(name: str, module: ModuleType | None) -> bool:
    if name in ("__main__", "__mp_main__"):
        return False
    if module is None:
        return True
    if name in sys.builtin_module_names or getattr(module, "__spec__", None) is None and not hasattr(module, "__file__"):
        return name in sys.builtin_module_names
    from importlib.machinery import PathFinder

    top, _, rest = name.partition(".")
    if rest:
        # The parent decides where a submodule is looked for.
        return _travels(top)
    try:
        spec = PathFinder.find_spec(top, None)
    # A finder on the path may be anybody's.
    except Exception:
        return True
    if spec is None:
        # Frozen, or served by an import hook that site-packages installs in workers too; not a file that only we loaded.
        origin = getattr(module.__spec__, "origin", None)
        return origin in ("built-in", "frozen") or not getattr(module, "__file__", None)
    file = getattr(module, "__file__", None)
    return spec.origin is None or file is None or spec.origin == file or _same_file(spec.origin, file)


def _same_file(one: str, other: str) -> bool:
    from os.path import samefile

    try:
        return samefile(one, other)
    except OSError:
        return False


class _by_value_modules:
    """For the time of one pickling, tells cloudpickle which modules workers cannot import."""

    def __init__(self, value: object) -> None:
        self._value = value
        self._added: list[ModuleType] = []

    def __enter__(self) -> list[ModuleType]:
        import cloudpickle

        for name in _modules_reached(self._value):
            module = sys.modules.get(name)
            if module is None or name == "__main__" or _travels(name):
                continue
            try:
                cloudpickle.register_pickle_by_value(module)
            except ValueError:
                continue
            self._added.append(module)
        return self._added

    def __exit__(self, *_: object) -> None:
        import cloudpickle

        for module in self._added:
            cloudpickle.unregister_pickle_by_value(module)


def _modules_reached(value: object) -> set[str]:
    """The modules, loaded here, whose things a cloudpickle of this value might name and workers could not import."""
    return {name for name in list(sys.modules) if name != "__main__" and _suspect(name)}


def _suspect(name: str) -> bool:
    module = sys.modules.get(name)
    known = _known.get(name)
    if known is not None and known[0] is module:
        return not known[1]
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or "." in name or file.startswith(sys.base_prefix) or "site-packages" in file:
        return False
    return not _travels(name)


class _Trial(_Unpickler):
    """Loads a pickle and notes what it names."""

    def __init__(self, data: bytes) -> None:
        super().__init__(_BytesIO(data))
        self.names: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        self.names.append(f"{module}:{name}")
        return super().find_class(module, name)


def trial(data: bytes) -> tuple[str, ...]:
    """Load a pickle to see whether it can be loaded; return the names of the classes and functions in it."""
    attempt = _Trial(data)
    attempt.load()
    return tuple(attempt.names)


def decode(data: bytes) -> object:
    """Load a pickle. Whatever the pickled objects raise comes out."""
    return _loads(data)


def encode_result(value: object) -> tuple[bytes, tuple[str, ...] | None]:
    """Pickle what a body returned and prove that it loads again.

    Returns the pickle and, unless it is plain data, the names in it. Raises whatever the user's
    `__reduce__`, `__setstate__` and so on raise.
    """
    try:
        data = _dumps(value, PROTOCOL)
    # Pickling runs the user's code; what pickle refuses cloudpickle may take.
    except Exception:
        import cloudpickle

        data = cloudpickle.dumps(value, PROTOCOL)
    if _GLOBAL not in data:
        return data, None
    return data, trial(data)
