"""Sweeps over a scenario: a grid of its parameters by dotted path, measures by name, plots; all in TOML."""

from __future__ import annotations

import copy
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Status
from mechopt.studies.run import plain, run_study
from mechopt.studies.scenario import KINDS, BaseScenario, Table, as_floats, explain
from mechopt.studies.sweep import Progress, sweep
from mechopt.studies.sweep_plots import plot_heat_map, plot_lines

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from rich.console import Console

STORE = "cells.jsonl"
_LISTED = 5
"""Reasons of failures that are printed."""


class Range(Table):
    """Evenly spaced values of a parameter, or evenly spaced logarithms."""

    start: float
    stop: float
    count: int = Field(ge=1, le=1_000_000)
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _positive(self) -> Range:
        if self.scale == "log" and not (self.start > 0 and self.stop > 0):
            raise ValueError("a range on a log scale needs start > 0 and stop > 0")
        return self

    def values(self) -> list[float] | list[int]:
        """Return the values; whole numbers where all of them are."""
        spaced = np.geomspace if self.scale == "log" else np.linspace
        values = [float(value) for value in spaced(self.start, self.stop, self.count)]
        return [int(value) for value in values] if all(value == int(value) for value in values) else values


class MeasureOf(Table):
    """What to keep of a cell: a value of the solution, or the shadow price of a family.

    For a kind of scenario that is simulated, ``value`` is the dotted path of a number in its record.
    """

    value: str | None = None
    price: str | None = None
    index: int | None = None

    @model_validator(mode="after")
    def _one_source(self) -> MeasureOf:
        if (self.value is None) == (self.price is None):
            raise ValueError("give either `value` or `price`")
        return self

    def __call__(self, mechanism: Any, answer: Any) -> Any:
        """Take it from an answer."""
        if self.price is not None:
            found = answer.dual(self.price)
            array = np.concatenate([np.ravel(part) for part in found]) if isinstance(found, tuple) else found
        else:
            array = answer[self.value]
        array = np.asarray(array)
        if self.index is None:
            return array
        flat = array.ravel()
        if not -flat.size <= self.index < flat.size:
            raise InvalidInput(f"index {self.index} is outside of its {flat.size} entries")
        return flat[self.index]


