"""
What private data are worth
===========================

Users give a platform their number under local differential privacy, each at a level of its own, and it
estimates the mean. The only fair division of the estimate's worth: with the platform as a member, and among
the users alone.
"""

import numpy as np

import mechopt as mo
from mechopt.formulations.figures import COLOURS, label, legend, new_figure

levels = [0.5, 1.0, 2.0, 4.0, 8.0, np.inf]  # privacy levels; inf: the number as it is
estimation = mo.MeanEstimation(privacy_levels=levels)
among_users = mo.FairValue(estimation.utility, n_users=len(levels)).solve()
with_platform = mo.FairValue(estimation.utility, n_users=len(levels), include_platform=True).solve()
whole = estimation.utility(range(len(levels)))
print(f"{among_users.user_values.sum():.6f} {with_platform.user_values.sum():.6f}", end=" ")
print(f"+ {with_platform.platform_value:.6f} (platform), of {float(whole):.6f}")

figure, (axes,) = new_figure(width="page", height=2.8)
places = np.arange(len(levels))
axes.bar(places - 0.2, among_users.user_values, width=0.38, color=COLOURS["blue"], label="among users")
axes.bar(places + 0.2, with_platform.user_values, width=0.38, color=COLOURS["orange"], label="with platform")
axes.set_xticks(places, ["1/2", "1", "2", "4", "8", "no privacy"])
label(axes, "privacy level of a user (nats)", "fair value (utility)")
legend(axes)
axes.grid(False, axis="x")

# %%
# Thousands of users in groups are exact, too: what matters is how many of each group take part.

groups = mo.FairValue(lambda n: np.log1p(n @ [1.0, 3.0]), group_sizes=[2000, 500], vectorized=True).solve()
print((1e4 * groups.group_values).round(4).tolist())
