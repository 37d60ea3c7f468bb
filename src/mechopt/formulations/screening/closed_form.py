r"""Closed forms of the screening contract: the oracle that the programs and the exact algorithm are held to.

With the virtual type :math:`\varphi_k = \delta_k + (P_{k-1} / p_k)(\delta_k - \delta_{k-1})` and the
privacy-weighted data :math:`x = \delta q`, each type gets the amount at which the marginal gain meets the
virtual cost, :math:`f'(x_k) = c \varphi_k / \delta_k`. That is the optimum only if the quantities so found
are non-increasing, which neither an increasing virtual type nor the usual hazard-rate condition guarantees
here: the type enters the gain as well as the cost. So a closed form always says whether it applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions import (
    ConcaveFunction,
    ConvexCost,
    LogGain,
    PowerCost,
    PowerGain,
    QuadraticCost,
    QuadraticGain,
    SaturatingGain,
)
from mechopt.solvers.errors import InvalidInput, NotApplicable

__all__ = [
    "ClosedForm",
    "closed_form",
    "uniform_cutoff",
    "uniform_payment",
    "uniform_quantity",
    "uniform_rent",
    "uniform_value",
]

FloatArray = NDArray[np.float64]

# Two equal quantities may differ in their last digits, relative to x + 1 / scale (where the formulas cancel).
_ROUNDING = 32 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The menu that the formula gives, and whether it is the optimal one.

    Attributes
    ----------
    quantity : ndarray, shape (n_types,)
        Data of each contract (records): ``formula_quantity`` with negative entries set to 0.
    payment : ndarray, shape (n_types,)
        Payment of each contract (utility), eq. (41).
    rent : ndarray, shape (n_types,)
        Utility of each type from its own contract.
    virtual_type : ndarray, shape (n_types,)
        Virtual types φ (nats), φ >= δ.
    objective : float
        Expected utility of the demander per holder from this menu. Not attainable if ``valid`` is False:
        types would then choose other contracts than their own.
    formula_quantity : ndarray, shape (n_types,)
        The formula as it stands; entries may be negative.
    valid : bool
        Whether ``quantity`` and ``payment`` are the optimal menu.
    reason_code : {"", "negative", "non_monotone", "unbounded"}
        What is not as in eq. (42). ``"negative"`` is harmless: the menu is optimal once the negative entries
        are clipped, and the types concerned are excluded. The two others make the form invalid.
    reason : str
        The same in a sentence, with the first index concerned and what to use instead; empty if nothing is.
    excluded : int
        Number of types that get the null contract.
    """

    quantity: FloatArray
    payment: FloatArray
    rent: FloatArray
    virtual_type: FloatArray
    objective: float
    formula_quantity: FloatArray
    valid: bool
    reason_code: str
    reason: str
    excluded: int

    def require(self) -> ClosedForm:
        """Return this form if it is valid.

        Raises
        ------
        NotApplicable
            If the formula does not give the optimal menu.
        """
        if not self.valid:
            raise NotApplicable(f"the closed form does not apply: {self.reason}", reason=self.reason)
        return self


