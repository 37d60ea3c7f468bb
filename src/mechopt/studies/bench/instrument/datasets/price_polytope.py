"""Joint equilibrium prices of one buyer."""

from __future__ import annotations

from benchopt import BaseDataset

from mechopt.studies.bench.engine import Instance
from mechopt.studies.bench.instrument_parts import instance, parameters


class Dataset(BaseDataset):  # type: ignore[misc]
    """Instances by variant, size and seed; by default the quick sizes."""

    name = "price-polytope"
    parameters = parameters("price-polytope")

    def get_data(self) -> dict[str, Instance]:
        """Name the instance; whoever solves it makes it."""
        return {"instance": instance(self.name, self.variant, self.size, self.seed)}
