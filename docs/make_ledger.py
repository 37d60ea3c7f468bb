"""Write ``docs/ledger.md``: every claim of the papers, run, with its verdict.

``python docs/make_ledger.py --jobs 2`` from the root; the page changes only if a result does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mechopt.formulations.ledger import ledger
from mechopt.studies.ledger_page import ledger_markdown
from mechopt.verification import Outcome, RunSettings, iter_outcomes

HEAD = """# Ledger of claims

Every result, example and erratum of the papers that runs, with what came out: a claim holds on all its random
instances to its tolerance, or a counterexample refutes it. Statements that are false as printed are expected
to be refuted, and stand beside what is right; how to run them, and claims of your own, is on the page
[checking claims](verify.md).

```python
from mechopt.formulations.ledger import ledger
from mechopt.verification import run_claim

for claim in ledger().select("contract/R4"):
    print(claim.id, run_claim(claim, n_instances=3).verdict)
```

```text
contract/R4 holds
```

"""


def page(outcomes: Iterable[Outcome]) -> str:
    """Return the page in Markdown."""
    return HEAD + ledger_markdown(outcomes, ledger=ledger()).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the claims, write the page, and return 1 if a verdict is not the expected one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", nargs="?", default="*", help="as for `mechopt verify`; by default all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "ledger.md")
    parser.add_argument("--instances", type=int, help="by default each claim's own number")
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args(arguments)
    claims = ledger().select(asked.claims)
    settings = RunSettings(n_instances=asked.instances, shrink=200)
    order = {claim.id: place for place, claim in enumerate(claims)}
    outcomes = sorted(
        iter_outcomes(claims, settings, jobs=asked.jobs, load=ledger),
        key=lambda outcome: order[outcome.claim.id],
    )
    asked.out.write_text(page(outcomes), encoding="utf-8")
    return int(not all(outcome.as_expected for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
