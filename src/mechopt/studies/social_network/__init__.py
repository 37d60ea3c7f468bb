"""Data externality on a real social graph: who sells, at what price, and what leaks about the others.

Types (opinions, habits) are correlated as a kernel of the graph says: friends are alike, friends of friends
less. A platform that buys some members' data learns about all of them, and pays only those who sell.

- The graphs are real and come with networkx. That types follow ties is the study's assumption, and so is what
  privacy is worth to whom.
- The regularised Laplacian kernel is that of a Gaussian field on the graph, in which a member's type depends
  on its neighbours' alone; its correlations are positive, so that what leaks has diminishing returns.
- Of more than twenty members the sellers that are best for all are found by changing one or two of them at a
  time, from several starts: good, and not proven best.
- What leaks is checked against a regression on simulated types and data, prices against every member's best
  response, the platform's choice and the taxes against other choices tried, and the mediator's formula
  against semidefinite programs on every backend that takes them.
"""

from mechopt.studies.social_network.checks import best_for_all
from mechopt.studies.social_network.scenario import SocialNetwork
from mechopt.studies.social_network.study import SocialReport, run_social_network

__all__ = ["SocialNetwork", "SocialReport", "best_for_all", "run_social_network"]
