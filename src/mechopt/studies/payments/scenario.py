"""The scenario of fair payments, as a file declares it, and its records."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mechopt.solvers.errors import BackendUnavailable, InvalidInput
from mechopt.studies.scenario import SolvedScenario, Table

Array = NDArray[np.float64]

LEVEL_NAMES = ("private", "federated", "direct")


MOST_USERS = 18
"""Users whose coalitions are all valued one by one, as a second road."""

FULL_TIME = 1800
"""Hours a year from which a worker of the wage panel counts as working full time."""


class RecordsTable(Table):
    """Where samples come from: a data set that a package ships, or a CSV file relative to the scenario."""

    dataset: Literal["wage-panel"] | None = None
    file: str | None = None
    user: str = "user"
    value: str = "value"
    n_users: int | None = Field(default=None, ge=2, le=200)

    @model_validator(mode="after")
    def _one_source(self) -> RecordsTable:
        if (self.dataset is None) == (self.file is None):
            raise ValueError("give either `dataset` or `file`, and not both")
        return self

    def load(self, folder: Path) -> pd.Series:
        """Read samples, a float for each, under their users' names."""
        if self.dataset is not None:
            return _wages()
        path = folder / str(self.file)
        try:
            frame = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"records.file: cannot read {path}: {error}") from None
        for column in (self.user, self.value):
            if column not in frame.columns:
                raise InvalidInput(
                    f"records.file: {path.name} has no column {column!r}, only {', '.join(map(str, frame))}"
                )
        values = pd.to_numeric(frame[self.value], errors="coerce")
        broken = ~np.isfinite(values.to_numpy(dtype=float))
        if broken.any():
            line = int(np.argmax(broken))
            raise InvalidInput(
                f"records.file: {path.name}, data row {line + 1}: {self.value} = "
                f"{frame[self.value].iloc[line]!r} must be a finite number"
            )
        return pd.Series(values.to_numpy(dtype=float), index=frame[self.user].astype(str))


def _wages() -> pd.Series:
    from linearmodels.datasets import wage_panel

    frame = wage_panel.load()
    frame = frame[frame.hours >= FULL_TIME]
    above = frame.lwage - frame.groupby("year").lwage.transform("mean")
    return pd.Series(above.to_numpy(dtype=float), index=frame.nr.astype(int).astype(str))


class Levels(Table):
    """Users at each level of privacy."""

    private: int = Field(default=0, ge=0)
    federated: int = Field(default=0, ge=0)
    direct: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        """Users in all."""
        return self.private + self.federated + self.direct


class FairPayments(SolvedScenario):
    """A whole scenario."""

    mechanism: Literal["fair-value"]
    seed: int = Field(ge=0)
    payment_share: float = Field(default=1.0, ge=0, le=1)
    money_per_utility: float = Field(default=1.0, gt=0)
    records: RecordsTable
    levels: Levels

    @model_validator(mode="after")
    def _levels_for_all(self) -> FairPayments:
        wanted, given = self.records.n_users, self.levels.total
        if given < 2:
            raise ValueError(f"`levels` are of {given} users; give at least 2")
        if self.levels.federated + self.levels.direct == 0:
            raise ValueError("`levels`: nobody shares; let some be federated or direct")
        if wanted is not None and wanted != given:
            raise ValueError(f"`levels` are of {given} users, and `records.n_users` is {wanted}")
        return self

    def check_ready(self) -> None:
        """Check that the package is installed that ships the data set."""
        if self.records.dataset is not None and importlib.util.find_spec("linearmodels") is None:
            raise BackendUnavailable(
                "mechanism 'fair-value' with dataset 'wage-panel' needs linearmodels, not installed here: "
                'pip install "mechopt[data]"'
            )


@dataclass(frozen=True, eq=False)
class Panel:
    """Samples by user, and how they vary.

    Attributes
    ----------
    names : tuple of str
        Users with at least two samples.
    samples : tuple of array
    """

    names: tuple[str, ...]
    samples: tuple[Array, ...]

    @classmethod
    def of(cls, values: pd.Series) -> Panel:
        """Group samples by user; those of one sample tell nothing of how samples vary, and are left out."""
        grouped = {str(name): part.to_numpy() for name, part in values.groupby(level=0, sort=True)}
        kept = {name: part for name, part in grouped.items() if part.size >= 2}
        if len(kept) < 3:
            raise InvalidInput(
                f"records: {len(kept)} users have two samples or more; there must be at least 3"
            )
        return cls(tuple(kept), tuple(kept.values()))

    @cached_property
    def counts(self) -> Array:
        """Samples of each user."""
        return np.array([part.size for part in self.samples], dtype=float)

    @cached_property
    def means(self) -> Array:
        """Mean of each user."""
        return np.array([part.mean() for part in self.samples])

    @cached_property
    def within(self) -> float:
        """t², the variance of a user's samples, pooled over users."""
        squares = sum(float(((part - part.mean()) ** 2).sum()) for part in self.samples)
        return squares / float(self.counts.sum() - self.counts.size)

    @cached_property
    def between(self) -> float:
        """s², the variance of users' means, by the analysis of variance of groups of different size."""
        n, total = self.counts, float(self.counts.sum())
        grand = float(n @ self.means) / total
        typical = (total - float(n @ n) / total) / (n.size - 1)
        spread = float(n @ (self.means - grand) ** 2) / (n.size - 1)
        return (spread - self.within) / typical

    def between_by_pairs(self) -> tuple[float, float]:
        """Return s² from the squares of users' means, each user counted once, and its standard error.

        The error is that of a mean of independent users.
        """
        noise = self.within / self.counts
        n = self.means.size
        each = (self.means - self.means.mean()) ** 2 * n / (n - 1) - noise
        return float(each.mean()), float(each.std(ddof=1) / math.sqrt(n))
