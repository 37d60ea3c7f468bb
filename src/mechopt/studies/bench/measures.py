"""Formulas of the report: what a table of rows says about backends. Pure functions of tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

SHIFT = 0.1
"""Seconds that are added to times before their geometric mean: less than this is not told apart much."""

INSTANCE = ["family", "size", "seed", "setting"]
"""What backends are compared on."""

SOLVED = "best checked answer"
"""Kind of a reference that is the best of the answers that pass our checks."""


# ---------------------------------------------------------------- times


def shifted_geometric_mean(seconds: ArrayLike, shift: float = SHIFT) -> float:
    r"""Sum up times of very different sizes.

    .. math:: \Bigl( \prod_i (t_i + s) \Bigr)^{1/n} - s

    Parameters
    ----------
    seconds : array, shape (n,)
        Times >= 0, those of failures replaced by a penalty.
    shift : float
        s > 0, in seconds: differences between times far below it hardly count.

    Returns
    -------
    float
        NaN if there is no time.

    Raises
    ------
    InvalidInput
        If a time is negative or not a number, or the shift is not positive.

    References
    ----------
    T. Achterberg, "Constraint Integer Programming", 2007, appendix A.3.

    Examples
    --------
    >>> round(shifted_geometric_mean([1.0, 7.0], shift=1.0), 9)
    3.0
    """
    times = np.asarray(seconds, dtype=float)
    if not shift > 0:
        raise InvalidInput(f"shift must be a number of seconds > 0, got {shift!r}")
    if not np.all(times >= 0):
        raise InvalidInput("seconds must be >= 0; replace those of failures by a penalty")
    return float(np.exp(np.log(times + shift).mean()) - shift) if times.size else math.nan


def penalised(rows: pd.DataFrame) -> Array:
    """Return the seconds of each row: as measured if it is correct, else its time limit.

    A correct answer is never past its limit, so that a failure costs at least as much as any success.
    """
    return np.asarray(np.where(rows["correct"], rows["seconds"], rows["time_limit"]), dtype=float)


def performance_profile(seconds: Mapping[str, ArrayLike]) -> dict[str, tuple[Array, Array]]:
    r"""Tell which share of instances each backend solves within a multiple of the best time.

    .. math:: \rho_b(\tau) = \tfrac1n \, \bigl|\{ i : t_{ib} \le \tau \min_{b'} t_{ib'} \}\bigr|

    Parameters
    ----------
    seconds : mapping of str to array, shape (n,)
        By backend: times on the same instances, infinite for failures, NaN where it was not asked. Each
        backend is measured on the instances that it was asked to solve.

    Returns
    -------
    dict of str to pair of arrays
        By backend: the multiples at which its curve steps, from 1 on, and its share from there on.

    References
    ----------
    E. D. Dolan and J. J. More, "Benchmarking optimization software with performance profiles", 2002,
    https://doi.org/10.1007/s101070100263.

    Examples
    --------
    >>> curves = performance_profile({"a": [1.0, 4.0], "b": [2.0, np.inf]})
    >>> [(name, x.tolist(), y.tolist()) for name, (x, y) in curves.items()]
    [('a', [1.0], [1.0]), ('b', [1.0, 2.0], [0.0, 0.5])]
    """
    times = {name: np.asarray(each, dtype=float) for name, each in seconds.items()}
    if not times:
        return {}
    if len({each.shape for each in times.values()}) > 1:
        raise InvalidInput("seconds: every backend needs one time for each instance")
    table = np.array(list(times.values()))
    best = np.min(np.where(np.isnan(table), np.inf, table), axis=0)
    curves = {}
    for name, each in times.items():
        asked = ~np.isnan(each)
        solved = np.isfinite(each)
        ratios = np.sort(each[solved] / best[solved])
        steps = np.unique(np.concatenate([[1.0], ratios]))
        share = np.searchsorted(ratios, steps, side="right") / max(int(asked.sum()), 1)
        curves[name] = steps, share
    return curves


# ---------------------------------------------------------------- growth


@dataclass(frozen=True)
class Growth:
    """How time grows with size: ``seconds ~ size ** exponent``.

    Attributes
    ----------
    exponent : float
        NaN with fewer than two sizes.
    low, high : float
        95% interval of it, from Student's t; NaN with fewer than three points.
    n_points : int
    """

    exponent: float
    low: float
    high: float
    n_points: int

    def __str__(self) -> str:
        if math.isnan(self.exponent):
            return ""
        interval = "" if math.isnan(self.low) else f" ({self.low:.1f} to {self.high:.1f})"
        return f"{self.exponent:.2f}{interval}"


def growth(size: ArrayLike, seconds: ArrayLike) -> Growth:
    """Fit the exponent of a power law by least squares on logarithms.

    Parameters
    ----------
    size, seconds : array, shape (n,)
        Both > 0.

    Examples
    --------
    >>> fit = growth([1, 10, 100], [0.02, 2.0, 200.0])
    >>> round(fit.exponent, 9), round(fit.high - fit.low, 9)
    (2.0, 0.0)
    """
    from scipy.stats import t as student

    x, y = (np.log(np.asarray(each, dtype=float)) for each in (size, seconds))
    spread = float(np.sum((x - x.mean()) ** 2)) if x.size else 0.0
    if spread == 0.0:
        return Growth(math.nan, math.nan, math.nan, x.size)
    slope = float(np.sum((x - x.mean()) * (y - y.mean())) / spread)
    free = x.size - 2
    if free < 1:
        return Growth(slope, math.nan, math.nan, x.size)
    rest = y - y.mean() - slope * (x - x.mean())
    half = float(student.ppf(0.975, free)) * math.sqrt(float(rest @ rest) / free / spread)
    return Growth(slope, slope - half, slope + half, x.size)


def growths(rows: pd.DataFrame) -> dict[tuple[str, str], Growth]:
    """Fit the growth of correct answers' times, by family and backend."""
    correct = rows[rows["correct"]]
    return {
        (str(family), str(backend)): growth(part["size"], part["seconds"])
        for (family, backend), part in correct.groupby(["family", "backend"], sort=False)
    }


