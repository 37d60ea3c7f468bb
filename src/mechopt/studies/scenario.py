"""Scenarios: a mechanism, its parameters and own linear constraints, as TOML: data only, never executed.

What a scenario contains depends on its ``mechanism``. A new kind is a line in `KINDS`, a pydantic model
derived from `BaseScenario`, and a function that runs it and returns a report (`mechopt.studies.run.Report`).
"""

from __future__ import annotations

import pkgutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from mechopt.formulations.attitudes import CARA, ChiSquared, CVaR, KullbackLeibler, Wasserstein
from mechopt.formulations.functions import (
    ConcaveFunction,
    LogGain,
    PiecewiseLinearGain,
    PowerCost,
    PowerGain,
    QuadraticCost,
    QuadraticGain,
    SaturatingGain,
)
from mechopt.formulations.screening import ScreeningContract
from mechopt.formulations.screening.program import Form
from mechopt.solvers.backend import DEFAULT_TOLERANCE
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program
from mechopt.studies.holders import Holders, read_holders

Array = NDArray[np.float64]

GAINS: dict[str, Callable[..., ConcaveFunction]] = {
    "log": LogGain,
    "power": PowerGain,
    "saturating": SaturatingGain,
    "quadratic": QuadraticGain,
    "piecewise-linear": PiecewiseLinearGain,
}


class Table(BaseModel):
    """A table of a scenario: unknown keys, wrong kinds of values and infinities are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class BaseScenario(Table):
    """What every scenario has."""

    title: str
    mechanism: str

    def check_ready(self) -> None:
        """Check that what the run needs beyond the package itself is installed.

        Raises
        ------
        BackendUnavailable
            Naming what is missing and how to install it.
        """


@dataclass(frozen=True)
class Kind:
    """What handles a kind of scenario, as ``"module:name"``: imported only when one is read or run.

    Attributes
    ----------
    model : str
        Its pydantic model, derived from `BaseScenario`.
    run : str
        A function ``run(scenario, folder, *, progress)`` that returns a `mechopt.studies.run.Report`.
    """

    model: str
    run: str

    def model_class(self) -> type[BaseScenario]:
        """Import the model."""
        found: type[BaseScenario] = pkgutil.resolve_name(self.model)
        return found

    def run_function(self) -> Callable[..., Any]:
        """Import the run function."""
        found: Callable[..., Any] = pkgutil.resolve_name(self.run)
        return found


KINDS = {
    "private-mean": Kind(
        "mechopt.studies.private_mean:PrivateMean", "mechopt.studies.private_mean:run_private_mean"
    ),
    "federated-learning": Kind(
        "mechopt.studies.federated:FederatedLearning", "mechopt.studies.federated:run_federated"
    ),
    "sharing-market": Kind("mechopt.studies.exchange:Exchange", "mechopt.studies.exchange:run_exchange"),
    "fair-value": Kind("mechopt.studies.payments:FairPayments", "mechopt.studies.payments:run_fair_payments"),
    "data-externality": Kind(
        "mechopt.studies.social_network:SocialNetwork", "mechopt.studies.social_network:run_social_network"
    ),
    "contract": Kind("mechopt.studies.scenario:Scenario", "mechopt.studies.run:run_scenario"),
}
"""Kinds of scenarios by their ``mechanism``."""


class Spaced(Table):
    """Evenly spaced types."""

    start: float
    stop: float
    count: int = Field(ge=1, le=10_000_000)


class HoldersFile(Table):
    """Types and probabilities counted from a table of holders; the path is relative to the scenario."""

    file: str
    column: str = "privacy_level"
    weight: str | None = None
    n_types: int | None = Field(default=None, ge=1)


class _OfKind(Table):
    """Something of several kinds: which, and that kind's own parameters."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    kinds: ClassVar[Mapping[str, Callable[..., Any]]]
    where: ClassVar[str]

    kind: str

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in cls.kinds:
            raise ValueError(f"must be one of {', '.join(map(repr, cls.kinds))}")
        return kind

    @model_validator(mode="after")
    def _numbers_only(self) -> _OfKind:
        for name, value in (self.model_extra or {}).items():
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, bool) or not isinstance(entry, int | float):
                    raise ValueError(f"`{name}` must be a number or a list of numbers, got {value!r}")
        return self

    def build(self) -> Any:
        """Make it."""
        try:
            return self.kinds[self.kind](**(self.model_extra or {}))
        except (TypeError, InvalidInput) as error:
            raise InvalidInput(f"{self.where} of kind {self.kind!r}: {error}") from None


class Gain(_OfKind):
    """The demander's gain."""

    kinds = GAINS
    where = "parameters.gain"


