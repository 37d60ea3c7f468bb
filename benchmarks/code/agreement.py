"""What several benchmarks need: answers that agree, and programs compiled but not solved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np


def close(tolerance: float) -> Callable[[Any, Any], None]:
    """Agreement of two numbers, or of arrays entry by entry, relative to the largest."""

    def agree(own: Any, other: Any) -> None:
        own, other = np.asarray(own), np.asarray(other)
        assert own.shape == other.shape
        assert np.max(np.abs(own - other)) <= tolerance * np.max(np.abs(own))

    return agree


def compiled(problem: cp.Problem) -> Any:
    """Matrices for Clarabel, and the way there and back."""
    return problem.get_problem_data("CLARABEL", solver_opts={})
