"""What all tests share: nothing may hang, and nothing that a test starts may be left behind."""

from __future__ import annotations

import sys

import hypothesis
import pytest

# Examples are timed on machines that do other things too; pytest-timeout catches what hangs.
hypothesis.settings.register_profile("mpflow", deadline=None, print_blob=True)
hypothesis.settings.load_profile("mpflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what uses Dask last: it changes for good how this process pickles exceptions and what its environment says."""
    items.sort(key=lambda item: "dask" in item.nodeid.lower())
    if "distributed" in sys.modules:
        raise pytest.UsageError("collecting the tests has imported distributed: import it in the test that needs it")
