r"""Mechanisms that pay with models, as games: who gets what for which data, and what is stable.

A mechanism gives agent i, for the contributions m of all, a model of accuracy :math:`[M(m)]_i`; the agent's
utility is that less :math:`c_i m_i`. The *regret* of a profile is the most that any agent gains by another
contribution, and it is what certifies an equilibrium here, however it was found.

An equilibrium in pure strategies need not exist (Theorem 3.3 of the paper is false as stated), so that
`Mechanism.find_equilibrium` may answer that it found none. For mechanism (13) the best response never falls
when others contribute more, and iterating it from nothing, or from above, arrives at the least and at the
greatest equilibrium (Tarski).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from mechopt.formulations import checks
from mechopt.formulations.accuracy_shaping.program import agent_costs, declare_equilibrium
from mechopt.solvers.errors import Infeasible, InvalidInput, NotApplicable
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.accuracy_shaping.model import AccuracyShaping

__all__ = ["Equilibrium", "Mechanism", "ShapedMechanism", "StandardMechanism", "UserMechanism"]

Array = NDArray[np.float64]
Start = Literal["zero", "above"] | ArrayLike

CERTIFIED = 1e-8
"""Regret (accuracy units) up to which a profile counts as an equilibrium."""

CERTIFIED_NUMERICALLY = 1e-6
"""The same for a profile that a solver found, to a relative accuracy of its own."""

_GRID = 400
_MAX_PROFILES = 2_000_000
_SAME_PROFILE = 1e-9
_CONVERGED = 1e-13
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """A profile of contributions, and what is known of it.

    Attributes
    ----------
    contribution : array, shape (n_agents,)
        Data points.
    total_data : float
        Data in the pool, seed data included.
    utility : array, shape (n_agents,)
        Accuracy units.
    regret : float
        The most that any agent gains by another contribution (accuracy units), >= 0.
    found : bool
        Whether the regret is small enough for an equilibrium. If not, this is the profile of least regret
        that was met.
    kind : {"zero", "lower", "upper", ""}
        For mechanism (13): nobody contributes, or which root of the pool's equation it is.
    method, reason : str
        How it was found, and what is to be said about it.
    rounds : int
        Rounds of best responses.
    """

    contribution: Array
    total_data: float
    utility: Array
    regret: float
    found: bool = True
    kind: str = ""
    method: str = ""
    reason: str = ""
    rounds: int = 0

    def __bool__(self) -> bool:
        return self.found


class Mechanism(ABC):
    """A rule that rewards contributions with models, and the game among agents that it makes.

    Derive from it, or describe the rule by a callable: `UserMechanism`. Profiles may have leading axes: many
    are then treated at once.
    """

    @property
    @abstractmethod
    def marginal_costs(self) -> Array:
        """Cost of a data point for each agent (accuracy units), shape (n_agents,)."""

    @property
    @abstractmethod
    def contribution_limit(self) -> Array:
        """Contributions beyond which no agent would go, whatever the others do; shape (n_agents,)."""

    @abstractmethod
    def reward(self, contributions: ArrayLike) -> Array:
        """Accuracy of each agent's model, shape (..., n_agents), of the contributions in this shape."""

    @property
    def n_agents(self) -> int:
        """Number of agents, n."""
        return int(self.marginal_costs.size)

    @property
    def seed_data(self) -> float:
        """Data in the pool that no agent contributes."""
        return 0.0

    def utility(self, contributions: ArrayLike) -> Array:
        """Reward less cost of each agent (accuracy units), shape (..., n_agents)."""
        profile = self._profile(contributions)
        value: Array = self.reward(profile) - self.marginal_costs * profile
        return value

    def best_response(self, contributions: ArrayLike) -> Array:
        """Contribution of each agent that is best for it, given those of the others.

        Found on a grid of 400 points, and refined next to the best of them.

        Parameters
        ----------
        contributions : array, shape (n_agents,)
            Data points, >= 0.

        Returns
        -------
        array, shape (n_agents,)
            Of several best responses the present one, or else the smallest.
        """
        profile = self._profile(contributions, batch=False)
        return np.array([self._respond(profile, agent)[0] for agent in range(self.n_agents)])

    def regret(self, contributions: ArrayLike, method: Literal["exact", "grid"] = "exact") -> float:
        """Return the most that any agent gains by another contribution (accuracy units), >= 0.

        Parameters
        ----------
        contributions : array, shape (n_agents,)
            Data points, >= 0.
        method : {"exact", "grid"}
            By the mechanism's own best responses, or by trying: a second opinion. A mechanism that knows no
            better tries in both cases.
        """
        if method not in ("exact", "grid"):
            raise InvalidInput(f"method must be 'exact' or 'grid', got {method!r}")
        profile = self._profile(contributions, batch=False)
        if method == "grid":
            gains = [self._respond(profile, agent)[1] for agent in range(self.n_agents)]
            return float(max(0.0, *gains))
        return max(0.0, float(np.max(self._gain(profile, self.best_response(profile)))))

    def _gain(self, profile: Array, response: Array) -> Array:
        """What each agent gains by its response when the others stay where they are."""
        now = self.utility(profile)
        gains = np.empty(self.n_agents)
        for agent in range(self.n_agents):
            changed = profile.copy()
            changed[agent] = response[agent]
            gains[agent] = self.utility(changed)[agent] - now[agent]
        return gains

    def _respond(self, profile: Array, agent: int) -> tuple[float, float]:
        """Best response of one agent by trying, and what it gains."""
        now = float(self.utility(profile)[agent])
        grid = np.linspace(0.0, self.contribution_limit[agent], _GRID)
        tried = np.repeat(profile[np.newaxis], _GRID, axis=0)
        tried[:, agent] = grid
        utility = self.utility(tried)[:, agent]
        k = int(np.argmax(utility))

        def loss(amount: float) -> float:
            changed = profile.copy()
            changed[agent] = amount
            return -float(self.utility(changed)[agent])

        bounds = (grid[max(k - 1, 0)], grid[min(k + 1, _GRID - 1)])
        refined = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9 * bounds[1]})
        best, value = float(grid[k]), float(utility[k])
        if -refined.fun > value:
            best, value = float(refined.x), -float(refined.fun)
        return (best, value - now) if value > now else (float(profile[agent]), 0.0)

    # ------------------------------------------------------------------ equilibria

    def find_equilibrium(
        self,
        starts: Start | Sequence[Start] = ("zero", "above"),
        *,
        tolerance: float = CERTIFIED,
        max_rounds: int = 200,
    ) -> Equilibrium:
        """Iterate best responses, and certify what they lead to by its regret.

        Agents respond one after the other, each only if it gains more than the tolerance.

        Parameters
        ----------
        starts : "zero", "above", array of shape (n_agents,), or a sequence of such
            Where to begin: nobody contributes, all contribute their limits, or a given profile. The first
            start that leads to an equilibrium decides.
        tolerance : float
            Regret (accuracy units) up to which a profile is an equilibrium.
        max_rounds : int
            Rounds for each start.

        Returns
        -------
        Equilibrium
            With ``found`` false and the reason, if no start leads to one. That does not prove that there is
            none: see `least_regret`.
        """
        best: Equilibrium | None = None
        for start in self._starts(starts):
            profile, rounds, reason = self._iterate(start, tolerance, max_rounds)
            candidate = self._certify(
                profile, tolerance, method="best response", rounds=rounds, reason=reason
            )
            if candidate.found:
                return candidate
            if best is None or candidate.regret < best.regret:
                best = candidate
        assert best is not None  # there is at least one start
        return best

    def _iterate(self, start: Array, tolerance: float, max_rounds: int) -> tuple[Array, int, str]:
        """Best responses one after the other; where they lead, in how many rounds, and how it ended."""
        profile, seen = start.copy(), [start.copy()]
        for rounds in range(1, max_rounds + 1):
            moved = False
            for agent in range(self.n_agents):
                response, gain = self._respond(profile, agent)
                if gain > tolerance:
                    profile[agent], moved = response, True
            if not moved:
                return profile, rounds, "nobody gains by another contribution"
            for ago, earlier in enumerate(reversed(seen), start=1):
                if np.all(np.abs(profile - earlier) <= _SAME_PROFILE * self.contribution_limit):
                    return profile, rounds, f"best responses cycle with period {ago}"
            seen.append(profile.copy())
        return profile, max_rounds, f"best responses still change after {max_rounds} rounds"

    def _certify(self, profile: Array, tolerance: float, **known: Any) -> Equilibrium:
        regret = self.regret(profile)
        found = regret <= tolerance
        if not found:
            known["reason"] = f"no equilibrium found, regret {regret:.3g}: {known.get('reason', '')}"
        total = self.seed_data + float(profile.sum())
        return Equilibrium(profile, total, self.utility(profile), regret, found=found, **known)

    def _starts(self, starts: Start | Sequence[Start]) -> Iterator[Array]:
        given: Any = starts
        several = isinstance(given, list | tuple) and any(isinstance(s, str) or np.ndim(s) for s in given)
        for start in given if several else (given,):
            if isinstance(start, str):
                if start not in ("zero", "above"):
                    raise InvalidInput(f"a start must be 'zero', 'above' or a profile, got {start!r}")
                yield np.zeros(self.n_agents) if start == "zero" else self.contribution_limit.copy()
            else:
                yield self._profile(start, batch=False).copy()

    def least_regret(self, points: int = 100) -> tuple[float, Array]:
        """Search a grid of profiles for the one of least regret, deviations on the same grid.

        If there is an equilibrium the least regret shrinks with the grid; if it does not, that is evidence
        that there is none.

        Parameters
        ----------
        points : int
            Contributions of each agent that are tried, from 0 to its limit; with n agents there are
            ``points ** n`` profiles, at most two million.

        Returns
        -------
        regret : float
            In accuracy units.
        contribution : array, shape (n_agents,)
        """
        checks.count(points, "points", least=2)
        if points**self.n_agents > _MAX_PROFILES:
            raise InvalidInput(
                f"points = {points} makes {points}**{self.n_agents} profiles, more than {_MAX_PROFILES}; "
                "take fewer"
            )
        axes = [np.linspace(0.0, limit, points) for limit in self.contribution_limit]
        profiles = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        utility = self.utility(profiles)
        regret = np.zeros(profiles.shape[:-1])
        for agent in range(self.n_agents):
            own = utility[..., agent]
            np.maximum(regret, own.max(axis=agent, keepdims=True) - own, out=regret)
        where = np.unravel_index(int(np.argmin(regret)), regret.shape)
        return float(regret[where]), profiles[where]

    def _profile(self, contributions: ArrayLike, *, batch: bool = True) -> Array:
        """Check contributions: finite, >= 0, one an agent."""
        profile = np.asarray(contributions, dtype=float)
        if profile.ndim == 0 or profile.shape[-1] != self.n_agents or (profile.ndim > 1 and not batch):
            raise InvalidInput(
                f"contributions has shape {profile.shape}; give one for each of {self.n_agents} agents"
            )
        broken = ~(np.isfinite(profile) & (profile >= 0))
        if np.any(broken):
            index = tuple(int(i) for i in np.argwhere(broken)[0])
            where = index[0] if len(index) == 1 else index
            raise InvalidInput(f"contributions[{where}] = {profile[index]:g} must be finite and >= 0")
        return profile


