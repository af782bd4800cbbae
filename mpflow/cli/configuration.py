"""`mpflow config`: each setting, its value, and where it comes from."""

from __future__ import annotations

import json
import os

from rich.text import Text

from mpflow.cli.complaint import Complaint
from mpflow.cli.stores import store_path
from mpflow.cli.streams import say
from mpflow.cli.tables import show_table
from mpflow.errors import FlowError
from mpflow.report.streams import console
from mpflow.runtime import settings

_OTHERS = ("MPFLOW_HOME", "MPFLOW_POOL")
"""Variables that begin like settings and are none."""


def show_settings(target: str | None, *, as_json: bool) -> int:
    """Print the settings that hold for a flow's file, or where we stand; return the exit code."""
    start = os.path.dirname(os.path.abspath(target.partition(":")[0])) if target else os.getcwd()
    if not os.path.isdir(start):
        raise Complaint(f"there is no directory {start}; name a flow's file, or nothing for the directory you are in")
    try:
        with settings.looking_from(start):
            found = {name: settings.find(name) for name in settings.SETTINGS}
            files = settings.files()
    except FlowError as error:
        raise Complaint(str(error)) from None
    if found["store"].value is None:
        path = store_path(None, start)
        at_home = os.path.dirname(path) == settings.home()
        source = "default, as there is no .mpflow directory above" if at_home else "the nearest .mpflow directory"
        found["store"] = settings.Found(path, source)
    strangers = sorted(
        name
        for name in os.environ
        if name.startswith("MPFLOW_")
        and name not in _OTHERS
        and name not in [settings.variable(each) for each in settings.SETTINGS]
    )
    if as_json:
        say(
            json.dumps(
                {
                    "settings": {name: {"value": each.value, "source": each.source} for name, each in found.items()},
                    "home": settings.home(),
                    "files": files,
                    "unknown_variables": strangers,
                },
                indent=2,
            )
        )
        return 0
    out = console()
    show_table(
        out,
        ("SETTING", "VALUE", "FROM", "MEANS"),
        (
            (
                Text(name, style="bold"),
                "" if each.value is None else _told(each.value),
                Text(each.source, style="dim" if each.source.startswith("default") else ""),
                Text(settings.SETTINGS[name].what, style="dim"),
            )
            for name, each in found.items()
        ),
    )
    out.print()
    out.print(f"home: {settings.home()}")
    out.print(f"files read: {', '.join(files) if files else 'none'}")
    for name in strangers:
        out.print(Text(f"{name} is set, but it is no setting of mpflow", style="yellow"))
    return 0


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={amount:g}" for name, amount in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)
