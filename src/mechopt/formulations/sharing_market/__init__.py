"""Markets in which agents share data: bilateral networks, and directed sharing graphs with prices."""

from mechopt.formulations.sharing_market.distortion import Refusal
from mechopt.formulations.sharing_market.extensions import declare_payments
from mechopt.formulations.sharing_market.misreports import search_misreports
from mechopt.formulations.sharing_market.mixed import MixedVCG
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.network import SharingNetwork
from mechopt.formulations.sharing_market.prices import MarketCheck
from mechopt.formulations.sharing_market.queries import QueryMarket, advanced_composition
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.formulations.sharing_market.vcg import VCG

__all__ = [
    "VCG",
    "MarketCheck",
    "MixedVCG",
    "QueryMarket",
    "Refusal",
    "Restrictions",
    "SharingMarket",
    "SharingNetwork",
    "advanced_composition",
    "declare_payments",
    "search_misreports",
]
