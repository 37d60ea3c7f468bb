"""Hospitals that exchange records: a measured learning curve, and the market designed from it.

What a pool of records is worth to a hospital is the accuracy that a learning curve gives it, fitted to the
scores of models trained on real records, times what accuracy is worth there. From that follow who should
share with whom, at what prices, what VCG charges, and how mixed-VCG settles its imbalance in data.

- Hospitals' records are alike: a pool is worth what its size is worth.
- How well the scores determine the curve is carried on to the market: of each edge the table says in what
  share of the curves drawn it is sold.
- At the end models are trained on pools of the sizes before and after trade, and scored on records that no
  model of the curve has seen.
"""

from mechopt.studies.exchange.scenario import Exchange
from mechopt.studies.exchange.study import ExchangeReport, run_exchange

__all__ = ["Exchange", "ExchangeReport", "run_exchange"]
