"""The table of a run, as text."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Row

_HEAD = (
    "workload",
    "contender",
    "tasks",
    "wall µs/task",
    "best",
    "main CPU",
    "worker CPU",
    "main MB",
    "tree MB",
    "÷ mpflow's",
    "",
)
_LEFT = (0, 1, len(_HEAD) - 1)


def ratios(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """How many times mpflow's time (or work, where sizes differ) each contender needs, by workload and contender."""
    ours = {row.workload: row for row in rows if row.contender == "mpflow"}
    rivals = {row.workload for row in rows if row.contender != "mpflow"}
    found = {}
    for row in rows:
        if row.workload not in rivals:
            continue
        base = ours.get(row.workload)
        if "ratio" in row.extra:
            found[row.workload, row.contender] = float(row.extra["ratio"])
        elif base is None or not row.wall:
            continue
        elif "gigabytes_per_second" in row.extra:
            found[row.workload, row.contender] = base.extra["gigabytes_per_second"] / row.extra["gigabytes_per_second"]
        else:
            found[row.workload, row.contender] = row.wall / base.wall
    return found


def table(rows: Sequence[Row]) -> str:
    """Lay rows out as text, with each rival's time as a multiple of mpflow's."""
    lines: list[tuple[str, ...]] = [_HEAD]
    times = ratios(rows)
    before = None
    for row in rows:
        ratio = times.get((row.workload, row.contender))
        lines.append(
            (
                row.workload if row.workload != before else "",
                row.contender,
                f"{row.tasks}",
                _number(row.wall),
                _number(row.wall_best),
                _number(row.coordinator_cpu),
                _number(row.workers_cpu),
                _megabytes(row.extra.get("main_bytes")),
                _megabytes(row.extra.get("tree_bytes")),
                f"{ratio:.2f}" if ratio is not None else "",
                note(row),
            )
        )
        before = row.workload
    used = [column for column in range(len(_HEAD)) if any(line[column] not in ("", "-") for line in lines[1:])]
    widths = {column: max(len(line[column]) for line in lines) for column in used}
    return "\n".join(
        "  ".join(
            line[column].ljust(widths[column]) if column in _LEFT else line[column].rjust(widths[column])
            for column in used
        ).rstrip()
        for line in lines
    )


def note(row: Row) -> str:
    """What the last column says."""
    parts = [str(row.extra["note"])] if row.extra.get("note") else []
    others = row.extra.get("others_cores", 0.0)
    if others > 0.1 and "efficiency" not in row.extra:
        parts.append(f"others used {others:.1f} cores")
    return "; ".join(parts)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.0f}"
