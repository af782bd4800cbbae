"""Objects to bytes and back: `pickle` where that is right, `cloudpickle` where an object must travel by value.

Owns the choice between the two, and the friendly words when neither will do. By reference goes only what the other process
can import: never `__main__`, which is never imported again, and no module made on the spot or found by unusual means.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.machinery import PathFinder
from types import CodeType, FunctionType, ModuleType
from typing import Any, ClassVar, Final

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

Encoder = Callable[[object, str], bytes]
"""Pickles a value; raises PayloadError, which begins with the given words."""


def encode(value: object, what: str) -> bytes:
    """Pickle a value of the main process for workers that started from nothing.

    Raises PayloadError, which begins with `what`, if neither pickle nor cloudpickle can.
    """
    try:
        data = _dumps(value, PROTOCOL)
    # Pickling runs the user's __reduce__ and __getstate__.
    except Exception:  # noqa: BLE001
        return _by_value(value, what)
    if _GLOBAL in data and not all(map(_travels, _modules_named(value))):
        return _by_value(value, what)
    return data


def encode_for_copies(value: object, what: str) -> bytes:
    """Pickle a value for workers that are copies of this process, which have its `__main__` and every other module."""
    try:
        return _dumps(value, PROTOCOL)
    # Pickling runs the user's __reduce__ and __getstate__.
    except Exception:  # noqa: BLE001
        return _by_value(value, what)


def lasting_key(function: object) -> object:
    """Tell a function for which a worker may keep what it has made of it, from one run to the next; None for any other.

    Such are functions that workers import, and those that travel by value and have no value in them that could have changed in either
    process: no global of their own, no closure, no attributes, and only constants as defaults.
    """
    if type(function) is not FunctionType:
        return None
    names = (function.__module__, function.__qualname__)
    if _travels(function.__module__ or "") and "<" not in function.__qualname__:
        try:
            same = _dumps(function, PROTOCOL)
        # What pickle cannot find by its name goes by value.
        except Exception:  # noqa: BLE001
            same = b""
        if same:
            return names
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    if function.__closure__ or function.__dict__ or not all(type(value) in _CONSTANT for value in defaults):
        return None
    code = function.__code__
    if not function.__globals__.keys().isdisjoint(_names_in(code)):
        return None
    # True and 1.0 are 1 to a dict.
    return (
        *names,
        function.__doc__,
        code,
        tuple(function.__kwdefaults__ or ()),
        tuple((type(value), value) for value in defaults),
    )


_CONSTANT: Final = frozenset((type(None), bool, int, float, str, bytes))


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _by_value(value: object, what: str) -> bytes:
    """Pickle with cloudpickle: functions and classes of modules that workers cannot import go along."""
    with _sent_along():
        try:
            return _cloud_dumps(value)
        # Pickling runs the user's __reduce__ and __getstate__; a deep structure recurses too far.
        except Exception as error:
            raise PayloadError(f"{what} {refusal(value, error)}") from error


def _cloud_dumps(value: object) -> bytes:
    file = _BytesIO()
    _cloud_pickler()(file, protocol=PROTOCOL).dump(value)
    return file.getvalue()


@cache
def _cloud_pickler() -> Any:
    import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        """As cloudpickle's, but an open file does not turn into a copy of what is in it."""

        dispatch_table: ClassVar[Any] = ChainMap(
            {io.TextIOWrapper: _refuse_file}, cloudpickle.CloudPickler.dispatch_table
        )

    return Pickler


def _refuse_file(file: io.TextIOWrapper) -> Any:
    for name in ("stdin", "stdout", "stderr"):
        if file is getattr(sys, name, None):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle the open file {file.name!r}")


def refusal(value: object, error: BaseException) -> str:
    """Say that a value will not pickle, and what to do about it; goes on where a subject was named."""
    return (
        f"of type {type(value).__qualname__} cannot be pickled ({_words(error)}); "
        "use plain data, a path, or something that is opened inside the task"
    )


