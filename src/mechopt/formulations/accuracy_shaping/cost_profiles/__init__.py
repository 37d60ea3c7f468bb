"""Cost profiles: several agents whose private costs of data may be correlated."""

from mechopt.formulations.accuracy_shaping.cost_profiles.model import CostProfiles

__all__ = ["CostProfiles"]
