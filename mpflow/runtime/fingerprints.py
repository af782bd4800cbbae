"""Whether a body or an input is still what it was: digests that a later process can compare.

Owns what counts as a change. Of a function that is its code (what it does, the constants and names in it), its defaults, the values it
closes over, and likewise the functions and classes of the user's that it calls by global name. Not where it is written, at which
line, under which module's name, nor its docstring: the same body in a script, under another name or further down, is the same. What is
installed (the standard library, packages, mpflow itself) counts by its name alone, and so does a module's plain data, which may be
different in each process.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

_SIZE: Final = 8
"""Bytes of a digest: enough to tell a change by, and there are two for each task."""
_LONG: Final = 64
"""Elements from which on a sequence is pickled as a whole: to look at a million numbers one by one takes seconds."""
_DOCUMENTED: Final = 0x4000000
"""The flag of code whose first constant is a docstring, from 3.14 on; before that the docstring is compared."""


class Fingerprints:
    """Digests of values and bodies, for as long as one run is being prepared: what has been looked at is not looked at again."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._alive: list[object] = []
        """Keeps what is in `_known` alive, so that ids stay theirs."""
        self._open: dict[int, int] = {}
        """Functions and classes being looked at, in order, for those that call each other."""
        self._cut = False

    def of(self, value: object) -> str:
        """Return the digest of a value. Two equal ones of plain types have the same, in whatever process."""
        return self._digest(value).hex()

    def of_all(self, values: Iterable[object]) -> str:
        """Return one digest for several values, in order."""
        return _hash(b"all", *map(self._digest, values)).hex()

    def _digest(self, value: object) -> bytes:
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            return _hash(plain, repr(value).encode("utf-8", "surrogatepass"))
        if kind is bytes:
            return _hash(b"bytes", value)  # type: ignore[arg-type]  # its type says it is
        return self._remembered(value)

    def _remembered(self, value: object) -> bytes:
        key = id(value)
        known = self._known.get(key)
        if known is not None:
            return known
        if key in self._open:
            # Recursion: by how far up the one meant is, the same wherever it begins.
            self._cut = True
            return _hash(b"again", str(len(self._open) - self._open[key]).encode())
        outer, self._cut = self._cut, False
        self._open[key] = len(self._open)
        try:
            found = self._compound(value)
        except RecursionError:
            found = _hash(b"deep", type(value).__qualname__.encode())
        finally:
            del self._open[key]
        # What was found inside a recursion depends on where that began.
        if not self._cut or not self._open:
            self._known[key] = found
            self._alive.append(value)
        self._cut = (self._cut or outer) and bool(self._open)
        return found

    def _compound(self, value: object) -> bytes:
        kind = type(value)
        if kind in (list, tuple):
            if len(value) > _LONG:  # type: ignore[arg-type]
                return self._object(value)
            return _hash(kind.__name__.encode(), *map(self._digest, value))  # type: ignore[call-overload]
        if kind in (set, frozenset):
            return _hash(b"set", *sorted(map(self._digest, value)))  # type: ignore[call-overload]
        if kind is dict:
            assert isinstance(value, dict)
            return _hash(b"dict", *sorted(self._digest(key) + self._digest(each) for key, each in value.items()))
        for known, look in _LOOKS:
            if isinstance(value, known):
                return look(self, value)
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            return _hash(b"wrapped", _name_of_type(kind), self._digest(wrapped))
        return self._object(value)

    # Of code.

    def _function(self, function: FunctionType) -> bytes:
        if _is_installed(function.__module__, function.__code__.co_filename):
            return _hash(b"installed", _name(function))
        parts = [self._code(function.__code__, function.__doc__), self._digest(function.__defaults__)]
        parts.append(self._digest(function.__kwdefaults__))
        parts += [self._cell(cell) for cell in function.__closure__ or ()]
        names = list(dict.fromkeys(_names(function.__code__)))
        parts += self._called(function.__globals__, names)
        # A decorator of the user's that calls what it wraps has that in a closure already.
        return _hash(b"function", *parts)

    def _code(self, code: CodeType, doc: str | None = None) -> bytes:
        constants: tuple[object, ...] = code.co_consts
        if doc is not None and constants and constants[0] == doc:
            constants = (None, *constants[1:])
        signature = (
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags & ~_DOCUMENTED,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
        )
        return _hash(
            b"code",
            code.co_code,
            getattr(code, "co_exceptiontable", b""),
            repr(signature).encode("utf-8", "surrogatepass"),
            *(self._constant(each) for each in constants),
        )

    def _constant(self, value: object) -> bytes:
        if isinstance(value, CodeType):
            first = value.co_consts[0] if value.co_consts else None
            return self._code(value, first if isinstance(first, str) and value.co_flags & _DOCUMENTED else None)
        return self._digest(value)

    def _cell(self, cell: CellType) -> bytes:
        try:
            return self._digest(cell.cell_contents)
        except ValueError:
            return b"empty"

    def _called(self, names_there: Mapping[str, object], names: list[str]) -> Iterator[bytes]:
        """Look at what the user has written among the globals that a body names, directly or as `module.function`."""
        for name in names:
            value = names_there.get(name)
            if isinstance(value, ModuleType):
                if not _is_installed(value.__name__, getattr(value, "__file__", None)):
                    yield from self._called({each: vars(value).get(each) for each in names}, names)
            elif _is_code(value):
                yield _hash(name.encode(), self._digest(value))

    def _class(self, kind: type) -> bytes:
        if _is_installed(kind.__module__, None):
            return _hash(b"installed", _name(kind))
        parts: list[bytes] = [self._digest(base) for base in kind.__bases__]
        for name, value in sorted(vars(kind).items()):
            own = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            own = own.fget if isinstance(own, property) else own
            own = getattr(own, "__wrapped__", own) if not isinstance(own, FunctionType) else own
            if isinstance(own, FunctionType):
                parts.append(_hash(name.encode(), self._digest(own)))
        return _hash(b"class", kind.__qualname__.encode(), *parts)

    def _method(self, method: MethodType) -> bytes:
        return _hash(b"method", self._digest(method.__func__), self._digest(method.__self__))

    def _partial(self, value: functools.partial[Any]) -> bytes:
        return _hash(b"partial", self._digest(value.func), self._digest(value.args), self._digest(value.keywords))

    def _builtin(self, value: Any) -> bytes:
        owner = getattr(value, "__self__", None)
        bound = b"" if owner is None or isinstance(owner, ModuleType) else self._digest(owner)
        return _hash(b"builtin", _name(value), bound)

    def _module(self, module: ModuleType) -> bytes:
        return _hash(b"module", module.__name__.encode())

    # Of objects.

    def _object(self, value: object) -> bytes:
        for cautious in (False, True):
            file = io.BytesIO()
            pickler = _Spelling(file, self, value)
            # Without its memory a pickle does not depend on which equal parts are one object; but cycles need it.
            pickler.fast = not cautious
            try:
                pickler.dump(value)
            # Pickling runs the user's __reduce__ and __getstate__; in fast mode a cycle is an error too.
            except Exception:  # noqa: BLE001, S112 - the next way is tried
                continue
            return _hash(b"object", file.getvalue())
        # Nothing to compare by: a change would have to be in its code.
        return _hash(b"opaque", self._digest(type(value)))


