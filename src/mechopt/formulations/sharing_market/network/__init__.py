"""Bilateral sharing networks: who shares with whom when nobody can be paid."""

from mechopt.formulations.sharing_market.network.matching import Match
from mechopt.formulations.sharing_market.network.model import SharingNetwork
from mechopt.formulations.sharing_market.network.properties import ComplementarityViolation, TopAgentViolation
from mechopt.formulations.sharing_market.network.stability import Blocking, Stability

__all__ = [
    "Blocking",
    "ComplementarityViolation",
    "Match",
    "SharingNetwork",
    "Stability",
    "TopAgentViolation",
]
