"""What a benchmark found, as sections of tables; and these as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mechopt.solvers.backend import all_backends
from mechopt.studies.bench import measures
from mechopt.studies.bench.engine import SETTINGS, Limits
from mechopt.studies.bench.families import FAMILIES, get_family
from mechopt.studies.bench.rows import PHASES

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from mechopt.studies.bench.drive import Machine

Mark = Literal["", "best", "bad"]


@dataclass(frozen=True)
class Report:
    """Everything that a report is made of.

    Attributes
    ----------
    rows : DataFrame
        From `mechopt.studies.bench.measures.judged`.
    skipped : dict of (str, str) to str
        By family and backend: why it was not asked.
    limits : Limits
    machine : Machine
    """

    rows: pd.DataFrame
    skipped: dict[tuple[str, str], str]
    limits: Limits
    machine: Machine

    @property
    def families(self) -> list[str]:
        """Families in the order in which they are declared."""
        present = set(self.rows["family"])
        return [family.name for family in FAMILIES if family.name in present]

    @property
    def backends(self) -> list[str]:
        """Backends that were asked anything, in the order of dispatch."""
        present = set(self.rows["backend"])
        known = [backend.name for backend in all_backends() if backend.name in present]
        return known + sorted(present - set(known))

    @property
    def settings(self) -> list[str]:
        """Settings, the loosest first."""
        present = set(self.rows["setting"])
        return [name for name in SETTINGS if name in present]

    @property
    def main_setting(self) -> str:
        """The setting that tables of one setting are about: ``default`` if it was run."""
        return "default" if "default" in self.settings else self.settings[0]

    @property
    def main_rows(self) -> pd.DataFrame:
        """Rows of that setting."""
        return self.rows[self.rows["setting"] == self.main_setting]


@dataclass(frozen=True)
class Entry:
    """A cell of a table that stands out."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True)
class Table:
    """A table of texts; columns from ``first_number`` on are numbers, but for the last ``n_texts``.

    With ``folded`` it is long, and a page may hide it at first.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str | Entry, ...], ...]
    first_number: int = 1
    n_texts: int = 0
    folded: bool = False

    def is_number(self, column: int) -> bool:
        """Whether a column is one of numbers."""
        return self.first_number <= column < len(self.heads) - self.n_texts


@dataclass(frozen=True)
class Section:
    """A heading, what there is to say, tables, and the names of plots for a page that has any."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[str, ...] = ()


def sections(report: Report) -> list[Section]:
    """Return the report, section by section."""
    parts = (
        _summary,
        _times,
        _profiles,
        _accuracy,
        _incentives,
        _phases,
        _scaling,
        _failures,
        _not_asked,
        _machine,
        _limitations,
    )
    return [part(report) for part in parts]


