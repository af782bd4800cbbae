"""How much memory a run takes, and how much there is."""

from __future__ import annotations

from mpflow.report import words


def memory() -> str:
    """Resident memory of this process and all below it, and of the machine, as in "rss 3.1 GB/16.0 GB"; nothing where that cannot be told."""
    # Takes a moment to load, and only who watches asks.
    import psutil

    try:
        own = psutil.Process()
        total = own.memory_info().rss
        for child in own.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:
                pass
        return f"rss {words.size(total)}/{words.size(psutil.virtual_memory().total)}"
    except (psutil.Error, OSError):
        return ""