class CostCurve(_OfKind):
    """How a holder's cost rises with its records."""

    kinds = MappingProxyType({"power": PowerCost, "quadratic": QuadraticCost})
    where = "parameters.cost_curve"


class Ambiguity(_OfKind):
    """The distributions of types that are taken seriously."""

    kinds = MappingProxyType(
        {"wasserstein": Wasserstein, "kullback-leibler": KullbackLeibler, "chi-squared": ChiSquared}
    )
    where = "extensions.ambiguity"


class Risk(_OfKind):
    """The demander's aversion to risk."""

    kinds = MappingProxyType({"cara": CARA, "cvar": CVaR})
    where = "extensions.risk"


class ContractExtensions(Table):
    """What changes the declaration of a contract's program; see `ScreeningContract.program`."""

    outside_option: float | list[float] | None = None
    max_menu_size: int | None = None
    fairness_ratio: float | None = None
    ambiguity: Ambiguity | None = None
    risk: Risk | None = None

    def options(self) -> dict[str, Any]:
        """Return those that are asked for, as the program takes them."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: value.build() if isinstance(value, _OfKind) else value
            for name, value in given.items()
            if value is not None
        }


class ContractParameters(Table):
    """Parameters of a screening contract."""

    types: (
        Annotated[
            Annotated[list[float], Tag("<list>")] | Annotated[Spaced, Tag("<table>")],
            Discriminator(lambda given: "<table>" if isinstance(given, dict | Spaced) else "<list>"),
        ]
        | None
    ) = None
    probs: list[float] | None = None
    holders: HoldersFile | None = None
    gain: Gain
    unit_cost: float = 1.0
    cost_curve: CostCurve | None = None

    @model_validator(mode="after")
    def _one_source_of_types(self) -> ContractParameters:
        if (self.types is None) == (self.holders is None):
            raise ValueError("give either `types` or `holders`, and not both")
        if self.holders is not None and self.probs is not None:
            raise ValueError("`probs` are counted from `holders`; leave one of the two out")
        return self

    def build(self, folder: Path) -> ScreeningContract:
        """Make the mechanism."""
        types: Any
        probs: Any = self.probs
        if self.holders is not None:
            counted = self.read(folder)
            types, probs = counted.types, counted.probs
        elif isinstance(self.types, Spaced):
            types = np.linspace(self.types.start, self.types.stop, self.types.count)
        else:
            types = self.types
        return ScreeningContract(
            types=types,
            probs=probs,
            gain=self.gain.build(),
            unit_cost=self.unit_cost,
            cost_curve=None if self.cost_curve is None else self.cost_curve.build(),
        )

    def read(self, folder: Path) -> Holders:
        """Read the table of holders."""
        assert self.holders is not None
        source = self.holders
        return read_holders(
            folder / source.file, column=source.column, weight=source.weight, n_types=source.n_types
        )


class Term(Table):
    """One term of a linear constraint: a coefficient times a variable or named expression of the program.

    A vector enters whole (then the constraint holds entry by entry), by one ``index``, or summed with
    ``weights``.
    """

    name: str
    coefficient: float = 1.0
    index: int | None = None
    weights: list[float] | None = None

    @model_validator(mode="after")
    def _one_reading(self) -> Term:
        if self.index is not None and self.weights is not None:
            raise ValueError("a term has an `index` or `weights`, not both")
        return self

    def expression(self, program: Program, where: str) -> cp.Expression:
        """Build the term."""
        if self.name not in program:
            raise InvalidInput(f"{where}: no {self.name!r} in the program; it has {', '.join(program.names)}")
        value = program[self.name]
        if self.index is not None:
            if value.ndim != 1 or not -value.size <= self.index < value.size:
                raise InvalidInput(
                    f"{where}: {self.name!r} has shape {value.shape}, there is no index {self.index}"
                )
            value = value[self.index]
        elif self.weights is not None:
            if value.shape != (len(self.weights),):
                raise InvalidInput(
                    f"{where}: {len(self.weights)} weights for {self.name!r} of shape {value.shape}"
                )
            value = np.array(self.weights) @ value
        # A bound on the expression itself is one that exact algorithms may know how to price.
        return value if self.coefficient == 1.0 else self.coefficient * value


class LinearConstraint(Table):
    """An own family of the program: ``sum of terms  <= | >= | ==  bound``."""

    family: str
    terms: list[Term] = Field(min_length=1)
    sense: Literal["<=", ">=", "=="]
    bound: float

    def add_to(self, program: Program) -> None:
        """Add the family to the program."""
        where = f"constraint {self.family!r}"
        expressions = [term.expression(program, where) for term in self.terms]
        shapes = {expression.shape for expression in expressions} - {()}
        if len(shapes) > 1:
            raise InvalidInput(
                f"{where}: terms of shapes {sorted(shapes)} cannot be added; use index or weights"
            )
        total = sum(expressions[1:], expressions[0])
        relation = {"<=": total <= self.bound, ">=": total >= self.bound, "==": total == self.bound}
        constraint = relation[self.sense]
        if not constraint.is_dcp():
            raise InvalidInput(
                f"{where}: the sum of its terms is {total.curvature.lower()}, so that {self.sense!r} makes "
                "the program nonconvex, and no backend could prove its answer"
            )
        program.add(self.family, constraint)


class SolvedScenario(BaseScenario):
    """What a scenario has whose program is solved on every capable backend."""

    backends: Annotated[
        Annotated[list[str], Field(min_length=1), Tag("<list>")] | Annotated[Literal["all"], Tag("<word>")],
        Discriminator(lambda given: "<list>" if isinstance(given, list) else "<word>"),
    ] = "all"
    tolerance: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_TOLERANCE
    time_limit: Annotated[float, Field(gt=0)] | None = 60.0

    @field_validator("backends")
    @classmethod
    def _each_once(cls, backends: list[str] | str) -> list[str] | str:
        twice = [name for name in dict.fromkeys(backends) if backends != "all" and backends.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is named more than once")
        return backends


class Scenario(SolvedScenario):
    """A screening contract, to be solved on every capable backend."""

    mechanism: Literal["contract"]
    parameters: ContractParameters
    form: Form = "reduced"
    extensions: ContractExtensions = ContractExtensions()
    constraints: list[LinearConstraint] = []

    def declare(self, mechanism: ScreeningContract) -> Program:
        """Declare the mechanism's program with the scenario's extensions and own constraints."""
        program = mechanism.program(self.form, **self.extensions.options())
        for constraint in self.constraints:
            constraint.add_to(program)
        return program


def bundled_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with the package."""
    folder = resources.files("mechopt.studies").joinpath("scenarios")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def load_scenario(name_or_path: str | Path) -> tuple[Any, Path]:
    """Read a scenario by the name of a bundled one, or from a TOML file.

    Returns
    -------
    scenario : BaseScenario
        Of the model that its ``mechanism`` has in `KINDS`.
    folder : Path
        The folder that its own paths are relative to.

    Raises
    ------
    InvalidInput
        If there is no such file, it is not TOML, or a field breaks its rule; the field is named.
    """
    text = str(name_or_path)
    if text in bundled_scenarios():
        path = Path(str(resources.files("mechopt.studies").joinpath("scenarios", f"{text}.toml")))
    else:
        path = Path(text)
        if not path.is_file():
            raise InvalidInput(
                f"no scenario {text!r}: it is neither a file nor one of the bundled scenarios "
                f"({', '.join(bundled_scenarios())})"
            )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is not UTF-8 text: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path.name} is not valid TOML: {error}") from None
    mechanism = content.get("mechanism")
    if mechanism is None:
        raise InvalidInput(f"{path.name}: mechanism: is missing")
    if not (isinstance(mechanism, str) and mechanism in KINDS):
        known = " or ".join(map(repr, KINDS))
        raise InvalidInput(f"{path.name}: mechanism: must be {known} (got {mechanism!r})")
    try:
        return KINDS[mechanism].model_class().model_validate(as_floats(content)), path.parent
    except ValidationError as error:
        raise InvalidInput(f"{path.name}: " + "; ".join(map(explain, error.errors()))) from None


def as_floats(value: Any) -> Any:
    """TOML writes 100 where a float is meant; pydantic's strict mode accepts it only for scalars."""
    if isinstance(value, dict):
        return {key: as_floats(entry) for key, entry in value.items()}
    if (
        isinstance(value, list)
        and value
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    ):
        return [float(entry) for entry in value]
    if isinstance(value, list):
        return [as_floats(entry) for entry in value]
    return value


def explain(error: Any) -> str:
    """Say in one line what pydantic found wrong, and with which field."""
    # Parts in angle brackets tell which branch of a union was taken; they are no keys of the file.
    parts = [part for part in error["loc"] if not str(part).startswith("<")]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    got = error.get("input")
    shown = "" if isinstance(got, dict | Table) or error["type"] == "missing" else f" (got {got!r})"
    message = _MESSAGES.get(error["type"], error["msg"].removeprefix("Value error, "))
    return f"{path or 'the scenario'}: {message}{shown}"


_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "unknown key",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}