class Plot(Table):
    """A figure: ``x``, ``y`` and perhaps ``lines`` draw curves; ``x``, ``y`` and ``colour`` a heat map."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    x: str
    y: str
    lines: str | None = None
    colour: str | None = None
    at: dict[str, float | str] = Field(default_factory=dict)
    average: list[str] = Field(default_factory=list)
    title: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> Plot:
        if self.lines is not None and self.colour is not None:
            raise ValueError("`lines` draws curves, `colour` a heat map; give one of them")
        return self

    def draw(self, results: xr.Dataset, labels: Mapping[str, str]) -> Figure:
        """Draw it."""
        rest: dict[str, Any] = {
            "at": self.at,
            "average": tuple(self.average),
            "labels": labels,
            "title": self.title,
        }
        if self.colour is not None:
            return plot_heat_map(results, self.x, self.y, self.colour, **rest)
        return plot_lines(results, self.x, self.y, self.lines, **rest)


class SweepTable(Table):
    """The table ``[sweep]`` of a scenario.

    Attributes
    ----------
    grid : dict
        By dotted path: a list of numbers or strings, a range, or a table of labels and values of any kind.
    zip : list of lists of paths
        Parameters that move together.
    backend : str, optional
        By default the one that the scenario names, if it names one; else the capable one of least rank.
    measures : dict of str to MeasureOf
    labels : dict of str to str
        What plots call paths and measures, with their units.
    plots : list of Plot
    """

    grid: dict[str, Any] = Field(min_length=1)
    zip: list[list[str]] = Field(default_factory=list)
    backend: str | None = None
    measures: dict[str, MeasureOf] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    plots: list[Plot] = Field(default_factory=list)

    @model_validator(mode="after")
    def _each_once(self) -> SweepTable:
        twice = [name for name, count in Counter(plot.name for plot in self.plots).items() if count > 1]
        if twice:
            raise ValueError(f"two plots are named {twice[0]!r}, and one would overwrite the other")
        known = ("objective", "seconds", *self.measures)
        for plot in self.plots:
            name = plot.y if plot.colour is None else plot.colour
            if name not in known:
                raise ValueError(f"plot {plot.name!r}: no measure {name!r}; there are {', '.join(known)}")
            self._check_places(plot)
        return self

    def _check_places(self, plot: Plot) -> None:
        """Refuse a plot that could not be drawn once all is done."""
        inner = {name for group in self.zip for name in group[1:]}
        dims = [path for path in self.grid if path not in inner]
        drawn = [plot.x, plot.lines if plot.colour is None else plot.y]
        used = [*(path for path in drawn if path is not None), *plot.at, *plot.average]
        for path in used:
            # Axes of arrays are called entry, entry_2 ...
            if path not in dims and not path.startswith("entry"):
                raise ValueError(f"plot {plot.name!r}: {path!r} is no dimension; there are {', '.join(dims)}")
        left = [path for path in dims if path not in used]
        if left:
            raise ValueError(
                f"plot {plot.name!r} leaves {', '.join(left)} without a place: give each a value in `at`, or "
                "`average` over it"
            )


def override(content: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a scenario's content with one entry changed.

    Parameters
    ----------
    content : mapping
        Of the TOML file.
    path : str
        Keys joined by dots. An entry of a list is given by its position, or by its ``family`` or ``name``.
    value : object

    Raises
    ------
    InvalidInput
        If the path leads through something that has no entries, or names no entry of a list.
    """
    changed = copy.deepcopy(dict(content))
    inside: Any = changed
    *way, last = path.split(".")
    for key in way:
        if isinstance(inside, list):
            inside = inside[_position(inside, key, path)]
        else:
            inside = inside.setdefault(key, {})
        if not isinstance(inside, dict | list):
            raise InvalidInput(f"sweep: {path!r} leads through {key!r}, which is {inside!r} and no table")
    inside[_position(inside, last, path) if isinstance(inside, list) else last] = value
    return changed


def _position(entries: list[Any], key: str, path: str) -> int:
    if key.isdecimal() and int(key) < len(entries):
        return int(key)
    names = [e.get("family", e.get("name")) if isinstance(e, dict) else None for e in entries]
    if key in names:
        return names.index(key)
    listed = ", ".join(str(name) for name in names if name is not None)
    raise InvalidInput(
        f"sweep: {path!r}: there is no entry {key!r} among {len(entries)}" + (f": {listed}" if listed else "")
    )


@dataclass(frozen=True)
class StudyAnswer:
    """What a simulated scenario found: every number of its record, by dotted path."""

    values: dict[str, Any]
    status: Status | None
    reason: str
    backend: str = "study"

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            near = get_close_matches(name, self.values, n=5, cutoff=0.3)
            raise InvalidInput(f"no {name!r} in the record; near it: {', '.join(near) or 'nothing'}")
        return self.values[name]


@dataclass(frozen=True)
class Study:
    """A scenario that is run as a whole: its kind declares no single program."""

    scenario: BaseScenario
    folder: str

    def solve(self) -> StudyAnswer:
        """Run it."""
        report: Any = run_study(self.scenario, Path(self.folder))
        bad = [check.name for check in getattr(report, "checks", ()) if not check.passed]
        reason = "" if report.agreement else f"checks failed: {', '.join(bad) or 'backends disagree'}"
        status = None if report.agreement else Status.INACCURATE
        return StudyAnswer(dict(_flat(plain(report.record()))), status, reason)