@dataclass(frozen=True, eq=False)
class UserMechanism(Mechanism):
    """A mechanism given by a callable.

    Parameters
    ----------
    rule : callable
        Accuracy of each agent's model from the contributions, from shape (..., n_agents) to the same.
    costs : array, shape (n_agents,)
        Marginal costs (accuracy per data point), > 0.
    limits : array, shape (n_agents,), optional
        Contributions beyond which no agent would go; by default ``1 / costs``, as no accuracy exceeds 1.

    Examples
    --------
    >>> import numpy as np
    >>> shares = UserMechanism(lambda m: m / (1 + m.sum(axis=-1, keepdims=True)), [0.2, 0.2])
    >>> found = shares.find_equilibrium()
    >>> found.found, found.contribution.round(2).tolist()
    (True, [1.13, 1.13])
    """

    rule: Callable[[Array], Array]
    costs: Array
    limits: Array | None = None

    def __post_init__(self) -> None:
        if not callable(self.rule):
            raise InvalidInput(f"rule must be callable, got {self.rule!r}")
        object.__setattr__(self, "costs", marginal_costs(self.costs))
        limits = agent_costs(self.limits, self.costs.size, "limits")
        object.__setattr__(self, "limits", 1 / self.costs if limits is None else limits)

    @property
    def marginal_costs(self) -> Array:
        """Cost of a data point for each agent (accuracy units), shape (n_agents,)."""
        return self.costs

    @property
    def contribution_limit(self) -> Array:
        """Contributions beyond which no agent would go; shape (n_agents,)."""
        assert self.limits is not None  # filled in
        return self.limits

    def reward(self, contributions: ArrayLike) -> Array:
        """Accuracy of each agent's model, shape (..., n_agents)."""
        profile = self._profile(contributions)
        reward = np.asarray(self.rule(profile), dtype=float)
        if reward.shape != profile.shape:
            raise InvalidInput(
                f"rule returned shape {reward.shape} for contributions of shape {profile.shape}; agents are "
                "on the last axis: index with m[..., i], and sum with axis=-1"
            )
        return reward


