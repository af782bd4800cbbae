"""Whether a body or an input is still what it was: digests that a later process can compare.

Owns what counts as a change. Of a function that is its code (what it does, the constants and names in it), its defaults, the values it
closes over, and likewise the functions and classes of the user's that it calls by global name. Not where it is written, at which
line, under which module's name, nor its docstring: the same body in a script, under another name or further down, is the same. What is
installed (the standard library, packages, mpflow itself) counts by its name alone, and so does a module's plain data, which may be
different in each process.
"""

from __future__ import annotations

import enum
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
_DEEP: Final = 100
"""Levels of nesting that are looked at one by one; each takes a handful of stack frames."""
_NOWHERE: Final = sys.maxsize
_SET_CODES: Final = (pickle.EMPTY_SET, pickle.FROZENSET)
_DOCUMENTED: Final = 0x4000000
"""The flag of code whose first constant is a docstring, from 3.14 on; before that the docstring is compared."""


class Fingerprints:
    """Digests of values and bodies, for as long as one run is being prepared: what has been looked at is not looked at again."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._alive: list[object] = []
        """Keeps what has been looked at alive, so that ids stay theirs."""
        self._order: dict[int, int] = {}
        """What is being looked at, and what hangs together with that in a circle, numbered in the order of the first look."""
        self._visits = 0
        self._depth = 0
        self._lowest = _NOWHERE
        """The lowest number that the value being looked at leads back to."""
        self._circles: dict[int, int] = {}
        """What lies in a circle of several, and in which: by the number of whoever was met first."""
        self._inside: list[int] = []
        """The circles that values being looked at lie in."""

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
        circle = self._circles.get(key)
        if key in self._known and (circle is None or circle not in self._inside):
            return self._known[key]
        if key in self._order:
            # By how long ago it was met, which does not depend on where everything began.
            self._lowest = min(self._lowest, self._order[key])
            return _hash(b"again", str(self._visits - self._order[key]).encode())
        self._alive.append(value)
        number = self._order[key] = self._visits
        self._visits += 1
        self._depth += 1
        if circle is not None:
            self._inside.append(circle)
        outer, self._lowest = self._lowest, _NOWHERE
        try:
            # What is nested too deeply for us may not be for pickle.
            found = self._compound(value) if self._depth < _DEEP else self._object(value)
        except RecursionError:
            found = _hash(b"deep", type(value).__qualname__.encode())
        finally:
            self._depth -= 1
            if circle is not None:
                self._inside.pop()
        if self._lowest >= number:
            # Nothing in it leads further up: it is the same wherever it stands.
            self._close(key, number, found)
        self._lowest = min(self._lowest, outer)
        return found

    def _close(self, key: int, number: int, found: bytes) -> None:
        """Keep the digest of what nothing above is needed for, and forget the numbers given on the way."""
        self._known[key] = found
        members = []
        while self._order:
            last, when = self._order.popitem()
            if when < number:
                self._order[last] = when
                break
            members.append(last)
        self._visits = number
        if len(members) > 1:
            # Seen from another of its members a circle looks different.
            for member in members:
                self._circles.setdefault(member, key)
        if not self._order:
            self._lowest = _NOWHERE

    def _compound(self, value: object) -> bytes:
        kind = type(value)
        if kind in (list, tuple):
            if len(value) > _LONG:  # type: ignore[arg-type]
                return self._object(value)
            return _hash(kind.__name__.encode(), *map(self._digest, value))  # type: ignore[call-overload]
        if isinstance(value, (set, frozenset)):
            name = b"set" if kind in (set, frozenset) else self._digest(kind)
            return _hash(name, *sorted(map(self._digest, value)))
        if kind is dict:
            assert isinstance(value, dict)
            return _hash(b"dict", *sorted(self._digest(key) + self._digest(each) for key, each in value.items()))
        for known, look in _LOOKS:
            if isinstance(value, known):
                return look(self, value)
        wrapped = _wrapped(value)
        if wrapped is not None:
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
        if sys.version_info < (3, 11):
            constants = _unqualified(constants)
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
            if isinstance(own, FunctionType) or (type(own) in _CONSTANTS and not name.startswith("__")):
                parts.append(_hash(name.encode(), self._digest(own)))
        if issubclass(kind, enum.Enum):
            parts += [_hash(name.encode(), self._digest(member.value)) for name, member in kind.__members__.items()]
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
            # Pickling runs the user's __reduce__ and __getstate__; in fast mode a cycle is an error too.
            try:
                spelt = self._spelt(_Spelling, value, cautious=cautious)
                if any(code in spelt for code in _SET_CODES):
                    # There may be sets in it, which every process puts in an order of its own.
                    spelt = self._spelt(_SortingSets, value, cautious=cautious)
            except Exception:  # noqa: BLE001, S112 - the next way is tried
                continue
            return _hash(b"object", spelt)
        # Nothing to compare by: a change would have to be in its code.
        return _hash(b"opaque", self._digest(type(value)))

    def _spelt(self, kind: type[_Spelling], value: object, *, cautious: bool) -> bytes:
        file = io.BytesIO()
        pickler = kind(file, self, value)
        # Without its memory a pickle does not depend on which equal parts are one object; but cycles need it.
        pickler.fast = not cautious
        pickler.dump(value)
        return file.getvalue()


class _Spelling(pickle.Pickler):
    """Pickles one object with functions and classes in it as their digests."""

    def __init__(self, file: io.BytesIO, prints: Fingerprints, top: object) -> None:
        super().__init__(file, 5)
        self._prints = prints
        self._top = top

    def reducer_override(self, value: Any) -> Any:
        # Digests are bytes themselves, whose type is written as it is.
        if value is self._top or value is bytes or not (isinstance(value, (set, frozenset)) or _is_code(value)):
            return NotImplemented
        return bytes, (self._prints._digest(value),)


class _SortingSets(_Spelling):
    """Writes sets as their digests too, which takes a look at every single part."""

    def persistent_id(self, value: Any) -> bytes | None:
        plain = value is not self._top and isinstance(value, (set, frozenset))
        return self._prints._digest(value) if plain else None


def _unqualified(constants: tuple[object, ...]) -> tuple[object, ...]:
    """Until 3.10 the qualified name of a function within a function is a constant of the outer one, whose name is of no account."""
    found = list(constants)
    for place in range(1, len(found)):
        inner, name = found[place - 1], found[place]
        if isinstance(inner, CodeType) and isinstance(name, str) and name.endswith(f".<locals>.{inner.co_name}"):
            found[place] = inner.co_name
    return tuple(found)


def _is_code(value: object) -> bool:
    return isinstance(value, (FunctionType, type, MethodType, functools.partial)) or _wrapped(value) is not None


def _wrapped(value: object) -> FunctionType | None:
    """The function behind a decorator that makes an object of it: a task, a cache."""
    # Asking an object for an attribute runs the user's code.
    try:
        found = getattr(value, "__wrapped__", None)
    except Exception:  # noqa: BLE001 - see above
        return None
    return found if isinstance(found, FunctionType) else None


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

_CONSTANTS: Final = frozenset((*_PLAIN, bytes, tuple, frozenset))

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
