"""The scenario of a federation of hospitals, as a file declares it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from mechopt.studies.learning import (
    Curve,
    Training,
    check_scikit_learn,
)
from mechopt.studies.scenario import SolvedScenario, Table

Array = NDArray[np.float64]


class Hospital(Table):
    """Who may take part, and what a record costs it (accuracy per record)."""

    name: str = Field(min_length=1)
    marginal_cost: float = Field(gt=0)


class Unverified(Table):
    """Classes of costs that hospitals may claim to have (accuracy per record), and their probabilities."""

    costs: list[float] = Field(min_length=2)
    probs: list[float]

    @model_validator(mode="after")
    def _one_each(self) -> Unverified:
        if len(self.probs) != len(self.costs):
            raise ValueError(f"`probs` has {len(self.probs)} entries for {len(self.costs)} `costs`")
        return self


class FederatedLearning(SolvedScenario):
    """A whole scenario."""

    mechanism: Literal["federated-learning"]
    seed: int = Field(ge=0)
    incentive_margin: float = Field(default=1e-6, gt=0)
    training: Training
    curve: Curve = Curve()
    hospitals: list[Hospital] = Field(min_length=2)
    unverified: Unverified | None = None

    @field_validator("hospitals")
    @classmethod
    def _names_differ(cls, hospitals: list[Hospital]) -> list[Hospital]:
        names = [hospital.name for hospital in hospitals]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"the name {twice[0]!r} is given more than once")
        return hospitals

    @property
    def marginal_costs(self) -> Array:
        """Cost of a record for each hospital (accuracy per record)."""
        return np.array([hospital.marginal_cost for hospital in self.hospitals])

    def check_ready(self) -> None:
        """Check that scikit-learn is installed."""
        check_scikit_learn("federated-learning")
