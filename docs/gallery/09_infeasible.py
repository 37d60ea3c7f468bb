"""
An infeasible program, explained
================================

A budget and a floor of data that cannot both hold: the error names the families in conflict, and the frontier
shows by how much they must give way.
"""

import numpy as np

import mechopt as mo
from mechopt.formulations.figures import COLOURS, label, legend, new_figure

contract = mo.ScreeningContract(types=[0.05, 0.1, 0.2])


def declare(budget, floor):
    """The contract with an expected payment of at most ``budget``, and ``floor`` records from everybody."""
    program = contract.program("local")
    program.add("budget", program["expected_payment"] <= budget)
    return program.add("coverage", program["quantity"] >= floor)


try:
    declare(budget=10, floor=300).solve()
except mo.Infeasible as error:
    print(error)

# %%
# The least payment for each floor is a program too, and its price is the slope: what a record more costs.

floors = np.linspace(0, 500, 11)
least = []
for floor in floors:
    program = declare(1e4, floor)
    least.append(program.minimize(program["expected_payment"]).solve("clarabel").objective)

figure, (axes,) = new_figure(height=2.6)
axes.plot(floors, least, color=COLOURS["blue"], label="least payment")
axes.fill_between(floors, 0, least, color=COLOURS["vermilion"], alpha=0.15, linewidth=0, label="infeasible")
axes.plot(300, 10, "o", color=COLOURS["vermilion"], label="what was asked for")
label(axes, "records from every holder", "budget (utility)")
legend(axes)
