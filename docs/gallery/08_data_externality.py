"""
Data that tell about others
===========================

A platform buys data of those who hardly value their privacy, and learns about their friends for nothing.
Squares sell, at the price beside them; circles do not, and are darker the more has leaked about them.
"""

import numpy as np

import mechopt as mo
from mechopt.formulations.data_externality.figures import plot_network, plot_policies

# Two circles of friends: within a circle correlations are strong, across they are weak.
circle = np.array([0] * 4 + [1] * 4)
correlation = np.where(circle[:, None] == circle, 0.45, 0.05)
correlation[np.diag_indices(8)] = 1.0
value = [0.3, 0.6, 4.0, 6.0, 0.4, 3.0, 4.0, 5.0]  # of a unit of one's information; the platform's value is 1
model = mo.DataExternality(correlation, value_of_privacy=value)
market = model.solve()
figure = plot_network(model, market, names=[f"{v:g}" for v in value])
print(f"profit {market.objective:.4f}, data surplus {model.data_surplus(market['sharing']):.4f}")

# %%
# The market does harm: what users lose, those who sell nothing above all, is more than what the platform
# gains. A regulator has better than shutting it.

policies = plot_policies(model)
print(mo.should_shut(model))
