"""A small zoo of programs whose answers are known by hand; every backend solves every one it can take.

Each builder's docstring derives its value, its point and its prices. No number here came out of a solver.
Prices follow
the rule of `Solution.dual`: the derivative of the objective with respect to the right-hand side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import atan, log, pi, sqrt
from typing import Any

import cvxpy as cp
import numpy as np

import mechopt as mo
from mechopt import Capability, Status


@dataclass(frozen=True)
class Case:
    """One program and what is known about it.

    Attributes
    ----------
    name : str
        Unique; the name of the builder.
    build : callable
        Returns a fresh program, with a start for local solvers where the program is nonconvex.
    needs : frozenset of Capability
        What ``requires()`` must say.
    value : float or None
        The global optimum in physical units; None where there is none.
    local_values : tuple of float
        Every value at which a local solver may stop, the global one included; empty for convex programs.
    primal, dual : mapping
        Point and prices, only where unique.
    status : Status
        What a backend that solves the class globally must end with.
    conflict : frozenset of str
        Infeasible programs: the only smallest set of families that cannot hold together.
    has_ray : bool
        Unbounded programs: whether a direction proves it. A logarithm grows without end along none.
    scale : float
        Size of the objective's terms, to which the tolerance on the value is relative.
    relaxed : float or None
        The better and wrong value that comes from forgetting integrality or complementarity.
    """

    name: str
    build: Callable[[], mo.Program]
    needs: frozenset[Capability]
    value: float | None = None
    local_values: tuple[float, ...] = ()
    primal: Mapping[str, Any] = field(default_factory=dict)
    dual: Mapping[str, Any] = field(default_factory=dict)
    status: Status = Status.OPTIMAL
    conflict: frozenset[str] = frozenset()
    has_ray: bool = True
    scale: float = 1.0
    relaxed: float | None = None

    @property
    def convex(self) -> bool:
        """Whether a stationary point is a global optimum once integers are fixed."""
        return not self.needs & {Capability.NLP, Capability.COMP}

    @property
    def integer(self) -> bool:
        """Whether some variable is integer, so that there are no prices."""
        return Capability.MIP in self.needs

    def __str__(self) -> str:
        return self.name


CASES: dict[str, Case] = {}


def case(needs: str, **known: Any) -> Callable[[Callable[[], mo.Program]], Callable[[], mo.Program]]:
    """Enter a builder into the zoo under its own name; ``needs`` lists capabilities, LP left out."""

    def enter(build: Callable[[], mo.Program]) -> Callable[[], mo.Program]:
        wanted = frozenset({Capability.LP, *(Capability(need) for need in needs.split())})
        value = known.get("value")
        details = {"scale": max(1.0, abs(value))} if value is not None else {}
        entry = Case(name=build.__name__, build=build, needs=wanted, **(details | known))
        CASES[entry.name] = entry
        return build

    return enter


def select(keep: Callable[[Case], bool]) -> list[Case]:
    """Cases for which ``keep`` holds, in order."""
    return [entry for entry in CASES.values() if keep(entry)]


# -------------------------------------------------------------------------------------- linear and quadratic


@case("", value=9.0, primal={"x": [3.0, 1.0]}, dual={"labour": 1.5, "land": 0.5})
def lp_max() -> mo.Program:
    """Two goods, two inputs.

    Corners (0, 0), (4, 0), (3, 1), (0, 2) are worth 0, 8, 9, 6. At (3, 1) both inputs bind:
    prices solve a + b = 2, a + 3b = 3, and 4a + 6b = 9.
    """
    program = mo.Program("lp_max")
    x = program.variable("x", 2, nonneg=True)
    program.maximize(2 * x[0] + 3 * x[1])
    program.add("labour", x[0] + x[1] <= 4)
    return program.add("land", x[0] + 3 * x[1] <= 6)


@case("", value=240.0, primal={"u": 60.0, "v": 40.0}, dual={"total": 3.0, "cap": -1.0, "floor": 0.0})
def lp_min_scaled() -> mo.Program:
    """Buy 100 units from the cheap source (60 at most) and the dear one; scaled variables, all three
    relations.

    u = 60, v = 40. One unit more in total comes from v at 3; one unit more of u replaces one of v: 2 - 3 =
    -1.
    The constant of "floor" stands on the left; it is slack.
    """
    program = mo.Program("lp_min_scaled", objective_scale=100.0)
    u = program.variable("u", scale=50.0, nonneg=True)
    v = program.variable("v", scale=1000.0)
    program.minimize(2 * u + 3 * v)
    program.add("total", u + v == 100)
    program.add("cap", u <= 60)
    return program.add("floor", 10 <= v)  # noqa: SIM300


@case("", value=30.0, primal={"x": [0.0, 10.0, 10.0]}, dual={"order": [0.0, 2.0], "top": 3.0})
def lp_chain() -> mo.Program:
    """Monotone quantities: one vector constraint with a variable on either side.

    max -x0 + 2 x1 + x2 with 0 <= x0 <= x1 <= x2 <= 10: x = (0, 10, 10), worth 30. Letting x1 pass x2 by
    one is worth 2,
    letting x0 pass x1 nothing; one unit more at the top lifts x1 and x2, worth 3.
    """
    program = mo.Program("lp_chain")
    x = program.variable("x", 3, nonneg=True, scale=[1.0, 10.0, 10.0])
    program.maximize(-x[0] + 2 * x[1] + x[2])
    program.add("order", x[:-1] <= x[1:])
    return program.add("top", x[2] <= 10)


@case("QP", value=1 / 3, primal={"x": [1 / 3, 5 / 3]}, dual={"budget": -2 / 3})
def qp_min() -> mo.Program:
    """Projection in a metric: min (x0 - 1)²/2 + (x1 - 2)² with x0 + x1 <= 2.

    x0 = 1 - m, x1 = 2 - m/2, so 3 - 3m/2 = 2 and m = 2/3: value 2/9 + 1/9. A looser budget lowers the
    cost: -m.
    """
    program = mo.Program("qp_min")
    x = program.variable("x", 2)
    program.minimize(cp.square(x[0] - 1) / 2 + cp.square(x[1] - 2))
    return program.add("budget", x[0] + x[1] <= 2)


@case("QP", value=2500.0, primal={"q": [20.0, 30.0, 10.0]}, dual={"total": 30.0}, scale=3200.0)
def qp_max_scaled() -> mo.Program:
    """Sell 60 units in three markets with inverse demand a - q/2: max a'q - q'q/2, a = (50, 60, 40).

    q = a - m, 150 - 3m = 60 so m = 30. Value 1000 + 1800 + 400 - (400 + 900 + 100)/2 = 2500; price of a
    unit m.
    """
    program = mo.Program("qp_max_scaled", objective_scale=1000.0)
    q = program.variable("q", 3, scale=10.0)
    program.maximize(np.array([50.0, 60.0, 40.0]) @ q - cp.sum_squares(q) / 2)
    return program.add("total", cp.sum(q) == 60)


# ----------------------------------------------------------------------------------------------------- cones


@case("SOC", value=25.0, primal={"x": [3.0, 4.0]}, dual={"radius": 5.0})
def soc_max() -> mo.Program:
    """Linear objective on a ball: max 3 x0 + 4 x1 with |x| <= 5 is 5 |(3, 4)|; each unit of radius is
    worth 5."""
    program = mo.Program("soc_max")
    x = program.variable("x", 2)
    program.maximize(3 * x[0] + 4 * x[1])
    return program.add("radius", cp.norm(x) <= 5)


@case(
    "SOC",
    value=3 * sqrt(2),
    primal={"x": [0.0, 1.0], "t": 3 * sqrt(2)},
    dual={"distance": -1.0, "plane": -1 / sqrt(2)},
)
def soc_min() -> mo.Program:
    """Distance of (3, 4) from the half plane x0 + x1 <= 1: (7 - 1)/√2, at (0, 1).

    "distance" has variables on both sides: its right-hand side is the larger, t; slack there lowers t one
    for one.
    """
    program = mo.Program("soc_min")
    x, t = program.variable("x", 2), program.variable("t")
    program.minimize(t)
    program.add("distance", cp.norm(x - np.array([3.0, 4.0])) <= t)
    return program.add("plane", x[0] + x[1] <= 1)


@case(
    "EXP",
    value=6 * log(20) + 2 * log(2) + 3 * log(3),
    primal={"x": [20.0, 40.0, 60.0]},
    dual={"budget": 0.05},
)
def exp_log() -> mo.Program:
    """Cobb-Douglas shares: max Σ w log x with Σ x = 120 at most, w = (1, 2, 3): x = 120 w / 6, price Σ w /
    120.

    Value log 20 + 2 log 40 + 3 log 60 = 6 log 20 + 2 log 2 + 3 log 3.
    """
    program = mo.Program("exp_log")
    x = program.variable("x", 3, scale=[10.0, 30.0, 100.0])
    program.maximize(np.array([1.0, 2.0, 3.0]) @ cp.log(x))
    return program.add("budget", cp.sum(x) <= 120)


@case(
    "EXP",
    value=log(7) - 10 / 7 * log(2),
    primal={"p": [1 / 7, 2 / 7, 4 / 7]},
    dual={"total": log(7) - 1, "mean": -log(2)},
)
def exp_entropy() -> mo.Program:
    """Most uncertain belief on {0, 1, 2} with mean 10/7: p proportional to 2^v.

    Stationarity -log p - 1 = a + b v gives b = -log 2, a = log 7 - 1. Entropy log 7 - mean · log 2.
    """
    program = mo.Program("exp_entropy")
    p = program.variable("p", 3)
    program.maximize(cp.sum(cp.entr(p)))
    program.add("total", cp.sum(p) == 1)
    return program.add("mean", np.array([0.0, 1.0, 2.0]) @ p == 10 / 7)


@case("EXP SOC", value=4 * log(2) - 2, primal={"x": 2.0}, dual={"cap": 0.0}, scale=5.0)
def exp_quadratic() -> mo.Program:
    """Log gain, quadratic cost: max 4 log x - x²/2 at x = 2; the cap of 10 is slack."""
    program = mo.Program("exp_quadratic")
    x = program.variable("x")
    program.maximize(4 * cp.log(x) - cp.square(x) / 2)
    return program.add("cap", x <= 10)


@case("POW", value=2.0, primal={"x": [2.0, 2.0], "t": 2.0}, dual={"budget": 0.1})
def pow_cone() -> mo.Program:
    """Output x0^.3 x1^.7 at prices 3 and 7 and budget 20.

    shares .3 and .7 of it, x = (2, 2); V = budget / 10.
    """
    program = mo.Program("pow_cone")
    x, t = program.variable("x", 2), program.variable("t")
    program.maximize(t)
    program.add("output", cp.PowCone3D(x[0], x[1], t, 0.3))
    return program.add("budget", 3 * x[0] + 7 * x[1] <= 20)


@case("POW", value=3.0, primal={"x": [1.0, 2.0]}, dual={"budget": 0.3})
def pow_atom() -> mo.Program:
    """max x0^.3 + 2^.7 x1^.3 with x0 + x1 <= 3: marginal products agree at (1, 2); value 1 + 2, price .3."""
    program = mo.Program("pow_atom")
    x = program.variable("x", 2)
    program.maximize(np.array([1.0, 2**0.7]) @ cp.power(x, 0.3, approx=False))
    return program.add("budget", cp.sum(x) <= 3)


@case("SDP", value=3.0, primal={"t": 3.0}, dual={"above": [[0.5, 0.5], [0.5, 0.5]]})
def sdp_min() -> mo.Program:
    """Largest eigenvalue of A = [[2, 1], [1, 2]]: least t with t I - A positive semidefinite, t = 3.

    With S on the right-hand side t is the largest eigenvalue of A + S, whose derivative is vv', v = (1,
    1)/√2.
    """
    program = mo.Program("sdp_min")
    t = program.variable("t")
    program.minimize(t)
    return program.add("above", t * np.eye(2) - np.array([[2.0, 1.0], [1.0, 2.0]]) >> 0)


@case("SDP", value=2.0, primal={"X": [[1.0, -1.0], [-1.0, 1.0]]}, dual={"unit": [1.0, 1.0]})
def sdp_max() -> mo.Program:
    """max -2 X01 with diag(X) = d, X semidefinite: X01 = -√(d0 d1), value 2 √(d0 d1), price 1 each at d =
    (1, 1)."""
    program = mo.Program("sdp_max")
    X = program.variable("X", (2, 2), PSD=True)
    program.maximize(-2 * X[0, 1])
    return program.add("unit", cp.diag(X) == np.ones(2))


# -------------------------------------------------------------------------------------------------- integers


@case("MIP", value=20.0, primal={"n": [4.0, 0.0]}, relaxed=21.0)
def milp_small() -> mo.Program:
    """max 5 n0 + 4 n1, 6 n0 + 4 n1 <= 24, n0 + 2 n1 <= 6.

    relaxed (3, 1.5) worth 21; (4, 0) 20, (3, 1) 19, (2, 2) 18.
    """
    program = mo.Program("milp_small")
    n = program.variable("n", 2, integer=True, bounds=[0, 10])
    program.maximize(5 * n[0] + 4 * n[1])
    program.add("hours", 6 * n[0] + 4 * n[1] <= 24)
    return program.add("space", n[0] + 2 * n[1] <= 6)


@case("MIP", value=120024.0, primal={"take": [0, 0, 1, 1, 0]}, relaxed=120030.0)
def milp_tight_gap() -> mo.Program:
    """A budget of 120030 and items of 20002, 30004, 50008, 70016, 90032, taken whole.

    In ten thousands only 3+9, 5+7 and 2+3+7 make 12: 120036 is too much, 120024 fits, and so does 120022,
    which a
    relative gap of 1e-4 would accept.
    """
    program = mo.Program("milp_tight_gap")
    take = program.variable("take", 5, boolean=True)
    spent = np.array([20002, 30004, 50008, 70016, 90032]) @ take
    program.maximize(spent)
    return program.add("budget", spent <= 120030)


@case("MIP", value=13.0, primal={"open": [0, 1], "ship": [0.0, 4.0]}, relaxed=9.6)
def milp_fixed_cost() -> mo.Program:
    """Two sites of capacity 5, fixed costs 6 and 5, unit costs 1 and 2, demand 4: 6 + 4 = 10 against 5 + 8
    = 13.

    Site 0 is licensed for 3 units only, so alone it does not serve 4; both open cost 6 + 5 + 3 + 2 = 16.
    Relaxed, a site opens to the fraction ship / 5: a unit costs 11/5 or 3, 3 units there and one here: 6.6
    + 3 = 9.6.
    """
    program = mo.Program("milp_fixed_cost")
    ship = program.variable("ship", 2, nonneg=True, scale=2.0)
    opened = program.variable("open", 2, boolean=True)
    program.minimize(np.array([6.0, 5.0]) @ opened + np.array([1.0, 2.0]) @ ship)
    program.add("capacity", ship <= 5 * opened)
    program.add("licence", ship[0] <= 3)
    return program.add("demand", cp.sum(ship) >= 4)


@case("MIP QP", value=0.45, primal={"n": [1.0, 2.0]}, relaxed=0.405)
def mi_qp() -> mo.Program:
    """Nearest integer point to (.4, 1.7) on n0 + n1 = 3: (1, 2) at .36 + .09, before (0, 3) at .16 + 1.69.

    Relaxed, the line is (3 - 2.1)/√2 away: .81/2.
    """
    program = mo.Program("mi_qp")
    n = program.variable("n", 2, integer=True, bounds=[0, 5])
    program.minimize(cp.sum_squares(n - np.array([0.4, 1.7])))
    return program.add("line", cp.sum(n) == 3)


@case("MIP SOC", value=sqrt(0.45), primal={"n": [1.0, 2.0]}, relaxed=0.9 / sqrt(2))
def mi_soc() -> mo.Program:
    """The same with the distance itself."""
    program = mo.Program("mi_soc")
    n = program.variable("n", 2, integer=True, bounds=[0, 5])
    program.minimize(cp.norm(n - np.array([0.4, 1.7])))
    return program.add("line", cp.sum(n) == 3)


def _records(program: mo.Program) -> tuple[cp.Expression, cp.Expression]:
    """Three sellers with 1, 2, 4 records at prices 1, 1.2, 2.5: records bought, money spent."""
    buy = program.variable("buy", 3, boolean=True)
    return np.array([1.0, 2.0, 4.0]) @ buy, np.array([1.0, 1.2, 2.5]) @ buy


@case("MIP EXP", value=3 * log(5) - 2.5, primal={"buy": [0, 0, 1]})
def mi_exp() -> mo.Program:
    """max 3 log(1 + records) - spent. Only the third seller: 3 log 5 - 2.5 = 2.33.

    The others: none 0; {1} 1.08, {2} 2.10, {1, 2} 1.96, {1, 4} 1.88, {2, 4} 2.14, all 1.54.
    """
    program = mo.Program("mi_exp")
    records, spent = _records(program)
    program.maximize(3 * cp.log(1 + records) - spent)
    return program.add("one", records >= 1)


@case("MIP POW", value=4 * 6**0.4 - 3.7, primal={"buy": [0, 1, 1]}, scale=8.0)
def mi_pow() -> mo.Program:
    """max 4 records^.4 - spent. Second and third seller: 4 · 6^.4 - 3.7 = 4.491.

    The others: {1} 3, {2} 4.08, {4} 4.464, {1, 2} 4.01, {1, 4} 4.11, all 4.01.
    """
    program = mo.Program("mi_pow")
    records, spent = _records(program)
    program.maximize(4 * cp.power(records, 0.4, approx=False) - spent)
    return program.add("one", records >= 1)


@case("MIP SDP", value=(1 + sqrt(5)) / 2 - 0.1, primal={"n": -1.0, "t": (1 + sqrt(5)) / 2}, scale=2.0)
def mi_sdp() -> mo.Program:
    """min t + n/10 with t I above [[1 + n, 1], [1, -n]]: t = (1 + √((1 + 2n)² + 4)) / 2.

    n = 0 and n = -1 give the same t, (1 + √5)/2, and n = -1 is cheaper; n = -2 costs (1 + √13)/2 - .2 = 2.10.
    """
    program = mo.Program("mi_sdp")
    n = program.variable("n", integer=True, bounds=[-3, 3])
    t = program.variable("t", bounds=[0, 10])
    program.minimize(t + 0.1 * n)
    tilt = np.array([[1.0, 0.0], [0.0, -1.0]])
    return program.add("above", t * np.eye(2) - n * tilt - np.array([[1.0, 1.0], [1.0, 0.0]]) >> 0)


# --------------------------------------------------------------------------------------- evaluated functions


class Arctan:
    """Concave for nonnegative arguments, and no CVXPY atom."""

    def __call__(self, x: Any) -> Any:
        return np.arctan(x)

    def derivative(self, x: Any) -> Any:
        return 1 / (1 + np.square(x))


@case(
    "ORACLE",
    value=5 * log(2),
    primal={"x": [1.0, 3.0], "t": [log(2), log(4)]},
    dual={"budget": 0.5, "utility": [1.0, 2.0]},
)
def oracle_log() -> mo.Program:
    """max log(1 + x0) + 2 log(1 + x1), given by value and derivative, with x0 + x1 <= 4.

    1 + x is proportional to (1, 2) and adds up to 6: x = (1, 3). Price 1 / (1 + x0); slack in t counts
    with its weight.
    """
    program = mo.Program("oracle_log")
    x, t = program.variable("x", 2, nonneg=True), program.variable("t", 2)
    program.maximize(t[0] + 2 * t[1])
    program.add("utility", mo.Hypograph(t, (np.log1p, lambda x: 1 / (1 + x)), x))
    return program.add("budget", cp.sum(x) <= 4)


@case("ORACLE", value=50 - 25 * pi, primal={"x": 10.0, "t": 25 * pi}, dual={"utility": -1.0}, scale=80.0)
def oracle_arctan_scaled() -> mo.Program:
    """min 5 x - t with t <= 100 arctan(x / 10): slope 10 / (1 + x²/100) = 5 at x = 10; 50 - 100 π/4."""
    program = mo.Program("oracle_arctan_scaled", objective_scale=50.0)
    x, t = program.variable("x", nonneg=True, scale=20.0), program.variable("t", scale=100.0)
    program.minimize(5 * x - t)
    return program.add(
        "utility", mo.Hypograph(t, (lambda x: 100 * np.arctan(x / 10), lambda x: 10 / (1 + x**2 / 100)), x)
    )


@case("ORACLE MIP", value=3 * atan(2) - 1, primal={"n": 2.0, "t": atan(2)}, scale=4.0)
def mi_oracle() -> mo.Program:
    """max 3 t - n/2, t <= arctan(n), over integers: 0, 1.856, 2.321, 2.247, then falling. Relaxed, n = √5."""
    program = mo.Program("mi_oracle")
    n = program.variable("n", integer=True, bounds=[0, 5])
    t = program.variable("t")
    program.maximize(3 * t - n / 2)
    return program.add("utility", mo.Hypograph(t, Arctan(), n))


# ------------------------------------------------------------------------------------------------- nonconvex


@case("NLP", value=1.0, local_values=(1.0,), primal={"x": 1.0, "y": 1.0}, dual={"budget": 1.0})
def nlp_product() -> mo.Program:
    """max x y with x + y <= b: value (b/2)², so at b = 2 value 1 and price b/2 = 1.

    Started off the saddle at zero.
    """
    program = mo.Program("nlp_product")
    x, y = program.variable("x", bounds=[0, 5]), program.variable("y", bounds=[0, 5])
    program.maximize(x * y)
    program.add("budget", x + y <= 2)
    program.set_values({"x": 0.5, "y": 0.7})
    return program


@case("NLP", value=9.0, local_values=(9.0,), primal={"z": [1.2, 1.6]}, dual={"circle": -1.5})
def nlp_circle() -> mo.Program:
    """Nearest point of the circle |z|² = 4 to (3, 4): (5 - √b)² at b = 4, price -(5 - √b)/√b = -3/2.

    The only other stationary point is the farthest one.
    """
    program = mo.Program("nlp_circle")
    z = program.variable("z", 2, bounds=[-10, 10])
    program.minimize(cp.sum_squares(z - np.array([3.0, 4.0])))
    program.add("circle", cp.sum_squares(z) == 4)
    program.set_values({"z": [1.0, 1.0]})
    return program


@case("NLP", value=4.0, local_values=(1.0, 4.0))
def nlp_two_peaks() -> mo.Program:
    """max x² on [-1, 2]: peaks at both ends, worth 1 and 4; the start at .1 favours neither by much."""
    program = mo.Program("nlp_two_peaks")
    x = program.variable("x", bounds=[-5, 5])
    program.maximize(cp.square(x))
    program.add("left", x >= -1)
    program.add("right", x <= 2)
    program.set_values({"x": 0.1})
    return program


@case("NLP MIP", value=12.0, local_values=(12.0,), primal={"n": 3.0, "m": 4.0})
def mi_nlp() -> mo.Program:
    """max n m, n integer and at most 3.5, m at most 4: n = 3; a route that forgets integrality says 14."""
    program = mo.Program("mi_nlp")
    n, m = program.variable("n", integer=True, bounds=[0, 10]), program.variable("m", bounds=[0, 10])
    program.maximize(n * m)
    program.add("first", n <= 3.5)
    program.add("second", m <= 4)
    program.set_values({"n": 1.0, "m": 1.0})
    return program


# ------------------------------------------------------------------------------------------- complementarity


@case("COMP NLP", value=4.0, local_values=(0.0, 4.0), primal={"p": 2.0, "q": 2.0}, relaxed=100.0)
def mpec_price() -> mo.Program:
    """A leader sets the price p; the follower minimises q²/2 - (4 - p) q over q >= 0; the leader earns p q.

    The follower's condition is 0 <= q perp q - 4 + p >= 0, so q = max(4 - p, 0): p = q = 2, worth 4. From
    p >= 4 on
    q = 0, and the leader's earnings are flat at 0. Without complementarity q is free above: 10 · 10.
    """
    program = mo.Program("mpec_price")
    p, q = program.variable("p", bounds=[0, 10]), program.variable("q", bounds=[0, 10])
    program.maximize(p * q)
    program.add("response", mo.Complementarity(q, q - 4 + p))
    program.set_values({"p": 1.0, "q": 2.5})
    return program


@case("COMP", value=-6.0, local_values=(-6.0,), primal={"x": 0.0, "q": 3.0}, relaxed=-20.0)
def mpec_toll() -> mo.Program:
    """min x - 2 q, where the follower's q = max(3 - x, 0) comes from 0 <= q perp q - 3 + x >= 0.

    While x < 3 the cost is 3 x - 6, so x = 0; beyond, it is x >= 3, and lowering x helps throughout: no
    other local
    optimum. Without complementarity q = 10: -20.
    """
    program = mo.Program("mpec_toll")
    x, q = program.variable("x", bounds=[0, 10]), program.variable("q", bounds=[0, 10])
    program.minimize(x - 2 * q)
    program.add("response", mo.Complementarity(q, q - 3 + x))
    program.set_values({"x": 1.0, "q": 1.0})
    return program


@case("COMP", value=9.0, local_values=(8.0, 9.0), relaxed=13.0)
def mpec_either_or() -> mo.Program:
    """max 2 a + 3 b, one of them zero, a <= 4, b <= 3, a + b <= 5: 8 on one branch, 9 on the other, 13 if
    both may."""
    program = mo.Program("mpec_either_or")
    a, b = program.variable("a", bounds=[0, 4]), program.variable("b", bounds=[0, 3])
    program.maximize(2 * a + 3 * b)
    program.add("together", a + b <= 5)
    program.add("either", mo.Complementarity(a, b))
    program.set_values({"a": 0.5, "b": 1.0})
    return program


# ------------------------------------------------------------------------------------------------- no answer


@case("", status=Status.INFEASIBLE, conflict=frozenset({"floor", "cap"}))
def infeasible_lp() -> mo.Program:
    """x >= 3 and x + y <= 2 with y >= 0; the third family has nothing to do with it."""
    program = mo.Program("infeasible_lp")
    x, y = program.variable("x", scale=10.0), program.variable("y", nonneg=True)
    program.maximize(x - y)
    program.add("other", y <= 7)
    program.add("floor", x >= 3)
    return program.add("cap", x + y <= 2)


@case("", status=Status.INFEASIBLE, conflict=frozenset({"floor"}))
def infeasible_bounds() -> mo.Program:
    """A share in [0, 1] that must be 2: the variable's own bounds are half of the conflict, the family the
    other."""
    program = mo.Program("infeasible_bounds")
    share = program.variable("share", bounds=[0, 1])
    program.minimize(share)
    program.add("other", share <= 5)
    return program.add("floor", share >= 2)


@case("QP", status=Status.INFEASIBLE, conflict=frozenset({"split", "cap"}))
def infeasible_qp() -> mo.Program:
    """x0 + x1 = 4 with both at most 1."""
    program = mo.Program("infeasible_qp")
    x = program.variable("x", 2)
    program.minimize(cp.sum_squares(x))
    program.add("split", cp.sum(x) == 4)
    return program.add("cap", x <= 1)


@case("SOC", status=Status.INFEASIBLE, conflict=frozenset({"radius", "total"}))
def infeasible_soc() -> mo.Program:
    """On the unit disc x0 + x1 is at most √2, not 2."""
    program = mo.Program("infeasible_soc")
    x = program.variable("x", 2)
    program.maximize(x[0])
    program.add("radius", cp.norm(x) <= 1)
    program.add("total", cp.sum(x) >= 2)
    return program.add("other", x <= 5)


@case("EXP", status=Status.INFEASIBLE, conflict=frozenset({"utility", "budget"}))
def infeasible_exp() -> mo.Program:
    """log x >= 1 needs x >= e, and the budget is 2."""
    program = mo.Program("infeasible_exp")
    x = program.variable("x")
    program.minimize(x)
    program.add("utility", cp.log(x) >= 1)
    return program.add("budget", x <= 2)


@case("MIP", status=Status.INFEASIBLE, conflict=frozenset({"parity"}))
def infeasible_integer() -> mo.Program:
    """2 n0 + 2 n1 = 3 has fractional solutions only."""
    program = mo.Program("infeasible_integer")
    n = program.variable("n", 2, integer=True, bounds=[0, 5])
    program.maximize(n[0])
    program.add("parity", 2 * n[0] + 2 * n[1] == 3)
    return program.add("other", n[0] <= 4)


@case("NLP", status=Status.INFEASIBLE, conflict=frozenset({"circle", "total"}))
def infeasible_nlp() -> mo.Program:
    """On the unit circle z0 + z1 is at most √2, not 2."""
    program = mo.Program("infeasible_nlp")
    z = program.variable("z", 2, bounds=[-5, 5])
    program.minimize(z[0])
    program.add("circle", cp.sum_squares(z) == 1)
    program.add("total", cp.sum(z) >= 2)
    program.set_values({"z": [0.5, 0.5]})
    return program


@case("", status=Status.UNBOUNDED)
def unbounded_lp() -> mo.Program:
    """max x + y with x - y <= 1: both grow together."""
    program = mo.Program("unbounded_lp")
    x, y = program.variable("x", nonneg=True), program.variable("y", nonneg=True)
    program.maximize(x + y)
    return program.add("lead", x - y <= 1)


@case("QP", status=Status.UNBOUNDED)
def unbounded_qp() -> mo.Program:
    """min x² - y: curvature in x does not stop y."""
    program = mo.Program("unbounded_qp")
    x, y = program.variable("x"), program.variable("y")
    program.minimize(cp.square(x) - y)
    return program.add("floor", y >= x)


@case("SOC", status=Status.UNBOUNDED)
def unbounded_soc() -> mo.Program:
    """max t with |x| <= t: along (0, 1) without end."""
    program = mo.Program("unbounded_soc")
    x, t = program.variable("x", 2), program.variable("t")
    program.maximize(t)
    return program.add("cone", cp.norm(x) <= t)


@case("EXP", status=Status.UNBOUNDED, has_ray=False)
def unbounded_log() -> mo.Program:
    """max log x with x >= 1: without end, but slower than along any ray, so no certificate exists."""
    program = mo.Program("unbounded_log")
    x = program.variable("x")
    program.maximize(cp.log(x))
    return program.add("floor", x >= 1)


@case("MIP", status=Status.UNBOUNDED)
def unbounded_integer() -> mo.Program:
    """max n over integers from 1 on."""
    program = mo.Program("unbounded_integer")
    n = program.variable("n", integer=True)
    program.maximize(n)
    return program.add("floor", n >= 1)
