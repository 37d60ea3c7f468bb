"""
Federated learning without free-riders
======================================

If everybody gets the model that is trained on all data, only the cheapest agent works. Accuracy shaping gives
each agent a model as good as its contribution deserves: more data, and nobody is worse off than alone.
"""

import mechopt as mo

accuracy = mo.PowerLawAccuracy(coefficient=2.0, exponent=0.5, threshold=0.1)  # b(m) = 0.9 - 2 / sqrt(m)
shaping = mo.AccuracyShaping(accuracy, marginal_costs=[0.001, 0.0012, 0.0015, 0.002, 0.003, 0.004])
figure = shaping.plot("contributions")

for name, data in {
    "alone": shaping.standalone().contribution.sum(),
    "one model for all": shaping.standard_federated().total_data,
    "shaped": shaping.solve().objective,
}.items():
    print(f"{name:18} {data:7.1f} data points")

# %%
# What an agent gets for its data, with the others' data as they are in equilibrium: the reward is steep
# enough to be worth the cost of a data point, and no steeper, up to the accuracy of the best model.

rewards = shaping.plot("rewards")

# %%
# The shaped profile is an equilibrium: nobody gains by another contribution.

found = shaping.mechanism(incentive_margin=1e-6).find_equilibrium()
print(found.found, found.contribution.round(1).tolist(), found.regret <= 1e-8)