class _PoolMechanism(Mechanism):
    """A mechanism of an accuracy-shaping problem."""

    def __init__(self, shaping: AccuracyShaping) -> None:
        self.shaping = shaping

    @property
    def marginal_costs(self) -> Array:
        """Cost of a data point for each agent (accuracy units), shape (n_agents,)."""
        return self.shaping.marginal_costs

    @property
    def seed_data(self) -> float:
        """Data in the pool that no agent contributes."""
        return self.shaping.seed_data

    @property
    def contribution_limit(self) -> Array:
        """What a model of the best accuracy is worth in data; shape (n_agents,)."""
        limit: Array = self.shaping.accuracy.max_accuracy / self.marginal_costs
        return limit

    def _others(self, profile: Array) -> Array:
        """Data in the pool that are not the agent's."""
        others: Array = self.seed_data + np.maximum(profile.sum(axis=-1, keepdims=True) - profile, 0.0)
        return others


class StandardMechanism(_PoolMechanism):
    r"""Standard federated learning: everybody gets the model of all data, :math:`[M(m)]_i = a(M)`.

    Parameters
    ----------
    shaping : AccuracyShaping

    References
    ----------
    Karimireddy et al., eq. (10).
    """

    def reward(self, contributions: ArrayLike) -> Array:
        """Accuracy of each agent's model, shape (..., n_agents): the same for all."""
        profile = self._profile(contributions)
        pool = self.shaping.accuracy(self.seed_data + profile.sum(axis=-1, keepdims=True))
        reward: Array = np.broadcast_to(pool, profile.shape)
        return reward

    def best_response(self, contributions: ArrayLike) -> Array:
        """Contribution of each agent that is best for it: up to b' = c, or none; shape (n_agents,)."""
        profile = self._profile(contributions, batch=False)
        others = self._others(profile)
        more = np.maximum(self.shaping.accuracy.inverse_derivative(self.marginal_costs) - others, 0.0)
        response: Array = np.where(self._worth(more, others) > self._worth(0.0 * more, others), more, 0.0)
        kept = self._worth(profile, others) >= self._worth(response, others)
        return np.where(kept, profile, response)

    def _worth(self, contribution: Array, others: Array) -> Array:
        value: Array = self.shaping.accuracy(contribution + others) - self.marginal_costs * contribution
        return value

    def _gain(self, profile: Array, response: Array) -> Array:
        others = self._others(profile)
        return self._worth(response, others) - self._worth(profile, others)

    def _respond(self, profile: Array, agent: int) -> tuple[float, float]:
        response = self.best_response(profile)
        return float(response[agent]), float(self._gain(profile, response)[agent])


