"""
Who sells data to whom
======================

Four hospitals own records and could use each other's. The graph of most welfare, a price for each sale, and
what each of them pays or gets in all.
"""

import mechopt as mo

names = ["city", "coast", "hill", "lake"]
market = mo.SharingMarket(
    data_size=[8, 5, 3, 2],  # thousands of records
    sharing_cost=[[0, 3, 3, 3], [2, 0, 2, 2], [1, 2, 0, 1], [1, 1, 1, 0]],  # borne by the seller (row)
    utility=mo.LogUtility(10.0, 4.0),
)
best = market.solve()
prices = market.competitive_prices()
print(f"welfare {best.objective:.4f}", bool(market.is_equilibrium(best, prices)))
figure = market.plot(best, price=prices, names=names)

# %%
# What couples buyers is a constraint like any other. If each hospital may serve only one other, less is
# shared:

capped = market.solve(seller_cap=1)
print(f"welfare {capped.objective:.4f} by {capped.backend}")
one_sale_each = market.plot(capped, names=names)

# %%
# Without money, sharing is mutual, and a graph lasts if no group would rather share otherwise.

network = mo.SharingNetwork(
    [mo.LogUtility(10.0, 4.0)] * 4, data_size=[8, 5, 3, 2], count_costs=lambda n: 0.8 * n**2
)
graph = network.ordered_match([0, 1, 2, 3])
print(bool(network.is_stable(graph)))
stable = network.plot(graph, names=names)