def _words(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    # str() of a user's exception runs the user's __str__.
    except Exception:  # noqa: BLE001
        return kind


class _Spy(_Pickler):
    """Notes the modules whose functions and classes a pickle would name."""

    def __init__(self) -> None:
        super().__init__(_BytesIO(), PROTOCOL)
        self.modules: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        named = value if isinstance(value, type) or callable(value) else type(value)
        name = getattr(named, "__module__", None)
        if isinstance(name, str):
            self.modules.add(name)
        return NotImplemented


def _modules_named(value: object) -> set[str]:
    spy = _Spy()
    try:
        spy.dump(value)
    # It pickled a moment ago, but what runs is the user's code.
    except Exception:  # noqa: BLE001
        return {"__main__"}
    return spy.modules


_known: dict[str, tuple[ModuleType | None, bool]] = {}
"""Answers of `_travels`, each good for as long as the module is the same."""


def _travels(name: str) -> bool:
    """Whether a worker can import the module of this name and get the same one."""
    module = sys.modules.get(name)
    known = _known.get(name)
    if known is None or known[0] is not module:
        known = _known[name] = (module, _importable(name, module))
    return known[1]


def _importable(name: str, module: ModuleType | None) -> bool:
    if name in ("__main__", "__mp_main__"):
        return False
    if module is None or name in sys.builtin_module_names:
        return True
    top, dot, _ = name.partition(".")
    if dot:
        # The package decides where its modules are looked for.
        return _travels(top)
    file = getattr(module, "__file__", None)
    try:
        spec = PathFinder.find_spec(name, None)
    # A finder on the path may be anybody's.
    except Exception:  # noqa: BLE001
        return True
    if spec is None:
        # Not on the path: frozen, or served by a hook that site-packages installs in workers too; else only we loaded it.
        origin = getattr(module.__spec__, "origin", None)
        return origin in ("built-in", "frozen") or "site-packages" in (file or "")
    return spec.origin is None or file is None or spec.origin == file or _same_file(spec.origin, file)


def _same_file(one: str, other: str) -> bool:
    from os.path import samefile

    try:
        return samefile(one, other)
    except OSError:
        return False


@contextmanager
def _sent_along() -> Iterator[None]:
    """For the time of one pickling, tells cloudpickle which modules workers cannot import."""
    import cloudpickle

    added: list[ModuleType] = []
    for module in _unknown_to_workers():
        # A ValueError says that it is not among the loaded modules; then nothing can refer to it by name.
        with suppress(ValueError):
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                added.append(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


_looked_at: dict[str, Any] = {"count": -1, "unknown": []}


def _unknown_to_workers() -> list[ModuleType]:
    # Looking through all modules takes longer than pickling a function; when one is added or removed is soon enough.
    if _looked_at["count"] != len(sys.modules):
        modules = list(sys.modules.items())
        _looked_at["unknown"] = [module for name, module in modules if name != "__main__" and _suspect(name, module)]
        _looked_at["count"] = len(modules)
    unknown: list[ModuleType] = _looked_at["unknown"]
    return unknown


def _suspect(name: str, module: ModuleType) -> bool:
    """Whether a module is one that workers cannot import; quick for the many that they can."""
    known = _known.get(name)
    if known is None or known[0] is not module:
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or "." in name or file.startswith(sys.base_prefix) or "site-packages" in file:
            _known[name] = (module, name != "__mp_main__")
        return not _travels(name)
    return not known[1]


class _Trial(_Unpickler):
    """Loads a pickle and notes what it names."""

    def __init__(self, data: bytes, buffers: Sequence[Any]) -> None:
        super().__init__(_BytesIO(data), buffers=buffers)
        self.names: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        self.names.append(f"{module}:{name}")
        return super().find_class(module, name)


def trial(data: bytes, buffers: Sequence[Any] = ()) -> tuple[str, ...] | None:
    """Load a pickle to see whether it can be loaded.

    Returns the names of the classes and functions in it, None where it is plain data, which needs no trial. Raises
    whatever loading raises.
    """
    if _GLOBAL not in data:
        return None
    attempt = _Trial(data, buffers)
    attempt.load()
    return tuple(attempt.names)


def known_to_workers(names: Iterable[str]) -> bool:
    """Whether workers can import what a pickle names, as `trial` returns it."""
    return all(_travels(name.partition(":")[0]) for name in names)


def by_name(data: bytes) -> bytes:
    """Name the classes that a worker sent by value, where this process has them under their names.

    Another process has classes of its own, and one that came by value from here would be none of them.
    """
    if b"cloudpickle" not in data:
        return data
    # Both run the user's code, some of which exits.
    try:
        return _dumps(_loads(data), PROTOCOL)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - see above
        return data


def decode(data: bytes) -> object:
    """Load a pickle. Whatever the pickled objects raise comes out."""
    return _loads(data)


def dump(value: object, apart: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle what a body returned, less the buffers that `apart` takes. Raises whatever pickling raises."""
    try:
        return _dumps(value, PROTOCOL, buffer_callback=apart)
    # Pickling runs the user's code; what pickle refuses cloudpickle may take.
    except Exception:  # noqa: BLE001
        return _cloud_dumps(value)


def encode_result(value: object) -> bytes:
    """Pickle what a body returned and prove that it loads again. Raises what the user's `__reduce__` and the like raise."""
    data = dump(value)
    trial(data)
    return data
