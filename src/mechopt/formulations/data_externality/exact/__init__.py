"""The platform's optimum by its own algorithms: enumeration, branch and bound, all sets of users."""

from mechopt.formulations.data_externality.exact.every_set import equilibrium_sharing_of_all, payments
from mechopt.formulations.data_externality.exact.optimum import PlatformOptimum, platform_optimum

__all__ = ["PlatformOptimum", "equilibrium_sharing_of_all", "payments", "platform_optimum"]