class _Spelling(pickle.Pickler):
    """Pickles one object with functions, classes, sets and dicts in it as their digests."""

    def __init__(self, file: io.BytesIO, prints: Fingerprints, top: object) -> None:
        super().__init__(file, 5)
        self._prints = prints
        self._top = top

    def reducer_override(self, value: Any) -> Any:
        if value is self._top or not (isinstance(value, (set, frozenset)) or _is_code(value)):
            return NotImplemented
        return bytes, (self._prints._digest(value),)


def _is_code(value: object) -> bool:
    return isinstance(value, (FunctionType, type, MethodType, functools.partial)) or isinstance(
        getattr(value, "__wrapped__", None), FunctionType
    )


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _name(value: Any) -> bytes:
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', '?')}".encode()


def _name_of_type(kind: type) -> bytes:
    return _name(kind) if _is_installed(kind.__module__, None) else kind.__qualname__.encode()


def _hash(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


_PLAIN: Final[Mapping[type, bytes]] = {
    kind: kind.__name__.encode() for kind in (type(None), bool, int, float, complex, str, type(...))
}

# ruff: noqa: SLF001 - the table is part of the class
_LOOKS: Final[tuple[tuple[Any, Callable[[Fingerprints, Any], bytes]], ...]] = (
    (FunctionType, Fingerprints._function),
    (MethodType, Fingerprints._method),
    (functools.partial, Fingerprints._partial),
    (type, Fingerprints._class),
    (BuiltinFunctionType, Fingerprints._builtin),
    (ModuleType, Fingerprints._module),
)

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@functools.cache
def _installed_places() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {os.path.realpath(path) + os.sep for path in map(sysconfig.get_path, names) if path}
    return (*found, _OURS)


def _is_installed(module: str | None, file: str | None) -> bool:
    """Whether code belongs to what is installed rather than to the user."""
    if module is None:
        return False
    top = module.partition(".")[0]
    if top in ("__main__", "__mp_main__"):
        return False
    if top == "mpflow" or top in sys.stdlib_module_names:
        return True
    if file is None:
        found = sys.modules.get(module)
        file = getattr(found, "__file__", None)
        if file is None:
            return module in sys.builtin_module_names
    if f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file:
        return True
    return os.path.realpath(file).startswith(_installed_places())
