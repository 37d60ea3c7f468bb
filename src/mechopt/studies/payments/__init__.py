"""What users are owed for data of different levels of privacy: real samples, grouped by user.

Each user wants to estimate its own mean. Some share their samples directly, some in an average over all who
federate, some not at all. How users differ, and how samples of one user do, is estimated from the records of
all users; the estimators follow, the utility of what is shared, and the fair value of each user's data.

- The bundled scenario has the wages of men in the years in which they worked full time, which come with the
  package linearmodels: private data, several samples a user, not the same number for each.
- Users who share less are paid less for the same data: that is what the payments are about.
- A check goes back to the records: in groups of users drawn at random each user's estimate, made without one
  of its samples, is compared with that sample. Its mean square error must be what the formulas say.
"""

from mechopt.studies.payments.scenario import FairPayments, Panel
from mechopt.studies.payments.study import PaymentsReport, run_fair_payments

__all__ = ["FairPayments", "Panel", "PaymentsReport", "run_fair_payments"]