def closed_form(
    types: ArrayLike,
    probs: ArrayLike,
    gain: ConcaveFunction,
    unit_cost: float,
    *,
    cost_curve: ConvexCost | None = None,
) -> ClosedForm:
    r"""Evaluate the closed form of the optimal menu, and test whether it applies.

    .. math:: f'(\delta_k q_k) = c \varphi_k / \delta_k, \qquad
       \text{log gain: } q_k = \frac{\omega}{c \varphi_k} - \frac{1}{\alpha \delta_k}

    With a cost curve h the right-hand side is :math:`c \varphi_k h'(q_k) / \delta_k`, and payments are those
    of eq. (41) with h(q) in place of q. For the power gain :math:`\omega (\alpha x)^\theta` and the power
    cost :math:`s (q / s)^\beta`, that gives

    .. math:: q_k = \left( \frac{\omega \theta (\alpha \delta_k)^\theta s^{\beta - 1}}{c \varphi_k \beta}
       \right)^{1 / (\beta - \theta)}

    The arguments are taken as valid; the mechanism checks them.

    Parameters
    ----------
    types : array_like, shape (n_types,)
        Privacy levels δ (nats), strictly increasing, > 0.
    probs : array_like, shape (n_types,)
        Probability of each type, > 0, sum 1.
    gain : ConcaveFunction
        Gain f of privacy-weighted data x = δ q.
    unit_cost : float
        Cost c (utility per nat and record), > 0.
    cost_curve : ConvexCost, optional
        Curve h of the cost c δ h(q) of q records: a linear one with any gain, or a power cost with the power
        gain. Default: h(q) = q.

    Returns
    -------
    ClosedForm
        The menu of the formula. Look at ``valid``, or call ``require()``.

    Raises
    ------
    NotApplicable
        If the gain has no closed form with this cost curve.

    References
    ----------
    Contract paper, eqs. (41) and (42); (42) is printed for equal probabilities and without its conditions.

    Examples
    --------
    >>> gain = LogGain(weight=50, scale=2)
    >>> form = closed_form([1.0, 1.8, 2.6], [1 / 3, 1 / 3, 1 / 3], gain, unit_cost=1.0)
    >>> form.quantity.round(3).tolist(), form.valid
    ([49.5, 18.953, 11.712], True)
    >>> form = closed_form([1.0, 1.8, 1.9], [1 / 3, 1 / 3, 1 / 3], gain, unit_cost=1.0)
    >>> form.quantity.round(3).tolist(), form.valid, form.reason_code
    ([49.5, 18.953, 23.546], False, 'non_monotone')
    """
    delta, p = np.asarray(types, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    phi = delta.copy()
    phi[1:] += np.cumsum(p)[:-1] / p[1:] * np.diff(delta)
    formula = _with_curve(gain, delta, phi, unit_cost, cost_curve)
    quantity = np.maximum(formula, 0.0)
    burden = quantity if cost_curve is None else cost_curve(quantity)
    # Eq. (41) summed by parts: the payment falls by c δ_j (q_j - q_{j+1}) from contract j to the next.
    drops = delta * (burden - np.append(burden[1:], 0.0))
    payment = unit_cost * np.cumsum(drops[::-1])[::-1]
    valid, code, reason = _verdict(formula, delta, gain)
    with np.errstate(invalid="ignore"):  # an unbounded form has neither rents nor a value
        rent = payment - unit_cost * delta * burden
        objective = float(np.sum(p * (gain(delta * quantity) - payment)))
    return ClosedForm(
        quantity=quantity,
        payment=payment,
        rent=rent,
        virtual_type=phi,
        objective=objective,
        formula_quantity=formula,
        valid=valid,
        reason_code=code,
        reason=reason,
        excluded=int(np.count_nonzero(quantity == 0)),
    )


def _verdict(formula: FloatArray, delta: FloatArray, gain: ConcaveFunction) -> tuple[bool, str, str]:
    """Whether the clipped formula is optimal, a code, and a sentence."""
    if not np.isfinite(formula).all():
        k = int(np.argmax(~np.isfinite(formula)))
        return (
            False,
            "unbounded",
            f"type {k} wants unlimited data, since the gain grows at least as fast as the virtual cost: "
            "lower the slope of the gain at infinity, or raise unit_cost",
        )
    quantity = np.maximum(formula, 0.0)
    tolerance = _ROUNDING * (quantity[:-1] + gain.natural_scale / delta[:-1])
    rises = np.flatnonzero(np.diff(quantity) > tolerance)
    if rises.size:
        k = int(rises[0])
        return (
            False,
            "non_monotone",
            f"the formula's quantity rises from {quantity[k]:.6g} (type {k}) to {quantity[k + 1]:.6g} "
            f"(type {k + 1}), so the menu is not incentive compatible: pool types, with the exact algorithm",
        )
    if formula[-1] < 0:
        k = int(np.argmax(formula < 0))
        return (
            True,
            "negative",
            f"the formula is negative from type {k} on: these types get the null contract, and the clipped "
            "quantities are optimal",
        )
    return True, "", ""


def _with_curve(
    gain: ConcaveFunction,
    delta: FloatArray,
    phi: FloatArray,
    unit_cost: float,
    cost_curve: ConvexCost | None,
) -> FloatArray:
    """Quantity q with f'(δ q) = c φ h'(q) / δ, where there is a formula for it."""
    if cost_curve is None:
        return _stationary(gain, delta, phi, unit_cost)
    if isinstance(cost_curve, PowerCost) and cost_curve.exponent == 1:
        return _stationary(gain, delta, phi, unit_cost)
    if isinstance(cost_curve, QuadraticCost) and cost_curve.curvature == 0:
        return _stationary(gain, delta, phi, unit_cost * cost_curve.slope)
    if isinstance(cost_curve, PowerCost) and isinstance(gain, PowerGain):
        theta, beta = gain.exponent, cost_curve.exponent
        # In units of the cost's scale, so that no power of it appears alone.
        worth = gain.weight * theta * (gain.scale * delta * cost_curve.scale) ** theta
        ratio = worth / (unit_cost * phi * beta * cost_curve.scale)
        quantity: FloatArray = cost_curve.scale * ratio ** (1 / (beta - theta))
        return quantity
    reason = (
        f"there is no formula for the quantity with {type(gain).__name__} and {type(cost_curve).__name__} "
        "(but for a power gain with a power cost, and for every gain with a linear cost): use the exact "
        "algorithm"
    )
    raise NotApplicable(f"no closed form: {reason}", reason=reason)


@singledispatch
def _stationary(gain: ConcaveFunction, delta: FloatArray, phi: FloatArray, unit_cost: float) -> FloatArray:
    """Quantity q with f'(δ q) = c φ / δ; a gain without a formula of its own clips it at 0."""
    return np.asarray(gain.inverse_derivative(unit_cost * phi / delta)) / delta


@_stationary.register
def _(gain: LogGain, delta: FloatArray, phi: FloatArray, unit_cost: float) -> FloatArray:
    quantity: FloatArray = gain.weight / (unit_cost * phi) - 1 / (gain.scale * delta)
    return quantity


@_stationary.register
def _(gain: PowerGain, delta: FloatArray, phi: FloatArray, unit_cost: float) -> FloatArray:
    ratio = gain.weight * gain.exponent * gain.scale * delta / (unit_cost * phi)
    quantity: FloatArray = np.power(ratio, 1 / (1 - gain.exponent)) / (gain.scale * delta)
    return quantity


@_stationary.register
def _(gain: SaturatingGain, delta: FloatArray, phi: FloatArray, unit_cost: float) -> FloatArray:
    ratio = gain.weight * gain.scale / unit_cost
    quantity: FloatArray = (np.log(ratio) - np.log(phi / delta)) / (gain.scale * delta)
    return quantity


@_stationary.register
def _(gain: QuadraticGain, delta: FloatArray, phi: FloatArray, unit_cost: float) -> FloatArray:
    z = (gain.slope - unit_cost * phi / (gain.scale * delta)) / gain.curvature
    return z / (gain.scale * delta)


def uniform_cutoff(lo: float, hi: float, gain: LogGain, unit_cost: float) -> float:
    r"""Compute the highest type that is served when types are uniform on [lo, hi].

    With r = weight * scale / unit_cost, it is hi if r >= 2 - lo / hi, lo / (2 - r) if 1 < r < 2 - lo / hi,
    and lo (nobody is served) if r <= 1.

    Parameters
    ----------
    lo, hi : float
        Smallest and largest privacy level (nats), 0 < lo < hi.
    gain : LogGain
        Gain of x = ε q.
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    float
        Cutoff (nats) in [lo, hi].

    Raises
    ------
    InvalidInput
        If lo, hi is not an interval of positive numbers.

    References
    ----------
    Contract paper, eq. (29), with the exclusion that the paper leaves out.

    Examples
    --------
    >>> round(uniform_cutoff(0.1, 1.0, LogGain(weight=1.8, scale=1), unit_cost=1.0), 12)
    0.5
    """
    _check_interval(lo, hi)
    ratio = gain.weight * gain.scale / unit_cost
    if ratio <= 1:
        return float(lo)
    return float(hi) if ratio >= 2 - lo / hi else float(lo / (2 - ratio))


def uniform_quantity(eps: ArrayLike, lo: float, hi: float, gain: LogGain, unit_cost: float) -> FloatArray:
    r"""Compute the optimal data of types that are uniform on [lo, hi].

    .. math:: q(\varepsilon) = \frac{\omega}{c (2 \varepsilon - lo)} - \frac{1}{\alpha \varepsilon}

    up to the cutoff, 0 above it. Always regular: no pooling.

    Parameters
    ----------
    eps : array_like
        Privacy levels (nats) in [lo, hi], any shape.
    lo, hi : float
        Smallest and largest privacy level (nats), 0 < lo < hi.
    gain : LogGain
        Gain of x = ε q.
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ndarray, shape of ``eps``
        Quantities (records), non-increasing in ``eps``.

    Raises
    ------
    InvalidInput
        If an entry of ``eps`` is outside [lo, hi], or lo, hi is not an interval of positive numbers.

    References
    ----------
    Contract paper, eq. (29), Fig. 2.

    Examples
    --------
    >>> uniform_quantity([0.01, 0.11], 0.01, 0.21, LogGain(weight=100, scale=2), 1.0).round(3).tolist()
    [9950.0, 471.645]
    """
    eps = _levels(eps, lo, hi)
    cutoff = uniform_cutoff(lo, hi, gain, unit_cost)
    quantity = gain.weight / (unit_cost * (2 * eps - lo)) - 1 / (gain.scale * eps)
    return np.where((eps <= cutoff) & (cutoff > lo), np.maximum(quantity, 0.0), 0.0)


def uniform_rent(eps: ArrayLike, lo: float, hi: float, gain: LogGain, unit_cost: float) -> FloatArray:
    r"""Compute the information rent of types that are uniform on [lo, hi].

    .. math:: u(\varepsilon) = c \int_\varepsilon^{hi} q
       = \frac{\omega}{2} \log \frac{2 e_0 - lo}{2 \varepsilon - lo}
       - \frac{c}{\alpha} \log \frac{e_0}{\varepsilon}

    up to the cutoff :math:`e_0`, 0 above it.

    Parameters
    ----------
    eps : array_like
        Privacy levels (nats) in [lo, hi], any shape.
    lo, hi : float
        Smallest and largest privacy level (nats), 0 < lo < hi.
    gain : LogGain
        Gain of x = ε q.
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ndarray, shape of ``eps``
        Rents (utility), >= 0.

    Raises
    ------
    InvalidInput
        If an entry of ``eps`` is outside [lo, hi], or lo, hi is not an interval of positive numbers.

    References
    ----------
    Contract paper, eq. (30), limits of the integral corrected.

    Examples
    --------
    >>> uniform_rent([0.01, 0.11, 0.21], 0.01, 0.21, LogGain(weight=100, scale=2), 1.0).round(4).tolist()
    [184.1563, 33.1292, 0.0]
    """
    cutoff = uniform_cutoff(lo, hi, gain, unit_cost)
    # Above the cutoff the formula is continued by its value there, which is 0.
    eps = np.minimum(_levels(eps, lo, hi), cutoff)
    information = gain.weight / 2 * np.log((2 * cutoff - lo) / (2 * eps - lo))
    rent: FloatArray = information - unit_cost / gain.scale * np.log(cutoff / eps)
    return rent


def uniform_payment(eps: ArrayLike, lo: float, hi: float, gain: LogGain, unit_cost: float) -> FloatArray:
    r"""Compute the optimal payment to types that are uniform on [lo, hi].

    .. math:: \gamma(\varepsilon) = c \varepsilon q(\varepsilon) + u(\varepsilon)

    Parameters
    ----------
    eps : array_like
        Privacy levels (nats) in [lo, hi], any shape.
    lo, hi : float
        Smallest and largest privacy level (nats), 0 < lo < hi.
    gain : LogGain
        Gain of x = ε q.
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ndarray, shape of ``eps``
        Payments (utility), >= 0, non-increasing in ``eps``.

    Raises
    ------
    InvalidInput
        If an entry of ``eps`` is outside [lo, hi], or lo, hi is not an interval of positive numbers.

    References
    ----------
    Contract paper, eq. (31), sign of the integral corrected; Fig. 4.

    Examples
    --------
    >>> uniform_payment([0.01, 0.11, 0.21], 0.01, 0.21, LogGain(weight=100, scale=2), 1.0).round(4).tolist()
    [283.6563, 85.0101, 50.7195]
    """
    cost = unit_cost * _levels(eps, lo, hi) * uniform_quantity(eps, lo, hi, gain, unit_cost)
    return cost + uniform_rent(eps, lo, hi, gain, unit_cost)


def uniform_value(lo: float, hi: float, gain: LogGain, unit_cost: float) -> float:
    r"""Compute the demander's optimal expected utility per holder, types uniform on [lo, hi].

    With the cutoff :math:`e_0`, r = ω α / c and :math:`s = 2 - lo / \varepsilon`,

    .. math:: \frac{1}{hi - lo} \int_{lo}^{e_0} \omega \log \frac{r}{s} - \omega + \frac{c}{\alpha} s
       \; d\varepsilon

    Parameters
    ----------
    lo, hi : float
        Smallest and largest privacy level (nats), 0 < lo < hi.
    gain : LogGain
        Gain of x = ε q.
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    float
        Value per holder (utility), >= 0.

    Raises
    ------
    InvalidInput
        If lo, hi is not an interval of positive numbers.

    References
    ----------
    Contract paper, eq. (22) at its optimum (29).

    Examples
    --------
    >>> round(uniform_value(0.01, 0.21, LogGain(weight=100, scale=2), 1.0), 6)
    369.789343
    """
    cutoff = uniform_cutoff(lo, hi, gain, unit_cost)
    width, ratio = cutoff - lo, gain.weight * gain.scale / unit_cost

    def integral_of_log(low: float, high: float) -> float:
        return float((high * np.log(high) - high) - (low * np.log(low) - low))

    logs = width * np.log(ratio) + integral_of_log(lo, cutoff) - integral_of_log(lo, 2 * cutoff - lo) / 2
    costs = unit_cost / gain.scale * (2 * width - lo * np.log(cutoff / lo))
    return float((gain.weight * (logs - width) + costs) / (hi - lo))


def _check_interval(lo: float, hi: float) -> None:
    if not (np.isfinite(hi) and 0 < lo < hi):
        raise InvalidInput(
            f"lo = {lo}, hi = {hi} must satisfy 0 < lo < hi < inf; with lo = 0 the quantity has no bound"
        )


def _levels(eps: ArrayLike, lo: float, hi: float) -> FloatArray:
    """Privacy levels in [lo, hi]; a rounding error beyond an end is moved to the end."""
    _check_interval(lo, hi)
    levels = np.asarray(eps, dtype=np.float64)
    outside = ~((levels >= lo - 1e-12 * hi) & (levels <= hi + 1e-12 * hi))
    if outside.any():
        bad = float(levels[outside][0])
        raise InvalidInput(f"eps = {bad} lies outside [{lo}, {hi}]; give privacy levels of existing types")
    return np.clip(levels, lo, hi)
