"""The record of a solve: plain arrays, our own residuals, and prices under one sign rule."""

from __future__ import annotations

import enum
from collections.abc import Iterator, KeysView
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


class Status(enum.StrEnum):
    """How far an answer can be trusted; why the solver stopped is told apart, in ``Solution.reason``.

    ``OPTIMAL``: globally optimal, and our own residuals meet the tolerance asked for.
    ``LOCAL``: a stationary point of a nonconvex program that meets the tolerance; nothing says it is global.
    ``INACCURATE``: a point came back that fails our checks; ``reason`` names what fails.
    ``LIMIT``: stopped by a time or iteration limit, with or without a point.
    ``INFEASIBLE``, ``UNBOUNDED``: the solver has a proof; there is no point.
    ``FAILED``: no usable answer.
    """

    OPTIMAL = "optimal"
    LOCAL = "local"
    INACCURATE = "inaccurate"
    LIMIT = "limit"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    FAILED = "failed"

    @property
    def ok(self) -> bool:
        """Whether the answer passed every check: ``OPTIMAL`` or ``LOCAL``."""
        return self in (Status.OPTIMAL, Status.LOCAL)


@dataclass(frozen=True)
class Solution:
    """An answer to a program, after our own checks: immutable, picklable; ``solution["name"]`` is an array.

    Attributes
    ----------
    status : Status
        How far the answer can be trusted.
    reason : str
        Why the solver stopped and, where a check failed, which and by how much.
    backend, version : str
        Who answered.
    objective : float
        The declared objective at the returned point, recomputed by us; NaN without a point.
    bound : float or None
        What the objective cannot beat (above for a maximisation), where the route gives one.
    gap : float or None
        ``|bound - objective|`` over the size of the objective's terms.
    values : dict of str to array
        Variables and named expressions, in physical units.
    duals : dict of str to tuple of arrays
        Shadow prices by family, one array a constraint: see `dual`. Empty where there are none.
    residuals : dict of str to float
        Worst violation of each family, relative to the size of the terms of the row it occurs in.
    violations : dict of str to float
        The same, absolute, in physical units.
    seconds : dict of str to float
        ``build``, ``compile``, ``solve``, ``check``.
    tolerance : float
        The relative tolerance that was asked for.
    options : dict
        What was passed to the backend.
    program, sense : str
        Name of the program; ``"maximize"`` or ``"minimize"``.
    extra : dict
        What else a backend or a mechanism has to tell (iterations, cuts, pools ...).
    """

    status: Status
    reason: str
    backend: str
    version: str = ""
    objective: float = float("nan")
    bound: float | None = None
    gap: float | None = None
    values: dict[str, Array] = field(default_factory=dict)
    duals: dict[str, tuple[Array, ...]] = field(default_factory=dict)
    residuals: dict[str, float] = field(default_factory=dict)
    violations: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tolerance: float = float("nan")
    options: dict[str, Any] = field(default_factory=dict)
    program: str = ""
    sense: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    no_duals: str = ""

    def __getitem__(self, name: str) -> Array:
        """Value of a variable or named expression, in physical units."""
        try:
            return self.values[name]
        except KeyError:
            have = ", ".join(self.values) or f"none: the status is {self.status} ({self.reason})"
            raise KeyError(f"no value named {name!r} in this solution; it has {have}") from None

    def keys(self) -> KeysView[str]:
        """Names of the values, so that ``dict(solution)`` holds them."""
        return self.values.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def __len__(self) -> int:
        return len(self.values)

    def __bool__(self) -> bool:
        return self.status.ok

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def dual(self, family: str) -> Array | tuple[Array, ...]:
        """Shadow price of a family: d objective / d right-hand side, entry by entry.

        The right-hand side is the constant side where one side is constant
        (``x >= 5``, ``rent >= 0``, ``5 <= x``); otherwise the constraint reads ``smaller <= larger``
        and the larger side is the right-hand side, so that the price tells what relaxing it is worth.
        In an equality of two variable sides it is the right one as written.
        The rule is the same for every backend, for maximisation and minimisation.

        Returns
        -------
        array, or tuple of arrays
            In units of the objective per unit of the constraint; one array for each constraint of the
            family, shaped like the constraint.

        Raises
        ------
        InvalidInput
            If there is no such price, saying why: integer program, no answer, a backend without duals,
            or a family that does not exist.
        """
        if family in self.duals:
            prices = self.duals[family]
            return prices[0] if len(prices) == 1 else prices
        if self.duals:
            raise InvalidInput(
                f"no shadow price for {family!r}; this solution has prices for {', '.join(self.duals)}"
            )
        why = self.no_duals or f"the status is {self.status}"
        raise InvalidInput(f"no shadow price for {family!r}: {why}")

    def to_frame(self, *names: str) -> pd.DataFrame:
        """Return the answer as a tidy table.

        Parameters
        ----------
        *names : str
            With names: one column each, one row an entry; the arrays must share their shape.
            Without: every value and price, with columns ``kind``, ``name``, ``index``, ``value``.

        Raises
        ------
        InvalidInput
            If the named arrays differ in shape.
        """
        import pandas as pd

        if names:
            columns = {name: np.asarray(self[name]) for name in names}
            shapes = {name: column.shape for name, column in columns.items()}
            if len(set(shapes.values())) > 1:
                raise InvalidInput(f"to_frame: the arrays differ in shape: {shapes}; ask for them apart")
            shape = next(iter(shapes.values()))
            if len(shape) <= 1:
                index: Any = pd.RangeIndex(int(np.prod(shape)), name="index")
            else:
                index = pd.MultiIndex.from_product(
                    [range(n) for n in shape], names=[f"index_{axis}" for axis in range(len(shape))]
                )
            return pd.DataFrame({name: column.ravel() for name, column in columns.items()}, index=index)
        rows: list[dict[str, Any]] = []
        for name, value in self.values.items():
            rows += _entries("value", name, value)
        for name, prices in self.duals.items():
            for number, price in enumerate(prices):
                rows += _entries("dual", name if len(prices) == 1 else f"{name}[{number}]", price)
        return pd.DataFrame(rows, columns=["kind", "name", "index", "value"])

    def replace(self, **changes: Any) -> Solution:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Pickle forgets that an array was read-only.
        for array in (*self.values.values(), *(price for prices in self.duals.values() for price in prices)):
            np.asarray(array).setflags(write=False)

    def __repr__(self) -> str:
        who = f"{self.backend} {self.version}".strip()
        lines = [f"Solution of {self.program or 'program'}: {self.status} by {who}"]
        if self.reason:
            lines.append(f"  reason     {_shorten(self.reason)}")
        if self.values:
            bound = "" if self.bound is None else f"   bound {self.bound:.9g}   gap {self.gap or 0.0:.1e}"
            lines.append(f"  {self.sense or 'objective':<10} {self.objective:.9g}{bound}")
            shapes = (f"{name}{list(np.shape(value))}" for name, value in self.values.items())
            lines.append(f"  values     {_shorten(', '.join(shapes))}")
        if self.residuals:
            worst = max(self.residuals, key=lambda name: self.residuals[name])
            lines.append(
                f"  residual   {self.residuals[worst]:.1e} in {worst} (tolerance {self.tolerance:.0e})"
            )
        prices = ", ".join(self.duals) if self.duals else f"none ({self.no_duals or self.status})"
        lines.append(f"  prices     {_shorten(prices)}")
        times = "  ".join(f"{phase} {1e3 * spent:.3g} ms" for phase, spent in self.seconds.items())
        if times:
            lines.append(f"  time       {times}")
        return "\n".join(lines)


def _shorten(text: str, width: int = 96) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _entries(kind: str, name: str, value: Any) -> list[dict[str, Any]]:
    array = np.asarray(value)
    return [
        {"kind": kind, "name": name, "index": index if len(index) != 1 else index[0], "value": float(entry)}
        for index, entry in np.ndenumerate(array)
    ]
