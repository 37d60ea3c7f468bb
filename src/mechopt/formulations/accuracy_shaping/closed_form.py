r"""Closed forms of accuracy shaping: the oracle that the programs and the exact algorithm are held to.

They hold for the simple accuracy (3), :math:`b(m) = a - 2 \sqrt{k / m}`, with which the equation of the pool
is a depressed cubic with three real roots: the largest is a cosine. What agents do alone has a closed form
for every power law.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions.accuracies import PowerLawAccuracy, SqrtAccuracy
from mechopt.solvers.errors import InvalidInput, NotApplicable

__all__ = [
    "ClosedForm",
    "closed_form",
    "contribution_ceiling",
    "hard_problem_total",
    "homogeneous_ratio",
    "least_pool_of_seed",
    "standalone",
    "viability_cost",
    "viable_together",
]

FloatArray = NDArray[np.float64]

# A cosine's argument this much beyond 1 is rounding: the problem is just viable.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The most data by formula.

    Attributes
    ----------
    contribution : ndarray, shape (n_agents,)
        Data of each agent (data points).
    total_data : float
        Data in the pool (data points), the seed included.
    allocated_accuracy : ndarray, shape (n_agents,)
        Accuracy of the model that each agent gets: that of the pool.
    standalone_contribution, standalone_utility : ndarray, shape (n_agents,)
        What each agent collects (data points) and has (accuracy units) alone.
    viable : bool
        Whether there is a pool that pays for itself; if not, all is 0 but the seed.
    """

    contribution: FloatArray
    total_data: float
    allocated_accuracy: FloatArray
    standalone_contribution: FloatArray
    standalone_utility: FloatArray
    viable: bool

    def __getitem__(self, name: str) -> Any:
        """Value by name, as a solution has it."""
        if name not in self.__dataclass_fields__:
            raise KeyError(f"no value named {name!r}; there are {', '.join(self.__dataclass_fields__)}")
        return getattr(self, name)


def closed_form(marginal_costs: ArrayLike, accuracy: Any, seed_data: float = 0.0) -> ClosedForm:
    r"""Evaluate the closed form of the data-maximising mechanism.

    With :math:`C = \sum 1/c_i` and :math:`A = s + \sum (a - u_i^*) / c_i`, the pool solves
    :math:`M + 2 C \sqrt{k / M} = A`:

    .. math:: M = \frac{4A}{3} \cos^2 \frac{\arccos \bigl( -C \sqrt k (3/A)^{3/2} \bigr)}{3}, \qquad
       m_i = \frac{b(M) - u_i^*}{c_i}

    and there is none if :math:`C \sqrt k (3/A)^{3/2} > 1`.

    Parameters
    ----------
    marginal_costs : array_like, shape (n_agents,)
        Costs c (accuracy per data point), > 0.
    accuracy : SqrtAccuracy
        Accuracy (3).
    seed_data : float
        Data s of the platform's own (data points), >= 0.

    Returns
    -------
    ClosedForm

    Raises
    ------
    NotApplicable
        For another accuracy.

    References
    ----------
    Karimireddy et al., Theorem 4.2 and Example 4.5, for any costs.

    Examples
    --------
    >>> form = closed_form([0.01, 0.02, 0.05], SqrtAccuracy(max_accuracy=1.0, difficulty=1.0))
    >>> round(form.total_data, 5)
    89.3876
    """
    _need_sqrt(accuracy)
    costs = np.asarray(marginal_costs, dtype=np.float64)
    a, k = accuracy.max_accuracy, accuracy.difficulty
    alone, utility = standalone(accuracy, costs)
    rate = float(np.sum(1 / costs))
    supply = float(np.sum((a - utility) / costs)) + seed_data
    strain = rate * np.sqrt(k) * (3 / supply) ** 1.5
    total = 4 * supply / 3 * np.cos(np.arccos(-min(strain, 1.0)) / 3) ** 2
    level = a - 2 * np.sqrt(k / total)
    # A root below 4k/a^2 has a negative level: it exists with little seed data, and is no pool.
    if strain > 1 + _ROUNDING or level < 0:
        zero = np.zeros(costs.shape)
        return ClosedForm(zero, seed_data, zero, alone, utility, False)
    return ClosedForm(
        contribution=(level - utility) / costs,
        total_data=float(total),
        allocated_accuracy=np.full(costs.shape, level),
        standalone_contribution=alone,
        standalone_utility=utility,
        viable=True,
    )


