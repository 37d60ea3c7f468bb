"""Hospitals that exchange records: a measured learning curve, and the market designed from it.

What a pool of records is worth to a hospital is the accuracy that a learning curve gives it, fitted to the
scores of models trained on real records, times what accuracy is worth there. From that follow who should
share with whom, at what prices, what VCG charges, and how mixed-VCG settles its imbalance in data.

- Hospitals' records are alike: a pool is worth what its size is worth.
- How well the scores determine the curve is carried on to the market: of each edge the table says in what
  share of the curves drawn it is sold.
- At the end models are trained on pools of the sizes before and after trade, and scored on records that no
  model of the curve has seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from mechopt.formulations import figures
from mechopt.formulations.functions import AccuracyFunction, AccuracyUtility
from mechopt.formulations.sharing_market.figures import plot_market
from mechopt.formulations.sharing_market.mixed import MixedVCG
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.vcg import VCG
from mechopt.solvers.errors import Infeasible, InvalidInput
from mechopt.solvers.solution import Solution
from mechopt.studies.calibrate import AccuracyFit
from mechopt.studies.learning import (
    Curve,
    Pools,
    Records,
    Training,
    check_scikit_learn,
    curve_checks,
    drawn_accuracies,
    fit_curve,
    measure_curve,
    measure_pools,
    pool_checks,
)
from mechopt.studies.report import print_plain, show_checks, show_grid, show_others
from mechopt.studies.run import (
    BackendAnswer,
    Check,
    Progress,
    agreement_check,
    solve_everywhere,
    write_tables,
)
from mechopt.studies.scenario import SolvedScenario, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]

EXACT = 1e-9
"""What numbers that two algorithms compute may differ by, relative to the money involved."""

BACKENDS = "share of the backends that find a graph of most welfare, by the money traded"
"""What the check of the backends measures."""

N_STEPS = 8


class Trader(Table):
    """A hospital: what it has, what accuracy is worth to it, and what sharing costs it."""

    name: str = Field(min_length=1)
    records: float = Field(ge=2)
    value: float = Field(gt=0)
    record_cost: float = Field(ge=0)

    @field_validator("records")
    @classmethod
    def _whole(cls, records: float) -> float:
        if not records.is_integer():
            raise ValueError(f"must be a whole number of records, got {records:g}")
        return records


class Exchange(SolvedScenario):
    """A whole scenario."""

    mechanism: Literal["sharing-market"]
    seed: int = Field(ge=0)
    pivot: Literal["exclude", "drop"] = "exclude"
    split: Literal["greedy", "lp"] = "lp"
    training: Training
    curve: Curve = Curve()
    hospitals: list[Trader] = Field(min_length=2, max_length=12)

    @field_validator("hospitals")
    @classmethod
    def _names_differ(cls, hospitals: list[Trader]) -> list[Trader]:
        names = [hospital.name for hospital in hospitals]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"the name {twice[0]!r} is given more than once")
        return hospitals

    def check_ready(self) -> None:
        """Check that scikit-learn is installed."""
        check_scikit_learn("sharing-market")

    def market(self, accuracy: AccuracyFunction) -> SharingMarket:
        """Make the market for this accuracy of models."""
        records = np.array([hospital.records for hospital in self.hospitals])
        per_record = np.array([hospital.record_cost for hospital in self.hospitals])
        cost = np.repeat((records * per_record)[:, np.newaxis], records.size, axis=1)
        np.fill_diagonal(cost, 0.0)
        return SharingMarket(
            data_size=records,
            sharing_cost=cost,
            utility=tuple(AccuracyUtility(hospital.value, accuracy) for hospital in self.hospitals),
        )


@dataclass(frozen=True, eq=False)
class Trade:
    """The market, and what the mechanisms make of it.

    Attributes
    ----------
    market : SharingMarket
    best : Solution
        A graph of most welfare.
    price : array, shape (n_hospitals, n_hospitals)
        Competitive prices.
    interval : array, shape (n_hospitals, n_hospitals, 2)
        Ends of each edge's prices, the others being at cost; NaN on the diagonal.
    vcg : VCG
    mixed : MixedVCG
    sold_in : array, shape (n_hospitals, n_hospitals)
        Share of the curves drawn in which the edge is sold.
    """

    market: SharingMarket
    best: Solution
    price: Array
    interval: Array
    vcg: VCG
    mixed: MixedVCG
    sold_in: Array

    @property
    def adjacency(self) -> Array:
        """The graph of most welfare, row = seller, column = buyer."""
        return np.asarray(self.best["adjacency"])

    @property
    def effective_data(self) -> Array:
        """What each hospital's records count for under mixed-VCG, shape (n_hospitals,)."""
        data: Array = self.market.data_size + self.mixed.quality_weight.T @ self.market.data_size
        return data