# ---------------------------------------------------------------- answers


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with what only all of them together tell.

    Where a family has no reference of its own, the best objective among the answers that pass our checks
    stands for it (kind ``"best checked answer"``): it can show an answer wrong, not right.

    Parameters
    ----------
    rows : DataFrame
        As they were measured.

    Returns
    -------
    DataFrame
        With ``reference`` and ``reference_kind`` filled in where possible; ``error``, the distance of the
        objective from the reference relative to the latter, negative if the answer is worse; ``own``,
        whether the reference comes from the backend itself, or is its own answer; and ``correct``: checked,
        with a residual and an error within the setting's tolerance.
    """
    rows = rows.copy()
    # What came without a solution does not know its sense.
    sense = rows["sense"].where(rows["sense"] != "").groupby(rows["family"]).transform("first")
    sign = np.where(sense == "minimize", -1.0, 1.0)
    gain = rows["objective"] * sign
    missing = rows["reference"].isna()
    best = gain.where(rows["checked"]).groupby([rows[name] for name in INSTANCE]).transform("max")
    rows.loc[missing, "reference"] = (best * sign)[missing]
    rows.loc[missing & best.notna(), "reference_kind"] = SOLVED
    size = rows["reference"].abs()
    rows["error"] = (gain - rows["reference"] * sign) / size.where(size > 0, 1.0)
    rows["own"] = ((rows["backend"] == "exact") & (rows["reference_kind"] == "exact algorithm")) | (
        (rows["reference_kind"] == SOLVED) & rows["checked"] & (gain == best)
    )
    limit = rows["correct_tolerance"]
    rows["correct"] = (
        rows["checked"].astype(bool)
        & rows["success"].astype(bool)
        & (rows["residual"].fillna(0.0) <= limit)
        & (rows["error"].abs() <= limit)
    )
    return rows


def rates(rows: pd.DataFrame, by: Iterable[str]) -> pd.DataFrame:
    """Count how often backends answer, and how often they are right; a failure of any kind counts as a time.

    Parameters
    ----------
    rows : DataFrame
        From `judged`.
    by : iterable of str
        Columns to group by.

    Returns
    -------
    DataFrame
        ``asked``; ``success``, the share that came back in time and called its answer solved; ``correct``,
        the share of right answers among those asked; ``wrong``, the number that called themselves solved
        and are not right; ``seconds``, the shifted geometric mean with failures at their time limit.
    """
    import pandas as pd

    table: list[dict[str, Any]] = []
    keys = list(by)
    for key, part in rows.groupby(keys, sort=False):
        table.append(
            {
                **dict(zip(keys, key, strict=True)),
                "asked": len(part),
                "success": float(part["success"].mean()),
                "correct": float(part["correct"].mean()),
                "wrong": int((part["success"] & ~part["correct"]).sum()),
                "seconds": shifted_geometric_mean(penalised(part)),
            }
        )
    return pd.DataFrame(table, columns=[*keys, "asked", "success", "correct", "wrong", "seconds"])


def profiles(rows: pd.DataFrame) -> dict[str, tuple[Array, Array]]:
    """Return performance profiles of rows of one kind; see `performance_profile`."""
    times = rows.assign(time=np.where(rows["correct"], rows["seconds"], np.inf))
    table = times.pivot_table(index=INSTANCE, columns="backend", values="time", aggfunc="first", dropna=False)
    return performance_profile({str(name): table[name].to_numpy() for name in table.columns})
