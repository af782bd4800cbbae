"""Builds the modules that every task passes through as C extensions, with mypyc, where the machine at hand can.

MPFLOW_COMPILE decides: 0 leaves everything in Python; 1 makes it an error where compiling fails; without it a wheel is
compiled where there is a C compiler, and left in Python, with a warning, where that comes to nothing. An editable install
is compiled with 1 only, beside the sources, for what is compiled hides every later change of them; without 1 it takes
away what an earlier one has left there.

The sources go into the wheel in any case: tracebacks show their lines.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

# What mpflow imports need not be there, and its types are no concern here.
ARGUMENTS = ["--config-file=", "--no-site-packages", "--ignore-missing-imports", "--no-error-summary"]
setup(
    name="mpflow",
    packages=[],
    ext_modules=mypycify([*ARGUMENTS, *{modules!r}], opt_level="3", debug_level="0", group_name="mpflow"),
)
"""
_NEEDED = ["mypy>=2.1", "setuptools>=77"]


class Compiling(BuildHookInterface[Any]):
    """What hatchling asks before it builds."""

    def dependencies(self) -> list[str]:
        """Ask for the compiler's own packages, where it would be of use."""
        return [] if self._wish() == "0" or self._obstacle() else _NEEDED

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add what comes of it to the wheel. Raises RuntimeError where that was demanded and fails."""
        wish = self._wish()
        root = Path(self.root)
        editable = version == "editable"
        if editable:
            self._clean(root)
        if wish == "0" or (editable and wish != "1"):
            return
        try:
            obstacle = self._obstacle()
            if obstacle:
                raise RuntimeError(obstacle)
            with tempfile.TemporaryDirectory() as folder:
                libraries = self._compiled(Path(folder))
                kept = root if editable else Path(self.directory) / "compiled"
                for library in libraries:
                    target = kept / library.relative_to(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(library, target)
                    if not editable:
                        build_data["force_include"][str(target)] = str(library.relative_to(folder))
        except (OSError, RuntimeError) as error:
            if wish == "1":
                raise RuntimeError(f"mpflow cannot be compiled, as MPFLOW_COMPILE=1 demands: {error}") from error
            self.app.display_warning(f"mpflow is left in Python, and slower for it: {error}")
            return
        if not editable:
            build_data["infer_tag"] = True
            build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Take away what only the wheel was to hold."""
        shutil.rmtree(Path(self.directory) / "compiled", ignore_errors=True)

    def _wish(self) -> str:
        wish = os.environ.get("MPFLOW_COMPILE", "")
        if wish not in {"", "0", "1"}:
            raise RuntimeError(
                f"MPFLOW_COMPILE is {wish!r}: 0 is never, 1 is always; leave it out for where it is possible"
            )
        return wish

    def _obstacle(self) -> str | None:
        if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
            return "only CPython with its global lock runs what mypyc makes"
        command = os.environ.get("CC", "").strip() or sysconfig.get_config_var("CC") or "cc"
        try:
            compiler = shlex.split(command)[0]
        except ValueError as error:
            return f"CC is {command!r}, which is no command ({error})"
        if shutil.which(compiler) is None:
            return f"there is no C compiler ({compiler})"
        header = Path(sysconfig.get_path("include")) / "Python.h"
        return None if header.exists() else f"there is no {header}; Python's headers are missing"

    def _compiled(self, folder: Path) -> list[Path]:
        """Translate and compile a copy of the package in a folder; return the libraries."""
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(Path(self.root) / "mpflow", folder / "mpflow", ignore=ignored)
        (folder / "setup.py").write_text(_SETUP.format(modules=self.config["modules"]), encoding="utf-8")
        # PEP 517 front ends show what is printed only where something fails.
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"mypyc or the C compiler failed:\n{done.stdout[-4000:]}")
        return sorted([*folder.glob("*.so"), *(folder / "mpflow").rglob("*.so")])

    @staticmethod
    def _clean(root: Path) -> None:
        for library in (*root.glob("mpflow__mypyc.*.so"), *(root / "mpflow").rglob("*.so")):
            library.unlink()
