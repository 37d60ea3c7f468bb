"""
A menu of contracts, and where types are pooled
===============================================

A demander posts one contract (quantity, payment) for each privacy level; holders choose. The efficient types
get the large contracts, and rents that keep them from taking a smaller one.
"""

import numpy as np

import mechopt as mo

# Most holders are either careless or careful about their privacy, few are in between.
types = np.linspace(0.02, 0.2, 19)
probs = np.exp(-(((types - 0.05) / 0.02) ** 2)) + np.exp(-(((types - 0.16) / 0.02) ** 2)) + 0.03

contract = mo.ScreeningContract(types, probs / probs.sum(), gain=mo.LogGain(weight=100, scale=2))
menu = contract.solve()
figure = contract.plot("menu", menu)

# %%
# With two kinds of holders the closed form of the paper asks a type of the middle for less data than the next
# one: it says that it is not valid there, and the exact algorithm gives several types the same contract.

form = contract.closed_form()
print(form.valid, form.reason_code, menu.extra["pools"])

# %%
# A conic solver comes to the same menu by another road, and the audit asks who would gain by whose contract.

solved = contract.program("local").solve("clarabel")
print(f"{menu.objective:.4f} {solved.objective:.4f}", contract.audit(menu).ok(1e-9))
