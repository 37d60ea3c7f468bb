"""Local solvers for smooth programs, convex or not: POUNCE, Ipopt, SciPy's SLSQP and trust-constr.

CVXPY rewrites a program into smooth functions of more variables and differentiates them: ``rewriting.py``
holds what of a program has a smooth form, ``smooth.py`` the functions. ``interior.py`` and
``scipy_methods.py`` pass these on to solvers; ``backend.py`` is what they share. For convex programs the
multipliers that come back are turned into a bound by linearising the Lagrangian, so that the gap is ours; for
others we compute how far the point is from stationary. ``evidence.py`` proves what solvers only say, such as
infeasibility.
"""

from mechopt.solvers.nonlinear.evidence import infeasibility, recover_multipliers
from mechopt.solvers.nonlinear.interior import Ipyopt, Pounce
from mechopt.solvers.nonlinear.rewriting import unsupported
from mechopt.solvers.nonlinear.scipy_methods import SLSQP, TrustConstr
from mechopt.solvers.nonlinear.smooth import SmoothForm

__all__ = [
    "SLSQP",
    "Ipyopt",
    "Pounce",
    "SmoothForm",
    "TrustConstr",
    "infeasibility",
    "recover_multipliers",
    "unsupported",
]
