"""Parameters as they are typed on a command line or kept in a file."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Collection, Iterable, Mapping

from mpflow.authoring.parameter import Parameter
from mpflow.cli.complaint import Complaint


def read_value(text: str) -> object:
    """Read a value as JSON, else as a Python literal, else as the text it is."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return value
    try:
        literal: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return literal


def read_pairs(pairs: Iterable[str]) -> dict[str, object]:
    """Read `name=value` pairs; the last one of a name wins."""
    found: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise Complaint(f"-p {pair!r} is not of the form name=value")
        found[name.strip()] = read_value(text)
    return found


def read_limits(pairs: Iterable[str]) -> dict[str, float]:
    """Read `name=number` pairs; the last one of a name wins."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            raise Complaint(f"--limit {pair!r} is not of the form name=number, as in --limit db=2") from None
    return found


def read_file(path: str) -> dict[str, object]:
    """Read a JSON or TOML file that holds one table of parameters."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise Complaint(f"parameter file {path} cannot be read: {error.strerror}") from error
    kind = os.path.splitext(path)[1].lower()
    try:
        table: object = _toml(data) if kind == ".toml" else json.loads(data)
    except ValueError as error:
        raise Complaint(
            f"parameter file {path} is not valid {'TOML' if kind == '.toml' else 'JSON'}: {error}"
        ) from error
    if not isinstance(table, dict):
        raise Complaint(
            f"parameter file {path} holds a {type(table).__name__}; it must hold one table of names and values"
        )
    return table


def _toml(data: bytes) -> dict[str, object]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    table: dict[str, object] = tomllib.loads(data.decode())
    return table


def check_names(given: Mapping[str, object], known: Mapping[str, bool], flow_name: str) -> None:
    """Complain about parameters that a flow does not know, and about required ones that are not given.

    `known` says of each parameter's name whether it is required.
    """
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        has = f"its parameters are {_listed(known)}" if known else "it has no parameters"
        raise Complaint(f"flow {flow_name!r} has no parameter {_listed(unknown)}; {has}")
    missing = [name for name, required in known.items() if required and name not in given]
    if missing:
        raise Complaint(f"flow {flow_name!r} needs a value for {_listed(missing)}; give it as -p {missing[0]}=VALUE")


def check_values(parameters: Iterable[Parameter], given: Mapping[str, object]) -> None:
    """Complain about a value that a parameter can make nothing of, such as text that is no time."""
    for parameter in parameters:
        if parameter.name in given:
            # A parameter may be of a class of the user's.
            try:
                parameter.value_from(given)
            except Exception as error:  # noqa: BLE001 - see above
                raise Complaint(str(error) or f"parameter {parameter.name!r}: {type(error).__name__}") from None


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
