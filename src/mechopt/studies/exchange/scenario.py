"""The scenario of hospitals that exchange records, as a file declares it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from mechopt.formulations.functions import AccuracyFunction, AccuracyUtility
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.studies.learning import (
    Curve,
    Training,
    check_scikit_learn,
)
from mechopt.studies.scenario import SolvedScenario, Table


class Trader(Table):
    """A hospital: what it has, what accuracy is worth to it, and what sharing costs it."""

    name: str = Field(min_length=1)
    records: float = Field(ge=2)
    value: float = Field(gt=0)
    record_cost: float = Field(ge=0)

    @field_validator("records")
    @classmethod
    def _whole(cls, records: float) -> float:
        if not records.is_integer():
            raise ValueError(f"must be a whole number of records, got {records:g}")
        return records


class Exchange(SolvedScenario):
    """A whole scenario."""

    mechanism: Literal["sharing-market"]
    seed: int = Field(ge=0)
    pivot: Literal["exclude", "drop"] = "exclude"
    split: Literal["greedy", "lp"] = "lp"
    training: Training
    curve: Curve = Curve()
    hospitals: list[Trader] = Field(min_length=2, max_length=12)

    @field_validator("hospitals")
    @classmethod
    def _names_differ(cls, hospitals: list[Trader]) -> list[Trader]:
        names = [hospital.name for hospital in hospitals]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"the name {twice[0]!r} is given more than once")
        return hospitals

    def check_ready(self) -> None:
        """Check that scikit-learn is installed."""
        check_scikit_learn("sharing-market")

    def market(self, accuracy: AccuracyFunction) -> SharingMarket:
        """Make the market for this accuracy of models."""
        records = np.array([hospital.records for hospital in self.hospitals])
        per_record = np.array([hospital.record_cost for hospital in self.hospitals])
        cost = np.repeat((records * per_record)[:, np.newaxis], records.size, axis=1)
        np.fill_diagonal(cost, 0.0)
        return SharingMarket(
            data_size=records,
            sharing_cost=cost,
            utility=tuple(AccuracyUtility(hospital.value, accuracy) for hospital in self.hospitals),
        )
