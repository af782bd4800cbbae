from __future__ import annotations

from importlib import import_module

import pytest

NAMES = {
    "constants": ["Constant"],
    "collections": ["Dict", "List", "Set", "Tuple"],
    "function": ["FunctionTask"],
    "operators": [
        "Add", "And", "Div", "Equal", "FloorDiv", "GetAttr", "GetItem", "GreaterThan", "GreaterThanOrEqual",
        "LessThan", "LessThanOrEqual", "Mod", "Mul", "Not", "NotEqual", "Or", "Pow", "Sub",
    ],
    "resource_manager": ["ResourceManager", "resource_manager"],
}  # fmt: skip


@pytest.mark.parametrize("module", NAMES)
def test_names_are_where_users_expect_them(module):
    home = import_module(f"mpflow.tasks.core.{module}")
    assert set(NAMES[module]) <= set(home.__all__)
    for name in home.__all__:
        assert getattr(home, name).__name__ == name