@singledispatch
def standalone(accuracy: Any, costs: ArrayLike) -> tuple[FloatArray, FloatArray]:
    r"""Compute what agents collect and have alone, for a power law :math:`b(m) = A - \beta m^{-\alpha}`.

    .. math:: m^* = \Bigl( \frac{\alpha \beta}{c} \Bigr)^{1/(1+\alpha)}, \qquad
       u^* = A - c m^* (1 + 1/\alpha)

    where that is positive, else both are 0; for (3), :math:`m^* = (\sqrt k / c)^{2/3}` and
    :math:`u^* = a - 3 (k c)^{1/3}`.

    Parameters
    ----------
    accuracy : SqrtAccuracy or PowerLawAccuracy
    costs : array_like, shape (n_agents,)
        Marginal costs (accuracy per data point), > 0.

    Returns
    -------
    contribution, utility : ndarray, shape (n_agents,)

    Raises
    ------
    NotApplicable
        For another accuracy.

    References
    ----------
    Karimireddy et al., Theorem 2.3, Examples 2.2 and 2.4.

    Examples
    --------
    >>> m, u = standalone(SqrtAccuracy(max_accuracy=1.0, difficulty=1.0), [0.001, 0.008, 0.1])
    >>> m.round(6).tolist(), u.round(6).tolist()
    ([100.0, 25.0, 0.0], [0.7, 0.4, 0.0])
    """
    raise NotApplicable(f"there is no closed form for {type(accuracy).__name__}; use the exact algorithm")


@standalone.register
def _(accuracy: SqrtAccuracy, costs: ArrayLike) -> tuple[FloatArray, FloatArray]:
    c, k = np.asarray(costs, dtype=np.float64), accuracy.difficulty
    utility = accuracy.max_accuracy - 3 * np.cbrt(k * c)
    return np.where(utility > 0, np.cbrt(k) / np.cbrt(c) ** 2, 0.0), np.maximum(utility, 0.0)


@standalone.register
def _(accuracy: PowerLawAccuracy, costs: ArrayLike) -> tuple[FloatArray, FloatArray]:
    c, exponent = np.asarray(costs, dtype=np.float64), accuracy.exponent
    contribution = (exponent * accuracy.coefficient / c) ** (1 / (1 + exponent))
    utility = 1 - accuracy.threshold - c * contribution * (1 + 1 / exponent)
    return np.where(utility > 0, contribution, 0.0), np.maximum(utility, 0.0)


def viability_cost(accuracy: Any) -> float:
    r"""Compute the highest cost at which an agent can work alone (accuracy per data point).

    .. math:: c_{max} = \Bigl( \frac{A \alpha}{1 + \alpha} \Bigr)^{(1+\alpha)/\alpha}
       (\alpha \beta)^{-1/\alpha}, \qquad \text{for (3): } \frac{a^3}{27 k}

    Raises
    ------
    NotApplicable
        If the accuracy is no power law.

    References
    ----------
    Karimireddy et al., Example 2.4, where it is called the minimum viability cost, though it is a maximum.

    Examples
    --------
    >>> round(1 / viability_cost(SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)), 9)
    27.0
    """
    if isinstance(accuracy, SqrtAccuracy):
        return float(accuracy.max_accuracy**3 / (27 * accuracy.difficulty))
    if isinstance(accuracy, PowerLawAccuracy):
        top, alpha, beta = 1 - accuracy.threshold, accuracy.exponent, accuracy.coefficient
        return float((top * alpha / (1 + alpha)) ** ((1 + alpha) / alpha) * (alpha * beta) ** (-1 / alpha))
    raise NotApplicable(f"there is no closed form for {type(accuracy).__name__}")


def contribution_ceiling(marginal_costs: ArrayLike, accuracy: Any) -> FloatArray:
    r"""Compute what agents would give to an infinite pool (data points).

    .. math:: \bar m_i = (a - u_i^*) / c_i, \qquad
       \text{for (3) and an agent that is viable: } 3 m_i^*

    Raises
    ------
    NotApplicable
        If the accuracy is no power law.

    References
    ----------
    Karimireddy et al., Remark 4.3.

    Examples
    --------
    >>> accuracy = SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)
    >>> contribution_ceiling([0.001, 0.1], accuracy).round(6).tolist()
    [300.0, 10.0]
    """
    costs = np.asarray(marginal_costs, dtype=np.float64)
    ceiling: FloatArray = (accuracy.max_accuracy - standalone(accuracy, costs)[1]) / costs
    return ceiling


