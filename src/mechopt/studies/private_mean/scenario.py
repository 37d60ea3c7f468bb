"""The scenario of private means, as a file declares it."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy import stats

from mechopt.formulations.screening import ContinuousContract
from mechopt.solvers.errors import BackendUnavailable, InvalidInput
from mechopt.studies.private_mean.releases import Population
from mechopt.studies.scenario import BaseScenario, Gain, Table

LIBRARIES = {"opendp": "opendp", "sklearn": "scikit-learn"}


MOST_RECORDS = 100_000
"""Records of one contract; more would take minutes, and say nothing new."""


class Levels(Table):
    """Privacy levels (nats) with a Beta(a, b) distribution on [lo, hi], in cells of equal width."""

    lo: float
    hi: float
    count: int = Field(ge=1, le=1000)
    a: Annotated[float, Field(gt=0)] = 1.0
    b: Annotated[float, Field(gt=0)] = 1.0


class PrivateMeanParameters(Table):
    """The market: who the holders are, and what data are worth to the demander."""

    types: Levels
    gain: Gain
    unit_cost: float = 1.0

    def build(self) -> ContinuousContract:
        """Make the contract for the continuum of types."""
        levels = self.types
        width = levels.hi - levels.lo
        if not width > 0:
            raise InvalidInput(f"parameters.types: lo = {levels.lo:g} must be below hi = {levels.hi:g}")
        return ContinuousContract(
            stats.beta(levels.a, levels.b, loc=levels.lo, scale=width),
            levels.lo,
            levels.hi,
            gain=self.gain.build(),
            unit_cost=self.unit_cost,
        )


class Records(Table):
    """One column of a data set of scikit-learn, with bounds that are public whatever the records are."""

    dataset: Literal["diabetes", "breast-cancer"]
    column: str
    bounds: list[float] = Field(min_length=2, max_length=2)

    @model_validator(mode="after")
    def _in_order(self) -> Records:
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"`bounds` must increase, got {self.bounds}")
        return self

    def load(self) -> Population:
        """Read the column and scale it to [0, 1]; values beyond the bounds are moved to them."""
        from sklearn import datasets

        if self.dataset == "diabetes":
            source = datasets.load_diabetes(scaled=False)
        else:
            source = datasets.load_breast_cancer()
        names = [str(name) for name in source.feature_names]
        if self.column not in names:
            raise InvalidInput(
                f"data.column: {self.dataset} has no {self.column!r}; it has {', '.join(names)}"
            )
        values = np.asarray(source.data[:, names.index(self.column)], dtype=np.float64)
        low, high = self.bounds
        scaled = (values - low) / (high - low)
        clipped = int(np.sum((scaled < 0) | (scaled > 1)))
        return Population(np.clip(scaled, 0.0, 1.0), clipped)


class PrivateMean(BaseScenario):
    """A whole scenario."""

    mechanism: Literal["private-mean"]
    seed: int = Field(ge=0)
    n_holders: int = Field(ge=100, le=1_000_000)
    n_continuous: int = Field(default=200_000, ge=100, le=10_000_000)
    parameters: PrivateMeanParameters
    data: Records

    def check_ready(self) -> None:
        """Check that OpenDP and scikit-learn are installed."""
        missing = [name for module, name in LIBRARIES.items() if importlib.util.find_spec(module) is None]
        if missing:
            raise BackendUnavailable(
                f"mechanism 'private-mean' needs {' and '.join(missing)}, not installed here: "
                'pip install "mechopt[privacy]"'
            )
