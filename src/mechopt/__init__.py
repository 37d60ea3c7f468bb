"""Incentive mechanisms for data sharing, declared as optimization programs and checked by machine."""

from mechopt.solvers import *  # noqa: F403