def _flat(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and list of numbers, by the path that `override` would take."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, list) and not all(isinstance(entry, int | float) for entry in content):
        for number, value in enumerate(content):
            name = value.get("family", value.get("name")) if isinstance(value, dict) else None
            yield from _flat(value, f"{path}.{number if name is None else name}")
    elif isinstance(content, int | float | list):
        yield path, content


@dataclass(frozen=True)
class ScenarioFactory:
    """Makes what a scenario says at a point of the grid: its content and a folder, so that it travels.

    Attributes
    ----------
    content : dict
        Of the TOML file, without its table ``[sweep]``.
    folder : str
        What the scenario's own paths are relative to.
    """

    content: dict[str, Any]
    folder: str

    def scenario(self, point: Mapping[str, Any]) -> Any:
        """Return the scenario with these entries changed.

        Raises
        ------
        InvalidInput
            If it then breaks a rule.
        """
        content: Any = self.content
        for path, value in point.items():
            content = override(content, path, value)
        try:
            return KINDS[content["mechanism"]].model_class().model_validate(as_floats(content))
        except ValidationError as error:
            raise InvalidInput("; ".join(map(explain, error.errors()))) from None

    def __call__(self, **point: Any) -> Any:
        """Return its program, or the study itself where the kind has no single program."""
        scenario = self.scenario(point)
        if not hasattr(scenario, "declare"):
            return Study(scenario, self.folder)
        return scenario.declare(scenario.parameters.build(Path(self.folder)))


@dataclass(frozen=True)
class SweepScenario:
    """A scenario and its sweep, as read from a file."""

    title: str
    base: Any
    factory: ScenarioFactory
    table: SweepTable

    @property
    def grid(self) -> dict[str, Any]:
        """The grid as `sweep` takes it."""
        return {path: _values(path, given) for path, given in self.table.grid.items()}

    def run(self, out: Path, *, n_jobs: int = 1, progress: bool | Progress = True) -> SweepReport:
        """Do the sweep, or go on with it: its cells are kept in ``out / "cells.jsonl"``."""
        base = self.base
        named = getattr(base, "backends", "all")
        backend = self.table.backend or (named[0] if named != "all" and len(named) == 1 else None)
        program = hasattr(base, "declare")
        results = sweep(
            self.factory,
            self.grid,
            self.table.measures,
            backend if program else None,
            n_jobs,
            zipped=self.table.zip,
            tolerance=base.tolerance if program else None,
            time_limit=base.time_limit if program else None,
            store=out / STORE,
            progress=progress,
        )
        return SweepReport(self, results.assign_attrs(title=self.title))


def _values(path: str, given: Any) -> Any:
    if isinstance(given, dict) and given.keys() & {"start", "stop", "count", "scale"}:
        try:
            return Range.model_validate(given).values()
        except ValidationError as error:
            explained = "; ".join(map(explain, error.errors()))
            raise InvalidInput(f"sweep.grid: {path!r}: {explained}") from None
    return given


def bundled_sweeps() -> tuple[str, ...]:
    """Names of the sweeps that come with the package."""
    folder = resources.files("mechopt.studies").joinpath("scenarios", "sweeps")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def load_sweep(name_or_path: str | Path) -> SweepScenario:
    """Read a scenario with a table ``[sweep]``, by the name of a bundled one or from a TOML file.

    Raises
    ------
    InvalidInput
        If there is no such file, it has no table ``[sweep]``, or a field breaks its rule; it is named.
    """
    text = str(name_or_path)
    if text in bundled_sweeps():
        path = Path(str(resources.files("mechopt.studies").joinpath("scenarios", "sweeps", f"{text}.toml")))
    else:
        path = Path(text)
    if not path.is_file():
        known = ", ".join(bundled_sweeps())
        raise InvalidInput(
            f"no scenario {text!r}: it is neither a file nor one of the bundled sweeps ({known})"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"cannot read {path.name}: {error}") from None
    given = content.pop("sweep", None)
    if given is None:
        raise InvalidInput(
            f"{path.name}: has no table [sweep]; it needs one with `grid`, the values of parameters by path"
        )
    mechanism = content.get("mechanism")
    if mechanism not in KINDS:
        known = " or ".join(map(repr, KINDS))
        raise InvalidInput(f"{path.name}: mechanism: must be {known} (got {mechanism!r})")
    try:
        table = SweepTable.model_validate(given)
    except ValidationError as error:
        explained = "; ".join(f"sweep.{explain(e)}" for e in error.errors())
        raise InvalidInput(f"{path.name}: {explained}") from None
    title = content.get("title", path.stem)
    factory = ScenarioFactory({**content, "title": "sweep"}, str(path.parent))
    loaded = SweepScenario(str(title), None, factory, table)
    try:
        ends = {path: list(v.values() if isinstance(v, dict) else v) for path, v in loaded.grid.items()}
        base = _first_valid(factory, [{p: v[at] for p, v in ends.items()} for at in (0, -1)])
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error}") from None
    base.check_ready()
    if not hasattr(base, "declare") and not table.measures:
        raise InvalidInput(
            f"{path.name}: sweep.measures: a scenario of mechanism {mechanism!r} is run as a whole; say "
            "which numbers of its record to keep"
        )
    return SweepScenario(str(title), base, factory, table)


