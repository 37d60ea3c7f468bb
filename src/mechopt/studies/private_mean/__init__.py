"""Algorithm 1 on real records: a demander buys private means, and every step is held to the theory.

Publish the menu, let holders choose, add noise, share, pay. Records come from a data set of scikit-learn,
scaled to [0, 1] by public bounds; the noise and its privacy accounting come from OpenDP.

- The records are a population: each holder's are drawn from it *with replacement*, since contracts may ask
  for more records than the data set has. Sampling then adds exactly variance / q to the error of a mean of q.
- A holder's privacy level is its own and is not verified. That holders add the noise of the level by which
  they chose is assumed; the paper's contracts do not enforce it (moral hazard).
- Contracts ask for real numbers of records, and holders deliver whole ones. Choices and payments are those of
  the menu as published; what rounding does to incentives is measured beside it.
- The seed fixes types and records. OpenDP draws its noise from the operating system and takes no seed, so the
  checks of noise differ from run to run; at five standard errors one run in some 100 000 fails by chance.
"""

from mechopt.studies.private_mean.releases import OpenDPMean
from mechopt.studies.private_mean.scenario import PrivateMean
from mechopt.studies.private_mean.study import PrivateMeanReport, run_private_mean

__all__ = ["OpenDPMean", "PrivateMean", "PrivateMeanReport", "run_private_mean"]
