"""
A constraint of your own, and its price
=======================================

A budget is one line on the program's names. Its shadow price is what one more unit of budget is worth: the
slope of the best objective, at every budget.
"""

import numpy as np

import mechopt as mo
from mechopt.formulations.figures import COLOURS, label, legend, new_figure

contract = mo.ScreeningContract(types=np.linspace(0.02, 0.2, 10), gain=mo.LogGain(weight=100, scale=2))
budgets = np.linspace(10, 100, 31)
values, prices = [], []
for budget in budgets:
    program = contract.program()
    program.add("budget", program["expected_payment"] <= budget)
    solution = program.solve()
    values.append(solution.objective)
    prices.append(float(solution.dual("budget")))

# %%
# The value is concave in the budget, so the slope between two budgets lies between the prices at both; where
# the budget stops to bind, the price is nothing.

slopes = np.diff(values) / np.diff(budgets)
middles = (budgets[:-1] + budgets[1:]) / 2
print(bool(np.all((slopes <= prices[:-1]) & (slopes >= prices[1:]))), f"{prices[0]:.3f} {prices[-1]:.3f}")

figure, (left, right) = new_figure(2, width="page")
left.plot(budgets, values, color=COLOURS["blue"])
free = contract.solve().objective
left.axhline(free, color=COLOURS["black"], linewidth=0.8, linestyle=":", label="no budget")
label(left, "budget (utility)", "the demander's utility", title="what it gets")
legend(left, loc="lower right")
right.plot(budgets, prices, color=COLOURS["vermilion"], label="price of the solver")
right.plot(middles, slopes, "o", color=COLOURS["black"], markersize=2.5, label="slope of (a)")
label(right, "budget (utility)", "utility per unit of budget", title="what one more unit is worth")
legend(right)
