"""What a benchmark run must give: the answer is verified and measured here, and its row kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchopt import BaseObjective

from mechopt.studies.bench.engine import Instance, Limits
from mechopt.studies.bench.instrument_parts import Keeping, Result, verified


class Objective(BaseObjective):  # type: ignore[misc]
    """Limits of a cell, and where its row goes; without ``store``, only into the table of benchopt."""

    name = "mechopt"
    url = "https://github.com/mechopt/mechopt"
    min_benchopt_version = "1.10"
    sampling_strategy = "run_once"
    parameters = {  # noqa: RUF012
        "time_limit": [10.0],
        "memory_limit": [4.0],
        "runs": [1],
        "store": [""],
        "code": [""],
    }

    def set_data(self, instance: Instance) -> None:
        """Take the instance from the dataset."""
        self.instance = instance

    def get_objective(self) -> dict[str, Any]:
        """Hand it to the solver."""
        limits = Limits(float(self.time_limit), float(self.memory_limit), int(self.runs))
        keeping = Keeping(Path(self.store) if self.store else None, str(self.code))
        return {"instance": self.instance, "limits": limits, "keeping": keeping}

    def evaluate_result(self, result: Result) -> dict[str, Any]:
        """Verify and measure; never raises, for then there would be no row."""
        return verified(result)
