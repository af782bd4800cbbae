"""Keep a run as last.json and write its tables into benchmarks/README.md: `python -m benchmarks.readme [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.aims import AIMS
from benchmarks.report import ratios, table
from benchmarks.run import LAST, Run, read

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- measured: written by `python -m benchmarks.readme` -->", "<!-- end of what was measured -->"


def section(run: Run) -> str:
    """What stands between the two marks."""
    about = run.machine
    quick = ", **small sizes: these figures only show that everything runs**" if about["quick"] else ""
    compiled = "compiled" if about.get("compiled") else "in Python"
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if name != "mpflow")
    lines = [
        f"{about['date']}, commit {about['commit']}, Python {about['python']}, mpflow {compiled}, {about['platform']}, {about['cpu']}, "
        f"{about['cores']} cores, {about['memory_gb']} GB, {about['workers']} workers{quick}. "
        f"All of it took {about['seconds']} s." + (f" Beside it: {versions}." if versions else ""),
        "",
        *(f"- {line}" for line in run.skipped),
        *([""] if run.skipped else []),
        *_aims(run),
        "",
        *_losses(run),
        "",
        "```text",
        table(run.rows),
        "```",
    ]
    return "\n".join(lines)


def _aims(run: Run) -> list[str]:
    lines = ["| workload | figure | asked | measured | met |", "|---|---|---|---|---|"]
    for aim in AIMS:
        figure = aim.read(run.rows)
        if figure is not None:
            measured, met = aim.words(figure), "yes" if aim.met(figure) else "**no**"
        elif any(row.workload == aim.workload and "efficiency" in row.extra for row in run.rows):
            measured, met = "void", "–"
        else:
            continue
        asked = f"{'≥' if aim.least else '≤'} {aim.asked:g} {aim.unit}".strip()
        lines.append(f"| {aim.workload} | {aim.what} | {asked} | {measured} | {met} |")
    return lines


def _losses(run: Run) -> list[str]:
    lost: dict[str, list[str]] = {}
    for (workload, contender), times in ratios(run.rows).items():
        # What has no processes is no pool, and efficiency is compared by itself below.
        if contender == "one process" or workload.startswith(("W6", "W9", "import")):
            continue
        if times < 1:
            lost.setdefault(workload, []).append(f"{contender} ({times:.2f} of mpflow's time)")
    for workload in dict.fromkeys(row.workload for row in run.rows if row.workload.startswith("W6")):
        figures = {
            row.contender: row.extra["efficiency"]
            for row in run.rows
            if row.workload == workload and row.extra.get("efficiency") is not None
        }
        ours = figures.pop("mpflow", None)
        if ours is not None:
            better = [f"{name} (efficiency {figure:.3f})" for name, figure in figures.items() if figure > ours]
            if better:
                lost[f"{workload} ({ours:.3f})"] = better
    if not lost:
        return ["No contender was faster than mpflow in this run."]
    return ["**Faster than mpflow in this run:**", "", *(f"- {work}: {', '.join(who)}" for work, who in lost.items())]


def update(run: Run) -> None:
    """Put the run's section into the README. Raises ValueError if the two marks are not there."""
    text = README.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{README} does not hold the lines {BEGIN!r} and {END!r}")
    README.write_text(f"{before}{BEGIN}\n\n{section(run)}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Keep the run of a file, where one is named, and write its tables."""
    run = read(Path(sys.argv[1]) if len(sys.argv) > 1 else LAST)
    run.write(LAST)
    update(run)


if __name__ == "__main__":
    main()