def _first_valid(factory: ScenarioFactory, points: list[dict[str, Any]]) -> Any:
    """Tell a mistyped path, which no point survives, from a corner of the grid that breaks a rule."""
    reasons = []
    for point in points:
        try:
            return factory.scenario(point)
        except InvalidInput as error:
            reasons.append(error)
    raise reasons[0]


@dataclass(frozen=True)
class SweepReport:
    """What a scenario's sweep found."""

    scenario: SweepScenario
    results: xr.Dataset

    @property
    def statuses(self) -> dict[str, int]:
        """Number of cells by status."""
        return dict(Counter(map(str, self.results["status"].values.ravel())).most_common())

    @property
    def agreement(self) -> bool:
        """Whether every cell has an answer; that there is none, with a proof, is one too."""
        answers = {Status.OPTIMAL, Status.LOCAL, Status.INFEASIBLE, Status.UNBOUNDED, "answered"}
        return set(self.statuses) <= answers

    def show(self, console: Console) -> None:
        """Print the findings, on 80 columns."""
        from mechopt.studies.report import print_plain, show_grid

        print_plain(console, self.scenario.title, "bold")
        told = ", ".join(f"{count} {status}" for status, count in self.statuses.items())
        print_plain(console, f"{self.results['status'].size} cells: {told}")
        rows = []
        for name, array in self.results.data_vars.items():
            if array.dtype.kind == "f":
                known = array.values[np.isfinite(array.values)]
                shown = [f"{f(known):.7g}" if known.size else "" for f in (np.min, np.median, np.max)]
                rows.append([str(name), *shown])
        show_grid(console, ("of all cells", "least", "median", "largest"), rows)
        bad = [
            str(reason)
            for status, reason in zip(
                self.results["status"].values.ravel(), self.results["reason"].values.ravel(), strict=True
            )
            if status not in (Status.OPTIMAL, Status.LOCAL, "answered")
        ]
        for reason, count in Counter(bad).most_common(_LISTED):
            print_plain(console, f"{count} cell{'s' if count > 1 else ''}: {reason}", "yellow")

    def write(self, folder: Path) -> list[Path]:
        """Write the data set, a table of its numbers by cell, and the plots; return what was written."""
        from mechopt.formulations import figures

        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / STORE, folder / "sweep.nc", folder / "sweep.csv"]
        # The oldest netCDF format, which every program reads and scipy writes.
        self.results.to_netcdf(files[1], engine="scipy", format="NETCDF3_64BIT")
        cells = self.results["objective"].dims
        flat = [name for name, array in self.results.data_vars.items() if array.dims == cells]
        self.results[flat].to_dataframe(dim_order=list(cells)).to_csv(files[2])
        for plot in self.scenario.table.plots:
            figure = plot.draw(self.results, self.scenario.table.labels)
            files += figures.save(figure, folder, plot.name)
        return files


__all__ = ["SweepReport", "SweepScenario", "bundled_sweeps", "load_sweep", "override"]
