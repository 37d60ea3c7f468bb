"""Private mean estimation: the best linear estimator with Laplace noise, at each user's privacy level."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.fair_value.mean_estimation import closed_form as oracle
from mechopt.formulations.fair_value.mean_estimation import exact
from mechopt.formulations.fair_value.mean_estimation.audit import PrivacyAudit, audit_estimator
from mechopt.formulations.fair_value.mean_estimation.program import declare, prices_of
from mechopt.formulations.fair_value.members import members
from mechopt.solvers import certify
from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution, Status

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MeanEstimation:
    r"""Estimation of a population's mean from data of users with privacy levels of their own.

    User i holds :math:`X_i = \pm 1/2`, positive with a probability that is the same for all and has a uniform
    prior. The platform publishes :math:`w'X + \text{Laplace}(s)`, which must be
    :math:`\epsilon_i`-differentially private in the data of user i, and wants the least expected squared
    error.

    Parameters
    ----------
    privacy_levels : array, shape (n_users,)
        Levels :math:`\epsilon_i` in [0, inf] (nats); a larger one is *less* private. 0: the user gives no
        data; inf: it asks for no privacy.

    Raises
    ------
    InvalidInput
        If there is no user, or a level is negative or not a number.

    References
    ----------
    "The Fair Value of Data Under Heterogeneous Privacy Constraints in Federated Learning", Example 1 and
    (7)-(9), (26)-(36), for any number of users and any levels.

    Examples
    --------
    >>> import numpy as np
    >>> estimation = MeanEstimation([0.0, 0.5, 1.0, np.inf])
    >>> solution = estimation.solve()
    >>> solution["weights"].round(4).tolist(), round(float(solution["noise_scale"]), 4)
    ([0.0, 0.0179, 0.0357, 0.3155], 0.0357)
    >>> round(solution.objective, 6), round(estimation.utility(), 6)
    (0.052579, 0.553571)

    A cap on anybody's weight is one line:

    >>> program = estimation.program()
    >>> program = program.add("cap", program["weights"] <= 0.25)
    >>> capped = program.solve("clarabel")
    >>> round(capped.objective, 6), round(float(capped.dual("cap")[3]), 4)
    (0.053623, -0.0319)
    """

    privacy_levels: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "privacy_levels", oracle.levels_of(self.privacy_levels))

    @property
    def n_users(self) -> int:
        """Number of users, N."""
        return int(self.privacy_levels.size)

    # ------------------------------------------------------------------ the estimator

    def program(self) -> Program:
        r"""Declare the optimal estimator as a convex quadratic program, to be solved as it is or changed.

        Returns
        -------
        Program
            With variables ``weights`` of shape (n_users,) and ``noise_scale``, expressions ``bayes_risk`` and
            ``total_weight``, and families ``privacy`` (:math:`w_i \le \epsilon_i s`, one row a user) and
            ``privacy_of_negative`` (:math:`-w_i \le \epsilon_i s`); ``no_data`` if a level is 0. The price of
            ``privacy``, times the noise scale, is what the risk changes by per unit of the user's level.

        References
        ----------
        Equations (7)-(9).
        """
        return declare(self)

    def solve(
        self,
        backend: str | None = None,
        *,
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> Solution:
        """Minimise the Bayes risk: by the exact algorithm, or on the backend of that name.

        Parameters
        ----------
        backend : str, optional
            Default ``"exact"``, which needs no program at all.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`.

        Returns
        -------
        Solution
            ``weights`` of shape (n_users,), ``noise_scale``, ``total_weight``, ``bayes_risk``; ``objective``
            is the Bayes risk.
        """
        asked = asked_exactly(
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            options=options,
        )
        if asked is not None:
            return self._solve_exactly(asked)
        settings: dict[str, Any] = {"tolerance": tolerance, "time_limit": time_limit, "verbose": verbose}
        return self.program().solve(backend, on_failure=on_failure, **settings, **options)

    def _solve_exactly(self, tolerance: float) -> Solution:
        started = time.perf_counter()
        found = exact.optimal_estimator(self.privacy_levels)
        solved = time.perf_counter()
        values = {
            "weights": found.weights,
            "noise_scale": np.asarray(found.noise_scale),
            "total_weight": np.asarray(found.weights.sum()),
            "bayes_risk": np.asarray(found.bayes_risk),
        }
        finite = np.isfinite(self.privacy_levels)
        limit = self.privacy_levels[finite] * found.noise_scale
        excess = float(np.max(np.abs(found.weights[finite]) - limit, initial=0.0))
        size = float(np.max(found.weights)) or 1.0
        prices = prices_of(found, self.privacy_levels)
        violations = {**dict.fromkeys(prices, excess), certify.DOMAIN: max(-found.noise_scale, 0.0)}
        residuals = {name: value / size for name, value in violations.items()}
        for array in (*values.values(), *prices.values()):
            array.setflags(write=False)
        kept = all(residual <= tolerance for residual in residuals.values())
        spent = {"build": 0.0, "compile": 0.0, "solve": solved - started}
        return Solution(
            status=Status.OPTIMAL if kept else Status.INACCURATE,
            reason="exact algorithm",
            backend="exact",
            version=get_backend("exact").version(),
            objective=found.bayes_risk,
            bound=found.bayes_risk,
            gap=0.0,
            values=values,
            duals={name: (price,) for name, price in prices.items()},
            residuals=residuals,
            violations=violations,
            seconds={**spent, "check": time.perf_counter() - solved},
            tolerance=tolerance,
            program="private mean estimation",
            sense="minimize",
            extra={"n_steps": found.n_steps},
        )

    def closed_form(self) -> oracle.ClosedForm:
        """Evaluate the closed form: water filling over the levels in rising order.

        Returns
        -------
        ClosedForm
            ``weights``, ``noise_scale``, ``bayes_risk``, ``saturation_level``.
        """
        return self._optimum

    @cached_property
    def _optimum(self) -> oracle.ClosedForm:
        return oracle.closed_form(self.privacy_levels)

    def audit(self, answer: Any) -> PrivacyAudit:
        """Check an estimator by the definitions: what its output tells of each user, and its error.

        Parameters
        ----------
        answer : mapping with ``weights`` of shape (n_users,) and ``noise_scale``
            A solution, a closed form, or a dict; ``bayes_risk`` is compared if it is there.

        Returns
        -------
        PrivacyAudit
            Users with more privacy loss than their level allows, and the risk by another road.

        Notes
        -----
        A solver's answer keeps levels only to its tolerance. The level 0 stands out: a weight of 1e-9 where
        there should be none, over little noise, is a loss that counts. The exact algorithm gives zeros.
        """
        values: dict[str, Any] = {}
        for name in ("weights", "noise_scale"):
            try:
                values[name] = np.asarray(answer[name], dtype=float)
            except (KeyError, IndexError, TypeError):
                raise InvalidInput(f"an estimator needs {name!r}; got {answer!r}") from None
        weights, noise = values["weights"], values["noise_scale"]
        if weights.shape != (self.n_users,):
            raise InvalidInput(
                f"weights has shape {weights.shape}; give one entry for each of {self.n_users} users"
            )
        if noise.ndim or not (noise >= 0 and np.isfinite(noise)):
            raise InvalidInput(f"noise_scale must be one finite number >= 0, got {answer['noise_scale']!r}")
        try:
            claimed: float | None = float(answer["bayes_risk"])
        except KeyError:
            claimed = None
        return audit_estimator(self.privacy_levels, weights, float(noise), claimed)

    # ------------------------------------------------------------------ what data are worth

    @property
    def saturation_level(self) -> float:
        """Privacy level that suffices: of a user above it no more is used. Infinite if there is no noise."""
        return self._optimum.saturation_level

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """Users above the saturation level, shape (n_users,): they have more privacy than they ask for."""
        return self.privacy_levels > self.saturation_level

    def utility(self, coalition: ArrayLike | Iterable[int] | None = None) -> float:
        r"""Compute what the estimate is worth, :math:`U = \frac{N+2}{N} (1 - 12 r)`.

        It is affine in the Bayes risk, 0 without data, and 1 if all users give theirs without limit.

        Parameters
        ----------
        coalition : iterable of int, or array of bool of shape (n_users,), optional
            Users that take part; the others are at level 0. Default: everybody.

        Returns
        -------
        float
            In [0, 1].

        References
        ----------
        Example 1, (10) and (36), where N = 2.

        Examples
        --------
        >>> import numpy as np
        >>> pair = MeanEstimation([np.inf, np.inf])
        >>> [round(pair.utility(coalition), 4) for coalition in ([], [0], [0, 1])]
        [0.0, 0.6667, 1.0]
        """
        levels = np.where(members(coalition, self.n_users), self.privacy_levels, 0.0)
        return float(oracle.normalised(oracle.closed_form(levels).bayes_risk, self.n_users))
