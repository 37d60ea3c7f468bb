"""
Truthful payments, in money and in data
=======================================

Only sellers know what sharing costs them. VCG payments make truth dominant and do not add up to zero; mixed
VCG settles what is left in the quality of data that each agent gets.
"""

import numpy as np

import mechopt as mo
from mechopt.formulations.figures import COLOURS, label, legend, new_figure

market = mo.SharingMarket(
    data_size=[8, 5, 3, 2],
    sharing_cost=[[0, 3, 3, 3], [2, 0, 2, 2], [1, 2, 0, 1], [1, 1, 1, 0]],
    utility=mo.LogUtility(10.0, 4.0),
)
outcomes = {
    "VCG, each against a market without it": market.vcg("exclude").payment,
    "VCG, each against a market with its data for nothing": market.vcg("drop").payment,
    "mixed VCG": market.mixed_vcg("exclude", split="lp").payment,
}
for name, payment in outcomes.items():
    print(f"{name:52} {payment.round(2).tolist()}, in all {payment.sum() + 0.0:6.2f}")

# %%
# Above the line agents pay, below it they get. The last column of each kind is the imbalance: what an
# outsider would have to pay in, or gets.

figure, (axes,) = new_figure(width="page", height=2.8)
places = np.arange(market.n_agents + 1)
for column, (name, payment) in enumerate(outcomes.items()):
    colour = COLOURS[("blue", "vermilion", "green")[column]]
    axes.bar(places + 0.27 * (column - 1), [*payment, payment.sum()], width=0.25, color=colour, label=name)
axes.axhline(0, color=COLOURS["black"], linewidth=0.8)
axes.set_xticks(places, ["city", "coast", "hill", "lake", "imbalance"])
label(axes, "", "payment (money)")
legend(axes)
axes.grid(False, axis="x")

# %%
# Is truth really best? Search for the misreport that pays most.

audit = market.mixed_vcg("exclude", split="lp").audit()
print(audit.ic_violation <= 1e-6)