class ShapedMechanism(_PoolMechanism):
    r"""The data-maximising mechanism (13), corrected.

    .. math:: [M(m)]_i = \begin{cases} a(m_i) & m_i \le m_i^* \\
       \min \bigl( a(m_i^*) + (c_i + \varepsilon)(m_i - m_i^*), \; a(M) \bigr) & m_i > m_i^* \end{cases}

    Up to what it would collect on its own, an agent gets the model of its own data; from there on, slightly
    more than its cost for each data point, as long as there is accuracy to give. Without the minimum the
    mechanism would promise models that there are none of.

    Parameters
    ----------
    shaping : AccuracyShaping
    incentive_margin : float
        What a data point brings an agent beyond its cost, :math:`\varepsilon` (accuracy units), >= 0. With 0,
        agents are indifferent between all contributions from the one alone to the one wanted, and take the
        latter here.

    References
    ----------
    Karimireddy et al., eq. (13), Theorem 4.2.

    Examples
    --------
    >>> from mechopt.formulations.accuracy_shaping import AccuracyShaping
    >>> from mechopt.formulations.functions import SqrtAccuracy
    >>> mechanism = AccuracyShaping(SqrtAccuracy(1.0, difficulty=1.0), [0.01, 0.02, 0.05]).mechanism(1e-3)
    >>> found = mechanism.find_equilibrium()
    >>> round(found.total_data, 5), found.regret <= 1e-12
    (85.55419, True)
    """

    def __init__(self, shaping: AccuracyShaping, incentive_margin: float = 1e-6) -> None:
        super().__init__(shaping)
        self.incentive_margin = checks.nonnegative(
            incentive_margin, "incentive_margin", "a negative one would deter agents"
        )
        alone = shaping.standalone()
        self._alone = alone.contribution
        self._start = shaping.accuracy(self._alone)
        self._slope = shaping.marginal_costs + self.incentive_margin

    def reward(self, contributions: ArrayLike) -> Array:
        """Accuracy of each agent's model, shape (..., n_agents)."""
        profile = self._profile(contributions)
        return self._reward(profile, self._others(profile))

    def _reward(self, contribution: Array, others: Array) -> Array:
        accuracy = self.shaping.accuracy
        line = self._start + self._slope * (contribution - self._alone)
        beyond = np.minimum(line, accuracy(contribution + others))
        return np.where(contribution > self._alone, beyond, accuracy(np.minimum(contribution, self._alone)))

    def max_incentivized_contribution(self, others_data: ArrayLike) -> Array:
        r"""Compute how far each agent can be led when the others' data are given.

        .. math:: m_i^{max}(S) = \sup \{ m \ge m_i^* :
           a(m_i^*) + (c_i + \varepsilon)(m - m_i^*) \le a(m + S) \}

        Parameters
        ----------
        others_data : float or array that broadcasts to (..., n_agents)
            Data S in the pool besides the agent's own (data points), >= 0.

        Returns
        -------
        array, shape (..., n_agents)
            The largest root: the line may cross the accuracy up to three times.
        """
        others = np.asarray(others_data, dtype=float)
        if not np.all(np.isfinite(others) & (others >= 0)):
            raise InvalidInput("others_data must be finite and >= 0")
        accuracy = self.shaping.accuracy
        low = np.broadcast_to(self._alone, np.broadcast_shapes(others.shape, self._alone.shape))
        # Here the line is at max_accuracy, and above the model; Newton's method comes down to the root.
        at = low + (accuracy.max_accuracy - self._start) / self._slope
        with np.errstate(invalid="ignore", divide="ignore"):
            while True:
                excess = accuracy.concave_part(at + others) - self._start - self._slope * (at - self._alone)
                fall = accuracy.concave_part_derivative(at + others) - self._slope
                following = np.where(fall < 0, at - excess / fall, -np.inf)
                # Passing m*, it finds no root beyond; not advancing, it is at the root.
                done = (excess >= 0) | (following >= at * (1 - _EPS))
                following = np.where(done, at, np.maximum(following, low))
                if np.array_equal(following, at):
                    break
                at = following
        # On its own data alone, nobody goes further: there the line touches, and rounding decides.
        return np.where(others > 0, at, low)

    def best_response(self, contributions: ArrayLike) -> Array:
        """Contribution of each agent that is best for it, given those of the others.

        That is how far it can be led; or, just beyond, where the pool's own accuracy is still worth its cost,
        in the rare case that the pool is so small.

        Parameters
        ----------
        contributions : array, shape (..., n_agents)
            Data points, >= 0.

        Returns
        -------
        array, shape (..., n_agents)
            Of several best responses the largest.
        """
        return self._best(self._others(self._profile(contributions)))

    def _best(self, others: Array) -> Array:
        led = self.max_incentivized_contribution(others)
        beyond = self.shaping.accuracy.inverse_derivative(self.marginal_costs) - others
        further = beyond > led
        if not np.any(further):
            return led
        beyond = np.where(further, beyond, led)
        better = further & (self._worth(beyond, others) > self._worth(led, others))
        return np.where(better, beyond, led)

    def _worth(self, contribution: Array, others: Array) -> Array:
        value: Array = self._reward(contribution, others) - self.marginal_costs * contribution
        return value

    def _gain(self, profile: Array, response: Array) -> Array:
        others = self._others(profile)
        return self._worth(response, others) - self._worth(profile, others)

    def find_equilibrium(
        self,
        starts: Start | Sequence[Start] = ("above",),
        *,
        tolerance: float | None = None,
        max_rounds: int = 20_000,
        method: Literal["best response", "complementarity"] = "best response",
        sense: Literal["largest", "smallest"] = "largest",
        backend: str = "pyomo:scip",
        **options: Any,
    ) -> Equilibrium:
        """Find an equilibrium, and certify it by its regret.

        Parameters
        ----------
        starts : "zero", "above", array of shape (n_agents,), or a sequence of such
            Where best responses begin: they arrive at the least equilibrium from nothing, and at the greatest
            from above.
        tolerance : float, optional
            Regret (accuracy units) up to which a profile is an equilibrium; default 1e-8, and 1e-6 for what
            a solver found.
        max_rounds : int
            Rounds of best responses for each start, all agents at once.
        method : {"best response", "complementarity"}
            Iterate best responses, or solve `equilibrium_program`.
        sense, backend, **options
            For the latter: which equilibrium, and by which solver.

        Returns
        -------
        Equilibrium

        Raises
        ------
        SolverFailure
            If the solver of a complementarity program has no answer; local ones prove no infeasibility.
        """
        if method == "best response":
            return super().find_equilibrium(
                starts, tolerance=CERTIFIED if tolerance is None else tolerance, max_rounds=max_rounds
            )
        if method != "complementarity":
            raise InvalidInput(f"method must be 'best response' or 'complementarity', got {method!r}")
        try:
            solution = self.equilibrium_program(sense).solve(backend, **options)
            profile = np.maximum(solution["contribution"], 0.0)
            reason = f"{sense} of {backend}: {solution.status}"
        except Infeasible:
            profile, reason = np.zeros(self.n_agents), f"{backend} finds no pool that pays for itself"
        return self._certify(
            profile,
            CERTIFIED_NUMERICALLY if tolerance is None else tolerance,
            method="complementarity",
            reason=reason,
        )

    def _iterate(self, start: Array, tolerance: float, max_rounds: int) -> tuple[Array, int, str]:
        """All respond at once, until nothing moves: with a small margin, regret is small long before."""
        profile, limit = start, self._alone + self.contribution_limit
        for rounds in range(1, max_rounds + 1):
            response = self.best_response(profile)
            moved = np.max(np.abs(response - profile) / limit)
            profile = response
            if moved <= _CONVERGED:
                return profile, rounds, "best responses have converged"
        return profile, max_rounds, f"best responses still change after {max_rounds} rounds"

    def equilibrium_program(self, sense: Literal["largest", "smallest"] = "largest") -> Program:
        r"""Declare the equilibria on the branch b >= 0 as complementarity pairs.

        .. math:: 0 \le x_i \perp a(m_i^*) + (c_i + \varepsilon) x_i - b(M) \ge 0, \qquad
           M = s + \sum_i m_i^* + x_i

        An agent goes on as long as its line is below the pool's accuracy.

        Parameters
        ----------
        sense : {"largest", "smallest"}
            Which equilibrium, by total data.

        Returns
        -------
        Program
            With ``incentivized_contribution`` x, ``contribution``, ``total_data``, ``accuracy``, and families
            ``pool``, ``accuracy_of_pool``, ``best_response``.

        Raises
        ------
        NotApplicable
            If CVXPY cannot express the accuracy: it is needed in an equation.
        """
        if sense not in ("largest", "smallest"):
            raise InvalidInput(f"sense must be 'largest' or 'smallest', got {sense!r}")
        if not self.shaping.accuracy.has_expression:
            raise NotApplicable(
                f"{type(self.shaping.accuracy).__name__} has no CVXPY expression, and cannot be held in an "
                "equation by its tangents; use method='best response'"
            )
        return declare_equilibrium(self.shaping, self.incentive_margin, sense)


def marginal_costs(value: ArrayLike) -> Array:
    """Check marginal costs: at least one, all finite and > 0."""
    costs = checks.vector(value, "marginal_costs")
    if costs.size == 0:
        raise InvalidInput("marginal_costs is empty; give at least one")
    broken = ~(np.isfinite(costs) & (costs > 0))
    if np.any(broken):
        index = int(np.argmax(broken))
        raise InvalidInput(
            f"marginal_costs[{index}] = {costs[index]:g} must be positive and finite: zero cost makes data "
            "unbounded"
        )
    return costs
