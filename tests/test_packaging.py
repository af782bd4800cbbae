from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mpflow

PACKAGE = Path(mpflow.__file__).parent
HEAVY = [
    "asyncio",
    "click",
    "cloudpickle",
    "ctypes",
    "logging",
    "multiprocessing",
    "psutil",
    "rich",
    "sqlite3",
    "subprocess",
    "threadpoolctl",
    "uuid",
]
PUBLIC = [
    "Flow",
    "Task",
    "Parameter",
    "DateTimeParameter",
    "Edge",
    "task",
    "tags",
    "unmapped",
    "mapped",
    "flatten",
    "case",
    "switch",
    "ifelse",
    "merge",
    "context",
    "resource_manager",
    "apply_map",
    "as_task",
    "pause_task",
    "defaults_from_attrs",
    "raise_on_exception",
    "get_logger",
    "MpflowError",
    "__version__",
]


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50).stdout


def test_importing_mpflow_imports_nothing_heavy():
    # Against an empty interpreter: what site-packages itself loads at start is not ours.
    loaded = fresh("import sys; before = set(sys.modules); import mpflow; print(*set(sys.modules) - before)").split()
    assert sorted(set(HEAVY) & set(loaded)) == []


def test_building_a_flow_imports_no_workers():
    code = """
import sys
from mpflow import Flow, Parameter, task
with Flow("f"):
    task(lambda x: x, name="t")(Parameter("p"))
print(*[name for name in ("multiprocessing", "cloudpickle", "psutil", "rich", "click", "subprocess") if name in sys.modules])
"""
    assert fresh(code).split() == []


def test_the_vocabulary_is_reachable_by_dots():
    code = "import mpflow; print(mpflow.triggers.all_failed, mpflow.engine.signals.SKIP, mpflow.engine.state.Success)"
    assert "all_failed" in fresh(code)


def test_public_names():
    assert sorted(mpflow.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there(name):
    assert getattr(mpflow, name) is not None


def test_lazy_names_are_listed_for_type_checkers():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    declared = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.If)
        for inner in node.body
        if isinstance(inner, ast.ImportFrom) and inner.module  # `from . import` names a module
        for alias in inner.names
    }
    eager = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(mpflow.__all__) <= declared | eager | {"__version__"}
    assert declared <= set(mpflow.__all__) | {"Any"}


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no_such_name"):
        mpflow.no_such_name  # noqa: B018


def test_dir_shows_the_public_names():
    assert set(mpflow.__all__) <= set(dir(mpflow))


def test_no_public_name_is_a_module_too():
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert modules & set(mpflow.__all__) - {"__version__"} == set()


def test_no_module_imports_from_the_package_root():
    guilty = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "bundled":
            continue  # scripts for the user to copy
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "mpflow":
                guilty.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
            if isinstance(node, ast.Import) and any(alias.name == "mpflow" for alias in node.names):
                guilty.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert guilty == []


def test_version_is_one_everywhere():
    import importlib.metadata

    assert importlib.metadata.version("mpflow") == mpflow.__version__


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
