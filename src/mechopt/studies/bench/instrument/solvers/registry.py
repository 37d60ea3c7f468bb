"""Every backend of the registry as a solver, skipped where it lacks what a family needs."""

from __future__ import annotations

from typing import Any

from benchopt import BaseSolver

from mechopt.solvers.backend import all_backends
from mechopt.studies.bench.engine import Instance, Limits
from mechopt.studies.bench.instrument_parts import Keeping, Result, answer, reason_to_skip


class Solver(BaseSolver):  # type: ignore[misc]
    """One backend in one setting."""

    name = "backend"
    sampling_strategy = "run_once"
    parameters = {  # noqa: RUF012
        "backend": [backend.name for backend in all_backends()],
        "setting": ["default"],
    }

    def skip(self, instance: Instance, limits: Limits, keeping: Keeping) -> tuple[bool, str | None]:
        """Skip what the backend cannot take, or what is not installed."""
        reason = reason_to_skip(self.backend, instance.family)
        return reason is not None, reason

    def set_objective(self, instance: Instance, limits: Limits, keeping: Keeping) -> None:
        """Take the instance."""
        self.instance, self.limits, self.keeping = instance, limits, keeping

    def run(self, _: Any) -> None:
        """Solve in a process of its own; a crash there is an outcome."""
        self.result = answer(self.instance, self.backend, self.setting, self.limits, self.keeping)

    def get_result(self) -> dict[str, Result]:
        """Hand the outcome to the objective."""
        return {"result": self.result}