def viable_together(marginal_costs: ArrayLike, accuracy: Any) -> bool:
    r"""Whether agents of whom nobody is viable alone can form a pool, :math:`\sum 1/c_i \ge 1/c_{max}`.

    References
    ----------
    Karimireddy et al., Remark 4.4, for any costs; the remark has equal ones.

    Examples
    --------
    >>> accuracy = SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)
    >>> viable_together([0.1, 0.1], accuracy), viable_together([0.1, 0.1, 0.1], accuracy)
    (False, True)
    """
    rate = float(np.sum(1 / np.asarray(marginal_costs, dtype=np.float64)))
    return rate * viability_cost(accuracy) >= 1 - _ROUNDING


def homogeneous_ratio(n_agents: ArrayLike) -> FloatArray:
    r"""Compute how many times its standalone data each of n equal, viable agents gives.

    The root of :math:`x + 2 / \sqrt{n x} = 3`,

    .. math:: x = 4 \cos^2 \frac{\arccos(-1/\sqrt n)}{3},

    from 1 for n = 1 over 2 for n = 2 to 3 in the limit.

    Parameters
    ----------
    n_agents : array_like
        Numbers of agents, >= 1.

    Returns
    -------
    ndarray, of the same shape

    Raises
    ------
    InvalidInput
        If a number is below 1.

    References
    ----------
    Karimireddy et al., Example 4.5, where only bounds are given.

    Examples
    --------
    >>> homogeneous_ratio([1, 2, 10, 100]).round(5).tolist()
    [1.0, 2.0, 2.6084, 2.88219]
    """
    n = np.asarray(n_agents, dtype=np.float64)
    if not np.all(n >= 1):
        raise InvalidInput(f"n_agents must be at least 1, got {n_agents!r}")
    ratio: FloatArray = 4 * np.cos(np.arccos(-1 / np.sqrt(n)) / 3) ** 2
    return ratio


def hard_problem_total(marginal_cost: float, n_agents: int, accuracy: Any) -> float:
    r"""Compute the data of n equal agents none of whom is viable alone (data points).

    .. math:: M = \frac{4 a n}{3 c} \cos^2 \frac{\arccos \bigl( -\sqrt{27 k c / (n a^3)} \bigr)}{3}
       \ge \frac{n a}{3 c}, \qquad n \ge \frac{27 k c}{a^3}

    and 0 with fewer agents. The complexity k enters, contrary to the text: only the bound is free of it.

    Raises
    ------
    NotApplicable
        If the accuracy is not (3), or an agent is viable alone.

    References
    ----------
    Karimireddy et al., Example 4.5, second part.

    Examples
    --------
    >>> round(hard_problem_total(0.2, 100, SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)), 2)
    453.02
    """
    _need_sqrt(accuracy)
    a, k = accuracy.max_accuracy, accuracy.difficulty
    if marginal_cost < viability_cost(accuracy):
        raise NotApplicable(
            f"marginal_cost = {marginal_cost:g} is below the viability cost {viability_cost(accuracy):g}: "
            "each agent is viable alone; use homogeneous_ratio"
        )
    strain = np.sqrt(27 * k * marginal_cost / (n_agents * a**3))
    if strain > 1 + _ROUNDING:
        return 0.0
    return float(4 * a * n_agents / (3 * marginal_cost) * np.cos(np.arccos(-min(strain, 1.0)) / 3) ** 2)


def least_pool_of_seed(marginal_cost: float, accuracy: Any) -> float:
    r"""Compute the seed data beyond which nobody contributing is no equilibrium (data points).

    .. math:: s_{min} = \frac{3 (k c)^{1/3} - a}{c}

    for a least cost c at which nobody is viable alone and the optimal model still has some accuracy,
    :math:`c \le b'(m_{min}) = a^3 / (8k)`; :math:`m_{min} = 4k / a^2` for higher costs, 0 for viable agents.

    Raises
    ------
    NotApplicable
        If the accuracy is not (3).

    References
    ----------
    Karimireddy et al., Remark 4.4: "committing to non-zero data collection" is not enough.

    Examples
    --------
    >>> round(least_pool_of_seed(0.05, SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)), 5)
    2.10419
    """
    _need_sqrt(accuracy)
    a, k = accuracy.max_accuracy, accuracy.difficulty
    if marginal_cost >= a**3 / (8 * k):
        return float(4 * k / a**2)
    return float(max((3 * np.cbrt(k * marginal_cost) - a) / marginal_cost, 0.0))


def _need_sqrt(accuracy: Any) -> None:
    if not isinstance(accuracy, SqrtAccuracy):
        raise NotApplicable(
            f"the closed form needs the accuracy (3), SqrtAccuracy, and got {type(accuracy).__name__}; "
            "use the exact algorithm"
        )
