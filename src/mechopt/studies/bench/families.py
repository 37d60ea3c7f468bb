"""What is benchmarked: families of programs of growing size, each with a reference that needs no solver.

A family is one mechanism in one variant. Instances are drawn from a size and a seed, are the same on every
machine, and have a reference value above zero, so that errors can be relative to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
from mechopt.formulations.accuracy_shaping.model import AccuracyShaping
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.formulations.data_externality.policy.mediator import mediator_program
from mechopt.formulations.fair_value.federated.model import FederatedMeanEstimation
from mechopt.formulations.fair_value.mean_estimation.model import MeanEstimation
from mechopt.formulations.fair_value.platform.model import PlatformPayments
from mechopt.formulations.functions import (
    AccuracyFunction,
    ConcaveFunction,
    GeneralizationBound,
    LogGain,
    LogUtility,
    PiecewiseLinearGain,
    PowerGain,
    QuadraticGain,
    SqrtAccuracy,
)
from mechopt.formulations.screening import ScreeningContract
from mechopt.formulations.screening.program import Form
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.prices import price_frontier
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution
from mechopt.verification.audit import Audit

CLOSED_FORM, EXACT, ROWS = "closed form", "exact algorithm", "row generation"


@dataclass(frozen=True)
class Reference:
    """The value that answers are measured against.

    Attributes
    ----------
    value : float
        Optimal objective.
    kind : str
        ``"closed form"``, ``"exact algorithm"`` (which is also what the backend ``exact`` runs, so that it
        says nothing about that one), or ``"row generation"``.
    """

    value: float
    kind: str


@dataclass(frozen=True)
class Family:
    """A mechanism in one variant, at any size.

    Attributes
    ----------
    mechanism, variant : str
        What it is called; see `name`.
    counts : str
        What the size counts.
    make : callable
        ``make(size, seed)``: the mechanism.
    declare : callable
        Of the mechanism: its program.
    refer : callable or None
        Of the mechanism: the `Reference`. None where there is no road to the value but solvers.
    sizes, quick_sizes : tuple of int
        Increasing; what is run by default, and with ``--quick``.
    audit : callable or None
        Of the mechanism and an answer: its audit by the definition.
    repair : callable or None
        Of the mechanism and an answer: the answer made exactly incentive compatible.
    """

    mechanism: str
    variant: str
    counts: str
    make: Callable[[int, int], Any]
    declare: Callable[[Any], Program]
    refer: Callable[[Any], Reference] | None
    sizes: tuple[int, ...]
    quick_sizes: tuple[int, ...]
    audit: Callable[[Any, Solution], Audit] | None = None
    repair: Callable[[Any, Solution], Solution] | None = None

    @property
    def name(self) -> str:
        """Mechanism and variant, ``"contract/log-full"``."""
        return f"{self.mechanism}/{self.variant}"

    @property
    def smallest(self) -> int:
        """Size at which a backend is warmed up, and its capabilities are looked at."""
        return min(self.sizes + self.quick_sizes)

    def build(self, size: int, seed: int) -> Program:
        """Declare the program of an instance."""
        return self.declare(self.make(size, seed))

    def oracle(self, size: int, seed: int) -> Reference | None:
        """Compute the reference of an instance; None if there is none."""
        return None if self.refer is None else self.refer(self.make(size, seed))


# ---------------------------------------------------------------- instances


def _rng(size: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, size])


def _contract(gain: ConcaveFunction) -> Callable[[int, int], ScreeningContract]:
    def make(size: int, seed: int) -> ScreeningContract:
        # Evenly spaced and equally likely types, in the range of the paper: the closed form applies.
        low, span = _rng(size, seed).uniform((0.008, 0.15), (0.012, 0.25))
        return ScreeningContract(types=low + span * np.arange(1, size + 1) / size, gain=gain, unit_cost=1.0)

    return make


def _contract_reference(contract: ScreeningContract) -> Reference:
    try:
        return Reference(contract.closed_form().require().objective, CLOSED_FORM)
    except NotApplicable:
        return Reference(contract.solve().objective, EXACT)


def _shaping(accuracy: AccuracyFunction) -> Callable[[int, int], AccuracyShaping]:
    def make(size: int, seed: int) -> AccuracyShaping:
        # Costs three decades wide around the one at which an agent alone begins to collect data.
        return AccuracyShaping(
            accuracy, accuracy.viability_cost * 10 ** _rng(size, seed).uniform(-1.5, 1.5, size)
        )

    return make


def _shaping_reference(shaping: AccuracyShaping) -> Reference:
    try:
        return Reference(float(shaping.closed_form().total_data), CLOSED_FORM)
    except NotApplicable:
        return Reference(shaping.solve().objective, EXACT)


def _screening(size: int, seed: int) -> CostScreening:
    high = _rng(size, seed).uniform(0.04, 0.06)
    return CostScreening(SqrtAccuracy(), costs=np.linspace(0.01, high, size), others_data=100.0)


def _market(size: int, seed: int) -> SharingMarket:
    """About a quarter of all edges are worth their cost."""
    rng = _rng(size, seed)
    data = rng.integers(1, 21, size).astype(float)
    weight = rng.uniform(10, 100, size)
    total = float(data.sum())
    cost = rng.uniform(0, 10 * float(weight.mean()) / total, (size, size)) * data[:, np.newaxis]
    np.fill_diagonal(cost, 0.0)
    return SharingMarket(data, cost, tuple(LogUtility(float(each), total / 10) for each in weight))


def _best_buyer(market: SharingMarket) -> int:
    """The buyer who buys from most sellers: whose prices have most to share out."""
    return int(np.argmax(np.asarray(market.solve()["adjacency"]).sum(axis=0)))


def _private_mean(size: int, seed: int) -> MeanEstimation:
    return MeanEstimation(_rng(size, seed).uniform(0.05, 3.0, size))


def _federated(size: int, seed: int) -> FederatedMeanEstimation:
    rng = _rng(size, seed)
    levels = rng.integers(0, 3, size)
    levels[:2] = 2, 1  # somebody shares directly, and somebody in the average
    return FederatedMeanEstimation(
        levels, rng.integers(5, 50, size).astype(float), between_user_variance=1.0, within_user_variance=10.0
    )


def _platform(size: int, seed: int) -> PlatformPayments:
    """A concave utility of sharers, and a cost at which some of them share."""
    sharers = np.arange(size + 1)
    utility = (1 + 2 / size) * sharers / (sharers + 2)
    low, high = utility[-1] - utility[-2], utility[1]
    return PlatformPayments(utility, size, float(low + _rng(size, seed).uniform(0.3, 0.7) * (high - low)))


def _correlated(most_value: float) -> Callable[[int, int], DataExternality]:
    def make(size: int, seed: int) -> DataExternality:
        rng = _rng(size, seed)
        factor = rng.normal(size=(size, size))
        value = rng.uniform(0.3, most_value, size)
        # One user at least whose data are worth more to the platform than to the user: the best is not 0.
        value[0] = 0.3
        return DataExternality(factor @ factor.T / size + 0.05 * np.eye(size), value)

    return make


# ---------------------------------------------------------------- families

_GAINS: dict[str, ConcaveFunction] = {
    "log": LogGain(weight=100, scale=2),
    "power": PowerGain(weight=20, scale=1, exponent=0.5),
    "quadratic": QuadraticGain(slope=3, curvature=0.04, scale=1),
    "piecewise": PiecewiseLinearGain((4.0, 2.5, 1.6, 0.6), (0.0, 15.0, 42.0, 120.0), 1.0),
}
_FORMS: dict[Form, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "reduced": ((10, 30, 100, 300, 1000, 3000), (10, 40, 160)),
    "full": ((5, 10, 20, 40, 80), (5, 10, 20)),
}


def _contracts() -> list[Family]:
    return [
        Family(
            "contract",
            f"{name}-{form}",
            "types",
            _contract(gain),
            lambda contract, form=form: contract.program(form),  # type: ignore[misc]  # bound now
            _contract_reference,
            sizes,
            quick,
            audit=lambda contract, answer: contract.audit(answer),
            repair=lambda contract, answer: contract.repair(answer),
        )
        for name, gain in _GAINS.items()
        for form, (sizes, quick) in _FORMS.items()
    ]


FAMILIES: tuple[Family, ...] = (
    *_contracts(),
    *(
        Family(
            "accuracy-shaping",
            name,
            "agents",
            _shaping(accuracy),
            lambda shaping: shaping.program(),
            _shaping_reference,
            (10, 30, 100, 300, 1000, 3000),
            (10, 40, 160),
            audit=lambda shaping, answer: shaping.audit(answer),
        )
        for name, accuracy in (("sqrt", SqrtAccuracy(1.0, 1.0)), ("bound", GeneralizationBound(0.95, 10)))
    ),
    *(
        Family(
            "cost-screening",
            form,
            "types",
            _screening,
            lambda screening, form=form: screening.program(form),  # type: ignore[misc]
            lambda screening: Reference(screening.solve().objective, EXACT),
            sizes,
            quick,
            audit=lambda screening, answer: screening.audit(answer),
        )
        for form, sizes, quick in (
            ("local", (5, 10, 20, 40, 80, 160), (5, 10, 20)),
            ("full", (5, 10, 20, 40), (5, 10, 20)),
        )
    ),
    Family(
        "sharing-market",
        "free",
        "agents",
        _market,
        lambda market: market.program(),
        lambda market: Reference(market.solve().objective, EXACT),
        (4, 6, 8, 10, 12, 16),
        (4, 6, 8),
    ),
    Family(
        "sharing-market",
        "seller-cap",
        "agents",
        _market,
        lambda market: market.program(seller_cap=2),
        None,
        (4, 6, 8, 10, 12, 16),
        (4, 6, 8),
    ),
    Family(
        "mean-estimation",
        "private",
        "users",
        _private_mean,
        lambda estimation: estimation.program(),
        lambda estimation: Reference(estimation.closed_form().bayes_risk, CLOSED_FORM),
        (10, 30, 100, 300, 1000, 3000),
        (10, 40, 160),
    ),
    Family(
        "mean-estimation",
        "federated",
        "users",
        _federated,
        lambda estimation: estimation.program(0),
        lambda estimation: Reference(float(estimation.emse(0)), CLOSED_FORM),
        (10, 30, 100, 300, 1000, 3000),
        (10, 40, 160),
    ),
    Family(
        "platform-payments",
        "symmetric",
        "users",
        _platform,
        lambda payments: payments.program(),
        lambda payments: Reference(payments.closed_form().platform_utility, CLOSED_FORM),
        (2, 3, 4, 6, 8, 12),
        (2, 4, 6),
        audit=lambda payments, answer: payments.audit(answer),
    ),
    Family(
        "data-externality",
        "purchase",
        "users",
        _correlated(2.5),
        lambda model: model.program(),
        lambda model: Reference(model.solve().objective, EXACT),
        (3, 4, 5, 6, 8),
        (3, 4, 5),
    ),
    Family(
        "data-externality",
        "mediator",
        "users",
        _correlated(2.0),
        mediator_program,
        lambda model: Reference(model.mediator().objective, EXACT),
        (4, 8, 16, 32),
        (4, 8, 16),
    ),
    Family(
        "price-polytope",
        "one-buyer",
        "agents",
        _market,
        lambda market: market.price_program(_best_buyer(market)),
        lambda market: Reference(price_frontier(market, _best_buyer(market)).objective, ROWS),
        (4, 6, 8, 10, 12, 14),
        (4, 6, 8),
    ),
)

MECHANISMS: tuple[str, ...] = tuple(dict.fromkeys(family.mechanism for family in FAMILIES))


def get_family(name: str) -> Family:
    """Return the family ``"mechanism/variant"``.

    Raises
    ------
    InvalidInput
        If there is none of that name.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    raise InvalidInput(f"no family {name!r}; there are {', '.join(family.name for family in FAMILIES)}")


def select(names: Iterable[str] | None = None) -> tuple[Family, ...]:
    """Return the families of these mechanisms, or of these names; all by default.

    Raises
    ------
    InvalidInput
        For a name that is neither.

    Examples
    --------
    >>> [family.name for family in select(["data-externality", "contract/log-full"])]
    ['contract/log-full', 'data-externality/purchase', 'data-externality/mediator']
    """
    wanted = set(names or MECHANISMS)
    unknown = wanted - set(MECHANISMS) - {family.name for family in FAMILIES}
    if unknown:
        raise InvalidInput(
            f"mechanism {sorted(unknown)[0]!r} is not benchmarked; there are {', '.join(MECHANISMS)}, and "
            f"single families such as {FAMILIES[0].name!r}"
        )
    return tuple(family for family in FAMILIES if {family.mechanism, family.name} & wanted)
