"""
What should a platform pay? Three regimes
=========================================

A platform pays users a share of what their data bring, divided fairly; then each user shares or not. If
sharing costs little, all share; if it costs much, nobody does; in between the platform pays so that users are
just undecided.
"""

import mechopt as mo
from mechopt.formulations.fair_value.figures import figure_6, figure_7
from mechopt.formulations.figures import legend

figure, numbers = figure_6(step=1 / 150)  # a third, where the regimes meet, is one of the costs
legend(figure.axes[0], loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.2)
print(
    f"all share up to {numbers['cost_threshold_low']:.4f}, nobody from {numbers['cost_threshold_high']:.4f}"
)

# %%
# Two users of different costs: the platform drops the dearer one first, and the map has a jump where it does.

pairs, _ = figure_7(step=0.025)

# %%
# Ten thousand users are one root: a user shares with a small probability, and the bound proves that it is the
# best.

many = mo.PlatformPayments(utility=[2 * n / (n + 2) for n in range(10001)], n_users=10000, privacy_cost=1e-3)
solution = many.solve()
print(f"{solution.share_probability:.6f} {solution.objective:.6f} <= {solution.bound:.6f}")
