"""Data externality: correlated data, the information that leaks about others, and platforms that buy it."""

from mechopt.formulations.data_externality.groups import ExchangeableGroups
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.formulations.data_externality.policy import ShutdownAdvice, should_shut
from mechopt.formulations.data_externality.preset import PresetPrices

__all__ = ["DataExternality", "ExchangeableGroups", "PresetPrices", "ShutdownAdvice", "should_shut"]
