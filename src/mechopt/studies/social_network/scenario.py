"""The scenario of a platform in a social graph, as a file declares it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import linalg

from mechopt.solvers.errors import InvalidInput
from mechopt.studies.scenario import SolvedScenario, Table

Array = NDArray[np.float64]

MOST_MEMBERS = 40
"""Members beyond which a picture cannot be read."""


class Network(Table):
    """A graph that comes with networkx, and how types follow it."""

    graph: Literal["karate-club", "florentine-families", "davis-southern-women"]
    kernel: Literal["regularised-laplacian", "diffusion"] = "regularised-laplacian"
    strength: float = Field(default=1.0, gt=0)
    variance: float = Field(default=1.0, gt=0)

    @cached_property
    def source(self) -> Any:
        """The graph."""
        import networkx as nx

        made = {
            "karate-club": nx.karate_club_graph,
            "florentine-families": nx.florentine_families_graph,
            "davis-southern-women": nx.davis_southern_women_graph,
        }
        return made[self.graph]()

    @property
    def names(self) -> tuple[str, ...]:
        """Members by name."""
        return tuple(str(node) for node in self.source)

    def covariance(self) -> Array:
        """Covariance of types: the kernel, scaled to equal variances."""
        import networkx as nx

        laplacian = self.strength * nx.laplacian_matrix(self.source, weight="weight").toarray().astype(float)
        if self.kernel == "diffusion":
            kernel = linalg.expm(-laplacian)
        else:
            kernel = linalg.inv(np.eye(len(laplacian)) + laplacian)
        size = np.sqrt(np.diag(kernel))
        covariance: Array = self.variance * kernel / np.outer(size, size)
        return (covariance + covariance.T) / 2


class Privacy(Table):
    """What privacy is worth to whom: by group, with log-normal differences within groups."""

    value: float = Field(default=1.0, ge=0)
    attribute: str | None = None
    values: dict[str, float] = Field(default_factory=dict)
    spread: float = Field(default=0.0, ge=0, le=3)

    @model_validator(mode="after")
    def _groups_have_an_attribute(self) -> Privacy:
        if self.values and self.attribute is None:
            raise ValueError("`values` are by group: name the members' `attribute` that says which")
        for group, value in self.values.items():
            if value < 0:
                raise ValueError(f"`values.{group}` must be >= 0 (got {value:g})")
        return self

    def groups(self, network: Network) -> tuple[str, ...]:
        """Group of each member, all one without an attribute."""
        if self.attribute is None:
            return ("all",) * len(network.names)
        given = dict(network.source.nodes(data=self.attribute))
        missing = [str(node) for node, group in given.items() if group is None]
        if missing:
            raise InvalidInput(
                f"privacy.attribute: {missing[0]} of {network.graph} has no {self.attribute!r}; leave it out"
            )
        groups = tuple(str(group) for group in given.values())
        unknown = sorted(set(self.values) - set(groups))
        if unknown:
            raise InvalidInput(
                f"privacy.values: nobody is of {unknown[0]!r}; there is {', '.join(sorted(set(groups)))}"
            )
        return groups

    def draw(self, network: Network, rng: np.random.Generator) -> Array:
        """Value of privacy of each member."""
        typical = np.array([self.values.get(group, self.value) for group in self.groups(network)])
        drawn: Array = typical * np.exp(self.spread * rng.standard_normal(typical.size))
        return drawn


class SocialNetwork(SolvedScenario):
    """A whole scenario; ``backends`` solve the mediator's semidefinite program."""

    mechanism: Literal["data-externality"]
    seed: int = Field(ge=0)
    network: Network
    privacy: Privacy = Privacy()