def headline(report: Report) -> str:
    """Tell in a sentence what was measured."""
    rows, machine = report.rows, report.machine
    right = int(rows["correct"].sum())
    cells = _counted(len(rows), "cell", "cells")
    families = _counted(len(report.families), "family", "families")
    backends = _counted(len(report.backends), "backend", "backends")
    return (
        f"{cells}: {families} of programs on {backends}, {right} answered correctly "
        f"({right / len(rows):.0%}). {machine.cores} cores, load {machine.load[0]:.1f} before and "
        f"{machine.load[1]:.1f} after; {_limits(report.limits)}."
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _limits(limits: Limits) -> str:
    runs = f"{limits.runs} timed runs" if limits.runs > 1 else "one timed run"
    return f"time limit {limits.time:g} s, memory limit {limits.memory:g} GiB, {runs} a cell"


# ---------------------------------------------------------------- sections


def _summary(report: Report) -> Section:
    table = measures.rates(report.rows, ["backend", "setting"])
    kinds = _reasons(report.rows)
    rows = []
    for backend in report.backends:
        for setting in report.settings:
            for _, row in table[(table["backend"] == backend) & (table["setting"] == setting)].iterrows():
                wrong = int(row["wrong"])
                rows.append(
                    (
                        backend,
                        setting,
                        f"{row['asked']}",
                        f"{row['success']:.0%}",
                        f"{row['correct']:.0%}",
                        Entry(f"{wrong}", "bad" if wrong else ""),
                        seconds(row["seconds"]),
                        kinds.get((backend, setting), ""),
                    )
                )
    heads = ("backend", "setting", "asked", "success", "correct", "wrong", "time", "not correct, by status")
    told = ", ".join(f"{SETTINGS[s].name} {SETTINGS[s].correct:.0e}" for s in report.settings)
    return Section(
        "Backends",
        (
            "Success: the backend came back in time and called its answer solved. Correct: besides, the "
            "answer passes our checks of the declaration, and its residuals and the distance of its "
            f"objective from the reference are within the tolerance of the setting ({told}). Wrong: called "
            "solved, and not correct. Time: shifted geometric mean of the whole (declare, compile, solve, "
            f"check), a failure counting as the time limit; shift {measures.SHIFT:g} s.",
            "A backend is asked only for programs that it can take, and those differ: compare times within a "
            "family, below, not here.",
        ),
        (Table(heads, tuple(rows), 2, n_texts=1),),
    )


def _reasons(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    told = {}
    for (backend, setting), part in rows[~rows["correct"]].groupby(["backend", "setting"]):
        counts = part["status"].where(~part["checked"], "off the reference").value_counts()
        told[str(backend), str(setting)] = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return told


def _times(report: Report) -> Section:
    table = measures.rates(report.main_rows, ["family", "backend"])
    values = {(row["family"], row["backend"]): row for _, row in table.iterrows()}
    best = table[table["correct"] == 1.0].groupby("family")["seconds"].min()

    def entry(family: str, backend: str) -> str | Entry:
        row = values.get((family, backend))
        if row is None:
            return ""
        if row["correct"] < 1.0:
            return Entry(f"{seconds(row['seconds'])} ({row['correct']:.0%})", "bad")
        return Entry(seconds(row["seconds"]), "best" if row["seconds"] == best.get(family) else "")

    return Section(
        "Times by family",
        (
            f"Shifted geometric mean over sizes and seeds, setting {report.main_setting}; failures count as "
            "the time limit, and the share of correct answers stands in parentheses where it is not all. "
            "Empty: not asked. The fastest of those that were always correct is marked.",
        ),
        (_matrix(report, entry, {"sizes": _sizes}),),
    )


def _profiles(report: Report) -> Section:
    return Section(
        "Performance profiles",
        (
            "By class of program: the share of the instances that a backend solves correctly within a "
            "multiple of the time of the fastest correct one. At 1 it tells how often a backend is the "
            "fastest, at the right how often it is correct at all.",
        ),
        plots=("profiles",),
    )


def _accuracy(report: Report) -> Section:
    rows = report.main_rows
    seen = rows[rows["success"] & ~rows["own"]]
    worst = seen.assign(off=seen["error"].abs()).groupby(["family", "backend"])["off"].max()
    limit = SETTINGS[report.main_setting].correct

    def entry(family: str, backend: str) -> str | Entry:
        value = worst.get((family, backend), math.nan)
        return "" if math.isnan(value) else Entry(small(value), "bad" if value > limit else "")

    kinds = rows.groupby("family")["reference_kind"].agg(lambda kind: ", ".join(sorted(set(kind) - {""})))
    return Section(
        "Accuracy",
        (
            f"Largest distance of the objective from the reference, relative to it, among answers that their "
            f"backend calls solved; setting {report.main_setting}, tolerance {limit:.0e}. An answer "
            "is not measured against itself: the backend exact not against the exact algorithm, and where "
            "the best checked answer stands for a missing reference, the backend that gave it not at all.",
        ),
        (_matrix(report, entry, {"reference": lambda name, _: str(kinds.get(name, ""))}),),
        ("accuracy",),
    )


def _incentives(report: Report) -> Section:
    rows = report.main_rows
    audited = rows[rows["success"] & rows["ic_before"].notna()]
    lines = []
    columns = ("ic_before", "ir_before", "ic_after", "ir_after")
    for (mechanism, backend), part in audited.groupby(["mechanism", "backend"], sort=False):
        lines.append((mechanism, backend, str(len(part)), *(small(part[name].max()) for name in columns)))
    heads = ("mechanism", "backend", "answers", "IC before", "IR before", "IC after", "IR after")
    return Section(
        "Incentives",
        (
            "Worst violation by the definition, relative to the size of the utilities, of answers that their "
            "backend calls solved: what somebody gains by another's contract (IC) or by staying out (IR); "
            "before repair, and after it for mechanisms that have one."
            + ("" if lines else " No answer here was audited."),
        ),
        (Table(heads, tuple(lines), 2, folded=len(lines) > 25),) if lines else (),
    )


def _phases(report: Report) -> Section:
    rows = report.main_rows
    correct = rows[rows["correct"]]
    lines = []
    for backend in report.backends:
        part = correct[correct["backend"] == backend]
        if len(part):
            spent = {phase: float(part[f"{phase}_seconds"].median()) for phase in PHASES}
            ahead = part["build_seconds"] + part["compile_seconds"]
            share = float((ahead / part["seconds"]).median())
            lines.append((backend, str(len(part)), *(seconds(spent[p]) for p in PHASES), f"{share:.0%}"))
    heads = ("backend", "answers", "declare", "compile", "solve", "check", "declare and compile")
    return Section(
        "Compile and solve",
        (
            "Medians over correct answers. Compiling turns the declaration into what the solver takes; the "
            "last column is its share of the whole, with declaring. The plot has a point for each answer; "
            "above the diagonal the solver takes longer than compiling. What does not compile is not in it.",
        ),
        (Table(heads, tuple(lines)),),
        ("phases",),
    )


def _scaling(report: Report) -> Section:
    fits = measures.growths(report.main_rows)

    def entry(family: str, backend: str) -> str | Entry:
        return str(fits.get((family, backend), ""))

    return Section(
        "Scaling",
        (
            "Exponent p of time ~ size^p, fitted by least squares on logarithms to the times of correct "
            "answers, with its 95% interval. At small sizes most of the time is overhead that does not grow, "
            "and the exponent then understates growth; three sizes leave the interval wide.",
        ),
        (_matrix(report, entry, {"size counts": lambda name, _: get_family(name).counts}),),
        ("scaling",),
    )


def _failures(report: Report) -> Section:
    rows = report.rows
    failed = rows[~rows["correct"]]
    lines = []
    for _, row in failed.iterrows():
        status = row["status"]
        reason = row["reason"]
        if row["checked"]:
            status, reason = "off", f"the objective is off the {row['reference_kind']} by {row['error']:+.1e}"
        where = f"{row['size']}, seed {row['seed']}"
        lines.append((row["family"], where, row["backend"], row["setting"], status, reason))
    heads = ("family", "size", "backend", "setting", "status", "reason")
    told = (
        f"{len(lines)} of {len(rows)} cells have no correct answer." if lines else "Every answer is correct."
    )
    tables = (Table(heads, tuple(lines), 6, folded=len(lines) > 25),) if lines else ()
    return Section("Failures", (told,), tables)


def _not_asked(report: Report) -> Section:
    grouped: dict[tuple[str, str], list[str]] = {}
    for (family, backend), why in report.skipped.items():
        grouped.setdefault((backend, why), []).append(family)
    lines = tuple((backend, why, ", ".join(names)) for (backend, why), names in sorted(grouped.items()))
    if not lines:
        return Section("Not asked", ("Every backend was asked for everything.",))
    table = Table(("backend", "why", "families"), lines, 3, folded=len(lines) > 25)
    return Section("Not asked", ("What a backend cannot take is not counted against it.",), (table,))


def _machine(report: Report) -> Section:
    machine = report.machine
    cpus = ", ".join(sorted(set(report.rows["cpu"])))
    when = sorted(report.rows["when"])
    lines = [
        ("processor", f"{cpus}, {machine.cores} cores"),
        ("threads", "1 for linear algebra"),
        ("load", f"{machine.load[0]:.1f} before, {machine.load[1]:.1f} after"),
        ("measured", f"{when[0]} to {when[-1]}; this go took {machine.minutes:.1f} min"),
        *((name, version or "not installed") for name, version in machine.versions.items()),
    ]
    solvers = [
        (name, version or "part of mechopt")
        for name, version in machine.backends.items()
        if name in report.backends
    ]
    return Section(
        "Machine and versions",
        (),
        (Table(("what", "value"), tuple(lines), 2), Table(("backend", "solver version"), tuple(solvers), 2)),
    )


def _limitations(report: Report) -> Section:
    machine = report.machine
    busy = max(machine.load) > 1.0
    told = [
        "Times are wall times of one job at a time, after a warm-up of the same backend on the smallest "
        "instance of the family: what a first call costs is left out.",
        (
            f"The machine was busy with other work (load {max(machine.load):.1f} on {machine.cores} cores): "
            "these times tell orders of magnitude, not differences of a few tens of percent."
            if busy
            else "The load was low, so that times are the benchmark's own."
        ),
        f"A process that does not answer within {report.limits.patience:g} s is stopped. The memory limit is "
        "one of address space beyond what the libraries take at the start, and works on Linux only.",
        "Backends run with the options that the package gives them for the tolerance asked; none is tuned "
        "to a family.",
        "Errors are relative to the value of the reference. A backend's own guarantee is relative to the "
        "terms of the objective, which can be larger where they cancel.",
        "The reference of kind 'exact algorithm' is what the backend exact computes, and tells nothing "
        "about that one. Where the best checked answer stands in for a reference, it can show others "
        "wrong, not right.",
        "Local solvers are right on nonconvex programs only as far as their start leads them there.",
        "Below some 10 ms most of the time is spent in declaring, compiling and checking, in Python.",
    ]
    return Section("Known limitations", tuple(told))


# ---------------------------------------------------------------- parts of tables


def _sizes(family: str, report: Report) -> str:
    rows = report.main_rows
    return ", ".join(str(size) for size in sorted(set(rows[rows["family"] == family]["size"])))


def _matrix(
    report: Report,
    entry: Callable[[str, str], str | Entry],
    more: dict[str, Callable[[str, Report], str]],
) -> Table:
    """A row a family, a column a backend, and further columns of text in between."""
    heads = ("family", *more, *report.backends)
    rows = tuple(
        (
            family,
            *(tell(family, report) for tell in more.values()),
            *(entry(family, backend) for backend in report.backends),
        )
        for family in report.families
    )
    return Table(heads, rows, 1 + len(more))


def seconds(value: float) -> str:
    """Tell seconds in three digits, with a unit that fits.

    Examples
    --------
    >>> seconds(0.01234), seconds(2.0), seconds(250.0), seconds(float("nan"))
    ('12.3 ms', '2 s', '250 s', '')
    """
    if math.isnan(value):
        return ""
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def small(value: float) -> str:
    """Tell a number near zero by its size; ``""`` for none."""
    return "" if math.isnan(value) else "0" if value == 0 else f"{value:.0e}"


# ---------------------------------------------------------------- the terminal


def show(report: Report, console: Console) -> None:
    """Print the table of backends, on 80 columns."""
    from rich import box
    from rich.table import Table as Grid

    (table,) = _summary(report).tables
    grid = Grid(box=box.SIMPLE, pad_edge=False)
    for k, head in enumerate(table.heads[:-1]):
        grid.add_column(head, justify="right" if table.is_number(k) else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*(entry.text if isinstance(entry, Entry) else entry for entry in row[:-1]))
    console.print(grid)
    console.print(headline(report), highlight=False)


# ---------------------------------------------------------------- Markdown


def markdown(report: Report) -> str:
    """Write the report as Markdown; plots are on the page alone."""
    lines = ["# Benchmark of backends", "", _escaped(headline(report)), ""]
    for section in sections(report):
        lines += [f"## {section.title}", ""]
        as_list = section.title == "Known limitations"
        for paragraph in section.text:
            lines += [f"- {_escaped(paragraph)}"] if as_list else [_escaped(paragraph), ""]
        if as_list:
            lines.append("")
        for table in section.tables:
            lines += [*_lines(table), ""]
        if section.plots:
            lines += ["See the plot in [report.html](report.html).", ""]
    return "\n".join(lines).rstrip() + "\n"


def _lines(table: Table) -> Iterable[str]:
    yield "| " + " | ".join(map(_escaped, table.heads)) + " |"
    yield "|" + "".join("---:|" if table.is_number(k) else "---|" for k in range(len(table.heads)))
    for row in table.rows:
        yield "| " + " | ".join(map(_marked, row)) + " |"


def _marked(entry: Any) -> str:
    if isinstance(entry, Entry):
        text = _escaped(entry.text)
        return f"**{text}**" if entry.mark == "best" and text else text
    return _escaped(str(entry))


def _escaped(text: str) -> str:
    """Keep Markdown from reading marks in plain text."""
    for mark in ("\\", "*", "_", "`", "<", "[", "|", "~"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
