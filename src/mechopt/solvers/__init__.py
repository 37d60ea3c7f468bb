"""Ground floor: programs, solutions, backends. Knows no mechanism."""

from mechopt.solvers.backend import (
    Answer,
    Backend,
    Capability,
    Settings,
    all_backends,
    available_backends,
    backends,
    capable_backends,
    get_backend,
    register,
    unregister,
)
from mechopt.solvers.errors import (
    BackendUnavailable,
    Infeasible,
    InvalidInput,
    MechanismError,
    MechanismWarning,
    MissingCapability,
    NotApplicable,
    SolverFailure,
    Unbounded,
)
from mechopt.solvers.program import Changes, ExactAnswer, ExactRoute, Program, solve
from mechopt.solvers.solution import Solution, Status
from mechopt.solvers.terms import Complementarity, Hypograph

__all__ = [
    "Answer",
    "Backend",
    "BackendUnavailable",
    "Capability",
    "Changes",
    "Complementarity",
    "ExactAnswer",
    "ExactRoute",
    "Hypograph",
    "Infeasible",
    "InvalidInput",
    "MechanismError",
    "MechanismWarning",
    "MissingCapability",
    "NotApplicable",
    "Program",
    "Settings",
    "Solution",
    "SolverFailure",
    "Status",
    "Unbounded",
    "all_backends",
    "available_backends",
    "backends",
    "capable_backends",
    "get_backend",
    "register",
    "solve",
    "unregister",
]
