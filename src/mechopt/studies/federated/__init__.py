r"""Federated learning among hospitals: a measured learning curve, and the mechanism designed from it.

A classifier is trained on growing sets of records, an accuracy function is fitted to its scores, and the
data-maximising mechanism is designed for hospitals to which records cost differently. How well the scores
determine the curve is carried on to the design. Then models are trained on pools of the sizes that each
design collects.

- The bundled scenario has the 569 records of breast tumours that come with scikit-learn: what hospitals would
  share. A logistic regression learns from them along a power law, from 93% right at 20 records to 97.5% at
  300, and its costs put all contributions in that range. Smaller training sets may well have one class only;
  larger ones leave too few records to test on. A naive Bayes classifier has learned all it can by 30 records,
  and its curve is flat. The digits have a steeper curve, and a better determined one, but nobody in a
  hospital to share them.
- Records set aside are seen by no model of the curve. That makes two checks: models from new splits of the
  records that were measured must score what the curve says, which is a sharp test of the curve; and so must
  models on the records set aside, which is a blunter test (they are few) of what it is worth elsewhere.
- Hospitals' records are alike: a pool is worth what its size is worth. The model of a pool is trained in one
  place; federated training that converges arrives at the same model.
- What the curve is depends on the records that it is measured with: other seeds gave exponents from 0.4 to 1,
  which no interval of one curve shows. Pools depend on it less, since they lie among the sizes measured: the
  shaped one had 235 to 290 records.
- Contributions are real numbers, and models are trained on the nearest whole number of records.
"""

from mechopt.studies.federated.scenario import FederatedLearning
from mechopt.studies.federated.study import FederatedReport, run_federated

__all__ = ["FederatedLearning", "FederatedReport", "run_federated"]
