"""Table of a full run of the benchmarks of our own code.

    python -m pytest benchmarks/code --full --benchmark-json results.json
    python benchmarks/code/report.py results.json

Prints Markdown. Ends with status 1 if a ratio or an exponent that was asked for is missed, with 2 if there is
nothing to report.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Row = tuple[str, ...]

RATIO_HEADS = ("benchmark", "size", "own", "alternative", "its time", "ratio", "asked", "")
GROWTH_HEADS = ("benchmark", "sizes", "seconds", "exponent", "asked", "")


def told(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        # As it is printed, so that 0.9996 is 1.00 s and not 1000 ms.
        rounded = float(f"{seconds / size:.3g}")
        if rounded >= 1 or unit == "ns":
            break
    return f"{rounded:#.3g}".rstrip(".") + f" {unit}"


def factor(ratio: float) -> str:
    """As many digits as are worth reading."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def name_of(benchmark: Record) -> str:
    """Wing and name: ``bench_screening.py::test_loops[20]`` is ``screening: loops[20]``."""
    file, _, test = benchmark["fullname"].rpartition("::")
    wing = Path(file).stem.removeprefix("bench_").replace("_", " ")
    return f"{wing}: {test.removeprefix('test_').replace('_', ' ')}"


def verdict(found: float | None, asked: float | None, *, most: bool = False) -> str:
    """Tell whether what was asked for is met; empty if nothing was, or nothing was found."""
    if found is None or asked is None:
        return ""
    return "met" if (found <= asked if most else found >= asked) else "MISSED"


def ratio_rows(benchmarks: list[Record]) -> list[Row]:
    """One row an alternative, and one for each benchmark without any."""
    rows: list[Row] = []
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        if "growth" in info:
            continue
        seconds = info.get("seconds", benchmark["stats"]["median"])
        own = (name_of(benchmark), str(info.get("size") or ""), told(seconds))
        for name, other in (info.get("others") or {"": {}}).items():
            ratio, asked = other.get("ratio"), other.get("asked")
            measured = told(other["seconds"]) if ratio is not None else other.get("status", "")
            rows.append(
                (
                    *own,
                    name,
                    measured,
                    "" if ratio is None else factor(ratio),
                    "" if asked is None else factor(asked),
                    verdict(ratio, asked),
                )
            )
    return rows


def growth_rows(benchmarks: list[Record]) -> list[Row]:
    """One row a scaling curve."""
    rows: list[Row] = []
    for benchmark in benchmarks:
        curve = benchmark["extra_info"].get("growth")
        if curve is None:
            continue
        asked = curve["asked"]
        rows.append(
            (
                name_of(benchmark),
                ", ".join(f"{size:,}" for size in curve["sizes"]),
                ", ".join(told(seconds) for seconds in curve["seconds"]),
                f"{curve['exponent']:.2f}",
                "" if asked is None else f"<= {asked:g}",
                verdict(curve["exponent"], asked, most=True),
            )
        )
    return rows


def markdown(heads: Row, rows: list[Row]) -> str:
    """Table with columns of even width."""
    table = [heads, tuple("---" for _ in heads), *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = ("| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in table)
    return "\n".join(lines)


def report(run: Record) -> tuple[str, bool]:
    """Text of a run, and whether all that was asked for is met."""
    benchmarks, machine = run["benchmarks"], run["machine_info"]
    packages = machine.get("packages", {})
    versions = ", ".join(f"{name} {found}" for name, found in packages.items() if found)
    cpu = machine.get("cpu", {})
    load = machine.get("load")
    parts = [
        f"Python {machine['python_version']}, {versions}; {cpu.get('brand_raw', machine['machine'])}, "
        f"{cpu.get('count', '?')} cores"
        + (f", load {load:.1f} at the end" if load is not None else "")
        + ".",
        f"Medians by {machine.get('clock', 'time.perf_counter')} over rounds in which a call and its "
        "alternatives take turns; ratio: alternative / own.",
    ]
    rows = [(RATIO_HEADS, ratio_rows(benchmarks)), (GROWTH_HEADS, growth_rows(benchmarks))]
    parts += [markdown(heads, part) for heads, part in rows if part]
    verdicts = [row[-1] for _, part in rows for row in part]
    missed = verdicts.count("MISSED")
    parts.append(f"{verdicts.count('met')} of {verdicts.count('met') + missed} asked for are met.")
    return "\n\n".join(parts), not missed


def main(arguments: list[str] | None = None) -> int:
    """Print the report of a file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="written by --benchmark-json")
    file = parser.parse_args(arguments).file
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{file}: {error}; write it by --full --benchmark-json {file}", file=sys.stderr)
        return 2
    if not run.get("benchmarks"):
        print(f"{file}: no benchmark in it", file=sys.stderr)
        return 2
    text, met = report(run)
    print(text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
