"""The study: measure the curve, design the market from it, train on what hospitals have after trade."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechopt.formulations import figures
from mechopt.formulations.sharing_market.figures import plot_market
from mechopt.solvers.errors import InvalidInput
from mechopt.studies.calibrate import AccuracyFit
from mechopt.studies.exchange.checks import market_checks, mechanism_checks, money_traded
from mechopt.studies.exchange.scenario import Exchange
from mechopt.studies.exchange.tables import notes_of, show_tables
from mechopt.studies.exchange.trade import Trade, trade_for
from mechopt.studies.learning import (
    Pools,
    Records,
    curve_checks,
    drawn_accuracies,
    fit_curve,
    measure_curve,
    measure_pools,
    pool_checks,
)
from mechopt.studies.run import (
    BackendAnswer,
    Check,
    Progress,
    agreement_check,
    solve_everywhere,
    write_tables,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


BACKENDS = "share of the backends that find a graph of most welfare, by the money traded"
"""What the check of the backends measures."""

N_STEPS = 8


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
        show_tables(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return notes_of(self)

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
    trade = trade_for(scenario, fit.accuracy, drawn)
    solutions, skipped = solve_everywhere(
        scenario,
        trade.market.program(),
        progress=lambda name, *_: progress(f"solve: {name}", 3, N_STEPS),
    )
    scale = money_traded(trade)
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
        *market_checks(scenario, fit.accuracy, trade),
        *mechanism_checks(scenario, fit.accuracy, trade),
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


def _wanted(scenario: Exchange, trade: Trade) -> dict[str, float]:
    """Pools to train on: own, after trade, and the largest last."""
    data = trade.market.total_data(trade.adjacency)
    order = np.argsort(data, kind="stable")
    own = {f"{hospital.name}, own": hospital.records for hospital in scenario.hospitals}
    return own | {f"{scenario.hospitals[i].name}, traded": float(data[i]) for i in order.tolist()}
