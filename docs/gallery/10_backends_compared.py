"""
One declaration, every backend
==============================

The same program on every backend that can take it. No answer is believed: residuals and gap are recomputed
from the declaration, and the exact algorithm is an answer without a tolerance.
"""

import time

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

import mechopt as mo
from mechopt.formulations.figures import COLOURS, label, legend, new_figure

contract = mo.ScreeningContract(types=[0.05, 0.08, 0.12, 0.2], gain=mo.LogGain(weight=100, scale=2))
best = contract.closed_form().objective
names, errors, seconds = [], [], []
for name in (row["name"] for row in mo.backends() if row["available"] and row["name"] != "pyomo:scip"):
    started = time.perf_counter()
    try:
        solution = contract.program("local").solve(name, time_limit=10, on_failure="return")
    except mo.MissingCapability as refusal:
        print(f"{name:12} refuses: it lacks {', '.join(refusal.missing)}")
        continue
    seconds.append(time.perf_counter() - started)
    names.append(name)
    errors.append(abs(solution.objective / best - 1))
    print(f"{name:12} {solution.status}, {solution.objective:.6f} of {best:.6f}")

# %%
# SCIP is left out: a branch and bound that supposes nothing takes long to prove what convexity tells at once.

figure, (left, right) = new_figure(2, width="page", height=2.6)
for axes, numbers, text in ((left, np.maximum(errors, 1e-16), "error of the objective (relative)"),
                            (right, seconds, "seconds, all included")):  # fmt: skip
    axes.barh(names, numbers, color=COLOURS["sky"])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(False, axis="y")
    axes.invert_yaxis()
    label(axes, text, "")
left.axvline(1e-6, color=COLOURS["black"], linewidth=0.8, linestyle=":", label="tolerance")
legend(left, loc="upper right", bbox_to_anchor=(0.95, 1.0))
right.set_yticklabels([])