def _mixed(market: SharingMarket, scenario: Exchange) -> MixedVCG:
    """Run mixed-VCG; where no split of the imbalance can be realised, with the greedy one all the same."""
    try:
        return market.mixed_vcg(scenario.pivot, scenario.split)
    except Infeasible:
        return market.mixed_vcg(scenario.pivot, "greedy")


def _trade(scenario: Exchange, accuracy: AccuracyFunction, drawn: Iterable[AccuracyFunction]) -> Trade:
    market = scenario.market(accuracy)
    n = market.n_agents
    interval = np.full((n, n, 2), math.nan)
    for seller, buyer in itertools.permutations(range(n), 2):
        interval[seller, buyer] = market.price_interval(seller, buyer)
    graphs = [scenario.market(other).solve()["adjacency"] for other in drawn]
    return Trade(
        market,
        market.solve(),
        market.competitive_prices(),
        interval,
        market.vcg(scenario.pivot),
        _mixed(market, scenario),
        np.mean(graphs, axis=0),
    )


@dataclass(frozen=True, eq=False)
class ExchangeReport:
    """What the study found.

    Attributes
    ----------
    scenario : Exchange
    records : Records
    fit : AccuracyFit
        The curve; its accuracies are above the baseline.
    n_drawn : int
        Curves drawn of which accuracy rises.
    trade : Trade
    answers : tuple of BackendAnswer
    skipped : dict of str to str
        Backends that were not run, and why.
    pools : Pools
        The hospitals' own, what they have after trade, and the largest of these last.
    checks : tuple of Check
    """

    scenario: Exchange
    records: Records
    fit: AccuracyFit
    n_drawn: int
    trade: Trade
    answers: tuple[BackendAnswer, ...]
    skipped: dict[str, str]
    pools: Pools
    checks: tuple[Check, ...]

    @property
    def agreement(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def hospitals(self) -> list[dict[str, Any]]:
        """One record a hospital: data, accuracy and money before and after."""
        trade, base = self.trade, self.fit.baseline
        data = trade.market.total_data(trade.adjacency)
        accuracy = self.fit.accuracy
        quality = trade.effective_data
        rows = []
        for i, hospital in enumerate(self.scenario.hospitals):
            bought, sold = trade.adjacency[:, i], trade.adjacency[i]
            rows.append(
                {
                    "hospital": hospital.name,
                    "records": hospital.records,
                    "records_after": float(data[i]),
                    "accuracy": float(accuracy(hospital.records)) + base,
                    "accuracy_after": float(accuracy(data[i])) + base,
                    "gain_in_value": hospital.value * float(accuracy(data[i]) - accuracy(hospital.records)),
                    "pays_at_cost": float(bought @ trade.price[:, i]),
                    "earns_at_cost": float(sold @ trade.price[i]),
                    "vcg_payment": float(trade.vcg.payment[i]),
                    "mixed_payment": float(trade.mixed.payment[i]),
                    "data_payment": float(trade.mixed.data_payment[i]),
                    "effective_records": float(quality[i]),
                }
            )
        return rows

    def edges(self) -> list[dict[str, Any]]:
        """One record an edge: its price, the prices it could have, and how sure it is."""
        names = [hospital.name for hospital in self.scenario.hospitals]
        trade = self.trade
        return [
            {
                "seller": names[i],
                "buyer": names[j],
                "sold": bool(trade.adjacency[i, j]),
                "price": float(trade.price[i, j]),
                "lowest_price": float(trade.interval[i, j, 0]),
                "highest_price": float(trade.interval[i, j, 1]),
                "sold_in_draws": float(trade.sold_in[i, j]),
            }
            for i, j in itertools.permutations(range(len(names)), 2)
        ]

    def show(self, console: Console) -> None:
        """Print tables, checks and what else a reader must know, on 80 columns."""
        _show(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return _notes(self)

    def write(self, folder: Path) -> list[Path]:
        """Write tables, the full record and figures into a folder."""
        tables = {
            "checks": [check.record() for check in self.checks],
            "hospitals": self.hospitals(),
            "edges": self.edges(),
            "curve": self.fit.to_frame().to_dict("records"),
            "pools": self.pools.record(),
            "backends": [answer.record("welfare") for answer in self.answers],
        }
        files = write_tables(folder, tables, self.record())
        return [*files, *figures.save(self.figure(), folder, "exchange")]

    def record(self) -> dict[str, Any]:
        """Plain record for JSON."""
        trade = self.trade
        return {
            "title": self.scenario.title,
            "mechanism": self.scenario.mechanism,
            "scenario": self.scenario.model_dump(),
            "libraries": {"scikit-learn": version("scikit-learn")},
            "agreement": self.agreement,
            "checks": [check.record() for check in self.checks],
            "curve": {
                "parameters": dict(self.fit.parameters),
                "standard_errors": dict(self.fit.standard_errors),
            },
            "welfare": {
                "most": trade.best.objective,
                "without_trade": float(trade.market.outside_option.sum()),
                "vcg_imbalance": trade.vcg.imbalance,
            },
            "hospitals": self.hospitals(),
            "edges": self.edges(),
            "pools": self.pools.record(),
            "backends": [answer.record("welfare") for answer in self.answers],
            "skipped": self.skipped,
            "notes": self.notes(),
        }

    def figure(self) -> Figure:
        """Draw who shares with whom, prices on the edges and payments at the hospitals."""
        trade = self.trade
        return plot_market(
            trade.market,
            trade.adjacency,
            price=trade.price,
            payment=trade.vcg.payment,
            names=[hospital.name for hospital in self.scenario.hospitals],
            unit="thousand euros",
        )


def run_exchange(
    scenario: Exchange,
    folder: Path,
    *,
    progress: Progress = lambda *_: None,
    fit: AccuracyFit | None = None,
) -> ExchangeReport:
    """Measure the curve, design the market from it, check it, and train on what hospitals have after trade.

    Parameters
    ----------
    scenario : Exchange
    folder : Path
        What the scenario's own paths are relative to; it has none.
    progress : callable
        Called as ``progress(step, number, total)`` before each step.
    fit : AccuracyFit, optional
        A curve to design from, instead of the one that is measured.

    Returns
    -------
    ExchangeReport

    Raises
    ------
    BackendUnavailable
        If scikit-learn is not installed, or a backend asked for by name is not.
    InvalidInput
        If a parameter breaks its rule, hospitals have more records than there are, or the scores determine no
        curve.

    References
    ----------
    Rasouli and Jordan, "Data Sharing Markets", Propositions 4.1 and 4.2, eqs. (18)-(28).
    """
    scenario.check_ready()
    seeds = [int(seed) for seed in np.random.SeedSequence(scenario.seed).generate_state(5)]
    progress("measure the curve", 0, N_STEPS)
    records = scenario.training.load(seeds[0])
    total = sum(hospital.records for hospital in scenario.hospitals)
    if total > records.labels.size:
        raise InvalidInput(
            f"hospitals.records: {total:g} in all, of {records.labels.size} that are not set aside"
        )
    if fit is None:
        scores = measure_curve(scenario.training, records, scenario.training.sizes, seeds[1])
        progress("fit the curve", 1, N_STEPS)
        fit = fit_curve(scenario.training, scenario.curve, records, scores, seeds[2])
    _check_sizes(scenario, fit)
    drawn = drawn_accuracies(fit)
    progress("market", 2, N_STEPS)
    trade = _trade(scenario, fit.accuracy, drawn)
    solutions, skipped = solve_everywhere(
        scenario,
        trade.market.program(),
        progress=lambda name, *_: progress(f"solve: {name}", 3, N_STEPS),
    )
    scale = _money(trade)
    answers = tuple(
        BackendAnswer(
            name, answer, (trade.best.objective - answer.objective) / scale if answer.values else math.nan
        )
        for name, answer in solutions.items()
    )
    steps = iter((4, 5))
    pools = measure_pools(
        scenario.training,
        records,
        fit,
        drawn,
        _wanted(scenario, trade),
        (seeds[3], seeds[4]),
        lambda name: progress(name, next(steps), N_STEPS),
    )
    progress("checks", 6, N_STEPS)
    n = len(scenario.hospitals)
    checks = (
        *curve_checks(fit, drawn),
        *_market_checks(scenario, fit.accuracy, trade),
        *_mechanism_checks(scenario, fit.accuracy, trade),
        agreement_check("7 backends agree", BACKENDS, answers, scenario.tolerance),
        *pool_checks(pools, {"own": slice(None, n), "traded": slice(n, None)}, last="largest", first=8),
    )
    return ExchangeReport(scenario, records, fit, len(drawn), trade, answers, skipped, pools, checks)


def _check_sizes(scenario: Exchange, fit: AccuracyFit) -> None:
    """Refuse hospitals whose own records are beyond what the curve was measured with."""
    for number, hospital in enumerate(scenario.hospitals):
        if hospital.records < fit.sizes[0]:
            raise InvalidInput(
                f"hospitals[{number}].records = {hospital.records:g} is below the {fit.sizes[0]:g} that the "
                "curve starts from; lower training.sizes, or let it have more"
            )


def _money(trade: Trade) -> float:
    """Size of the money traded: what buyers gain and sellers spend at most."""
    gains = trade.market.buyer_value(trade.adjacency) - trade.market.outside_option
    return float(np.sum(gains)) or float(np.max(trade.market.sharing_cost)) or 1.0


def _wanted(scenario: Exchange, trade: Trade) -> dict[str, float]:
    """Pools to train on: own, after trade, and the largest last."""
    data = trade.market.total_data(trade.adjacency)
    order = np.argsort(data, kind="stable")
    own = {f"{hospital.name}, own": hospital.records for hospital in scenario.hospitals}
    return own | {f"{scenario.hospitals[i].name}, traded": float(data[i]) for i in order.tolist()}


# ------------------------------------------------------------ checks


def _market_checks(scenario: Exchange, accuracy: AccuracyFunction, trade: Trade) -> list[Check]:
    market, graph, scale = trade.market, trade.adjacency, _money(trade)
    inside, outside = 0.0, math.inf
    for seller, buyer in itertools.permutations(range(market.n_agents), 2):
        low, high = trade.interval[seller, buyer]
        for price, is_inside in (
            (low, True),
            (high, True),
            (low - 0.01 * scale, False),
            (high + 0.01 * scale, False),
        ):
            prices = trade.price.copy()
            prices[seller, buyer] = price
            gain = market.is_equilibrium(graph, prices).gain
            inside = max(inside, gain) if is_inside else inside
            outside = outside if is_inside else min(outside, gain)
    payoff = market.buyer_value(graph) - (graph * trade.price).sum(axis=0)
    return [
        Check(
            "2 most welfare",
            "welfare, against that of all sets of sellers tried for each buyer (money)",
            trade.best.objective,
            _try_all(scenario, accuracy),
            EXACT * scale,
            "rounding, relative to the money traded",
        ),
        Check(
            "3 prices at cost",
            "the most that a buyer or seller gains by another trade at competitive prices (money)",
            market.is_equilibrium(graph, trade.price).gain,
            0.0,
            EXACT * scale,
            "rounding (Proposition 4.1)",
        ),
        Check(
            "3 ends of intervals",
            "the same with each price in turn at either end of its interval (money)",
            inside,
            0.0,
            EXACT * scale,
            "rounding (Proposition 4.2)",
        ),
        Check(
            "3 beyond intervals",
            "the least gain with a price 1% of the money traded beyond, over that 1%",
            outside / (0.01 * scale),
            1.0,
            1e-6,
            "who pays or earns that much too much objects",
        ),
        Check(
            "4 core",
            "the most that a coalition could pay its members beyond what they have (money)",
            market.in_core(payoff).gain,
            0.0,
            EXACT * scale,
            "rounding; all coalitions",
        ),
    ]


def _try_all(scenario: Exchange, accuracy: AccuracyFunction) -> float:
    """Most welfare, by trying every set of sellers for every buyer."""
    records = np.array([hospital.records for hospital in scenario.hospitals])
    spent = records * np.array([hospital.record_cost for hospital in scenario.hospitals])
    total = 0.0
    for buyer, hospital in enumerate(scenario.hospitals):
        taken = np.array(list(itertools.product((0.0, 1.0), repeat=records.size)))
        taken = taken[taken[:, buyer] == 0]
        worth = hospital.value * accuracy.concave_part(records[buyer] + taken @ records) - taken @ spent
        total += float(worth.max())
    return total


def _mechanism_checks(scenario: Exchange, accuracy: AccuracyFunction, trade: Trade) -> list[Check]:
    market, vcg, mixed, scale = trade.market, trade.vcg, trade.mixed, _money(trade)
    value = market.allocation_value(vcg.adjacency)
    loss = float(np.max(market.outside_option - (value - vcg.payment), initial=0.0))
    values = np.array([hospital.value for hospital in scenario.hospitals])
    after = values * accuracy.concave_part(trade.effective_data)
    wanted = market.buyer_value(vcg.adjacency) - mixed.data_payment
    refused = {refusal.agent for refusal in mixed.refusals}
    realised = np.array([agent not in refused for agent in range(market.n_agents)])
    others = sum(
        market.welfare(vcg.adjacency) - value[i] - _without(market, i) for i in range(market.n_agents)
    )
    checks = [
        Check(
            "5 VCG, imbalance",
            "sum of payments, against welfare without each hospital, solved anew (money)",
            vcg.imbalance,
            -others if scenario.pivot == "exclude" else float(vcg.payment.sum()),
            EXACT * scale * market.n_agents,
            "rounding",
        ),
        Check(
            "6 mixed, balance",
            "sum of payments of mixed-VCG (money)",
            float(mixed.payment.sum()),
            0.0,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "6 mixed, quality",
            "largest difference of data's worth at the quality weights from what the split asks (money)",
            float(np.max(np.abs(after - wanted)[realised], initial=0.0)),
            0.0,
            1e-6 * scale,
            "weights come from a solver and are repaired",
        ),
    ]
    if scenario.pivot == "exclude":
        checks.insert(
            1,
            Check(
                "5 VCG, rationality",
                "the most that a hospital loses by taking part (money)",
                loss,
                0.0,
                EXACT * scale,
                "rounding",
            ),
        )
    return checks


def _without(market: SharingMarket, agent: int) -> float:
    """Most welfare of the others when an agent and its data are away."""
    away = np.zeros((market.n_agents, market.n_agents), dtype=bool)
    away[agent] = away[:, agent] = True
    return market.solve(forbidden=away).objective - float(market.outside_option[agent])


# ------------------------------------------------------------ the terminal


def _show(report: ExchangeReport, console: Console) -> None:
    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    tolerance = report.scenario.tolerance
    show_grid(
        console,
        ("hospital", "records", "accuracy", "gain", "at cost", "VCG", "mixed", "in data"),
        [
            (
                row["hospital"],
                f"{row['records']:.0f}, {row['records_after']:.0f}",
                f"{row['accuracy']:.3f}, {row['accuracy_after']:.3f}",
                f"{row['gain_in_value']:.1f}",
                f"{row['pays_at_cost'] - row['earns_at_cost']:.1f}",
                f"{row['vcg_payment']:.1f}",
                f"{row['mixed_payment']:.1f}",
                f"{row['data_payment']:.1f}",
            )
            for row in report.hospitals()
        ],
    )
    show_grid(
        console,
        ("edge", "sold", "price", "could be", "sold in draws"),
        [
            (
                f"{row['seller']} to {row['buyer']}",
                "yes" if row["sold"] else "no",
                f"{row['price']:.2f}",
                f"{row['lowest_price']:.2f} to {row['highest_price']:.2f}",
                f"{row['sold_in_draws']:.0%}",
            )
            for row in report.edges()
        ],
    )
    pools = report.pools
    show_grid(
        console,
        ("pool", "trained on", "curve", "new splits", "set aside"),
        [
            (
                name,
                str(pools.trained[k]),
                f"{pools.curve[k]:.4f} ±{pools.curve_sd[k]:.4f}",
                f"{pools.fresh[k]:.4f} ±{pools.fresh_sd[k]:.4f}",
                f"{pools.apart[k]:.4f} ±{pools.apart_sd[k]:.4f}",
            )
            for k, name in enumerate(pools.names)
        ],
    )
    show_grid(
        console,
        ("backend", "status", "welfare", "rel. error", "compile", "solve"),
        [
            (
                answer.backend,
                str(answer.solution.status),
                f"{answer.solution.objective:.8g}",
                f"{answer.error:.0e}",
                *(f"{answer.solution.seconds.get(phase, math.nan):.3f} s" for phase in ("compile", "solve")),
            )
            for answer in report.answers
        ],
    )
    print_plain(
        console,
        "records, accuracy: own, and after trade. gain: in value, by trade. at cost, VCG, mixed: what it "
        "pays in all (< 0: gets) at competitive prices and by each mechanism; in data: what it pays "
        "mixed-VCG besides in quality of data.",
        "dim",
    )
    show_others(console, report.answers, tolerance, "has not the most welfare", report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def _notes(report: ExchangeReport) -> list[str]:
    training, records, trade = report.scenario.training, report.records, report.trade
    before, after = float(trade.market.outside_option.sum()), trade.best.objective
    spare = len(report.fit.samples) - report.n_drawn
    names = [hospital.name for hospital in report.scenario.hospitals]
    notes = [
        f"data: {training.dataset}, {records.labels.size} records for the curve and "
        f"{records.apart_labels.size} set aside; {training.classifier}. What counts as accuracy is above "
        f"{report.fit.baseline:.1%}, that of a model that has learned nothing. Values and costs are assumed.",
        f"trade is worth {after - before:.2f} net of costs. VCG ({trade.vcg.pivot}) leaves "
        f"{trade.vcg.imbalance:.2f}, which mixed-VCG settles in data; it is truthful if "
        f"{trade.mixed.truthful_if}.",
    ]
    if trade.mixed.refusals:
        told = ", ".join(f"{names[refusal.agent]} ({refusal.code})" for refusal in trade.mixed.refusals)
        notes.append(
            f"no quality of data realises the share of {told}: their part of the split stays a debt."
        )
    if trade.mixed.split != report.scenario.split:
        notes.append("no split of the imbalance can be realised in data: the greedy one is shown.")
    if spare:
        notes.append(
            f"{spare} of {len(report.fit.samples)} draws of the curve do not rise, and were left out."
        )
    return notes
