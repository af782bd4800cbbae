"""The run store in the hands of the command line: every run is kept, under an id and a name that are told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from mpflow.cli.complaint import Complaint
from mpflow.cli.stores import flags, made_ready, store_path
from mpflow.cli.targets import directory_of, full_name
from mpflow.errors import FlowError, StoreError
from mpflow.runtime.run_names import new_run_id, new_run_name
from mpflow.store import NullStore, SQLiteStore
from mpflow.store.facts import Run
from mpflow.store.reading import Reader


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a run is kept."""

    path: str
    run_id: str
    name: str
    short: str
    there: bool
    """Whether the store had the run before."""

    def read(self) -> tuple[Reader, Run] | None:
        """Open the store and find the run in it; None where it is not there, or cannot be read."""
        try:
            reader = Reader(self.path)
        except StoreError:
            return None
        try:
            return reader, reader.find(self.run_id)
        except (FlowError, StoreError):
            reader.close()
            return None


def keep(
    arguments: dict[str, object], target: str, *, store: str | None, no_store: bool, run_id: str | None, resume: bool
) -> Kept | None:
    """Put a store, an id and a name among the arguments of a run; None for a run that is not kept by us.

    What stands in the flow's file counts where nothing was typed. Raises Complaint.
    """
    if no_store:
        if store is not None or run_id is not None or resume:
            raise Complaint("--no-store keeps nothing, so --store, --run-id and --resume do not go with it")
        for name in ("run_id", "resume", "rerun"):
            arguments.pop(name, None)
        arguments["store"] = NullStore()
        return None
    given = arguments.get("store") if store is None else None
    if given is None:
        given = made_ready(store_path(store, directory_of(target)))
    if isinstance(given, (str, os.PathLike)):
        given = SQLiteStore(os.path.expanduser(os.fspath(given)))
    arguments["store"] = given
    if not isinstance(given, SQLiteStore):
        return None
    given.target = given.target or full_name(target)
    if resume:
        if run_id is None and arguments.get("run_id") is None:
            raise Complaint(
                "--resume goes with --run-id; to go on with a run that is there, `mpflow resume RUN` will do"
            )
        arguments["resume"] = True
    chosen = run_id or str(arguments.get("run_id") or new_run_id())
    name = str(arguments.get("flow_run_name") or new_run_name())
    arguments["run_id"], arguments["flow_run_name"] = chosen, name
    return _met(given.path, chosen, name, resumes=bool(arguments.get("resume")))


def _met(path: str, run_id: str, name: str, *, resumes: bool) -> Kept:
    """Look whether the store has the run already."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return Kept(path, run_id, name, run_id[:4] if len(run_id) == 32 else run_id, there=False)
    try:
        with Reader(path) as reader:
            short = reader.short(run_id)
            there = next((run for run in reader.named(run_id)), None)
    except StoreError as error:
        raise Complaint(str(error)) from None
    if there is None:
        return Kept(path, run_id, name, short, there=False)
    if not resumes:
        raise Complaint(
            f"the run store {path} has a run {run_id!r} already; `mpflow resume{flags(path)} {short}` goes on with it, "
            "another --run-id begins another"
        )
    return Kept(path, run_id, there.name, short, there=True)


def show_header(out: Console, flow: str, kept: Kept | None, where: str, *, rest: str = "") -> None:
    """Say what begins."""
    line = Text(flow, style="bold")
    if kept is not None:
        line.append(" · run ", style="not bold")
        line.append(kept.name if kept.name != kept.short else kept.short, style="not bold")
        if kept.name != kept.short:
            line.append(f" ({kept.short})", style="not bold")
    line.append(f" · {where}", style="not bold")
    if rest:
        line.append(f" · {rest}", style="not bold")
    out.print(line)


def options_before(run: Run) -> Mapping[str, object]:
    """The options that a run had when a process last worked on it."""
    options = run.facts.get("options")
    return options if isinstance(options, Mapping) else {}
