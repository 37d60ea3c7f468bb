"""Write ``docs/ledger.md``: every claim of the papers, run, with its verdict.

``python docs/make_ledger.py --jobs 2`` from the root; the page changes only if a result does. With
``--check`` it stays as it is, and the exit status is 1 if something else comes out now.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mechopt.formulations.ledger import ledger
from mechopt.studies.claim_code import Code
from mechopt.studies.ledger_page import ledger_markdown
from mechopt.verification import Outcome, RunSettings, iter_outcomes

PAGE = Path(__file__).parent / "ledger.md"
SHRINK = 200
"""Checks that may go into making a counterexample smaller."""

HEAD = """# Ledger of claims

Every result, example and erratum of the papers that runs, with what came out: a claim holds on all its random
instances to its tolerance, or a counterexample refutes it. Statements that are false as printed are expected
to be refuted, and lead to what is right.

Numbers are the project's own: R for a paper's results, as corrected, E for what is false or misprinted in
it. A counterexample can be pasted into Python; it is borne out by a computation in rationals, or by another
one. Figures are rounded to eight digits. *Check* leads to the code of a claim's check, and to what of the
package it checks. How to run claims, and some of your own, is on the page [checking claims](verify.md).

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


def link(code: Code) -> str:
    """Lead to the file on a code host, and on the site to the function in it."""
    return f"[`{code.name}`](../src/{code.path}#{code.name})"


def page(outcomes: Iterable[Outcome]) -> str:
    """Return the page in Markdown."""
    return HEAD + ledger_markdown(outcomes, ledger=ledger(), link=link)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the claims, write the page or check it, and return 1 if something is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", nargs="?", default="*", help="as for `mechopt verify`; by default all")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; by default docs/ledger.md")
    parser.add_argument("--instances", type=int, help="by default each claim's own number")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="write nothing, and show what would change")
    asked = parser.parse_args(arguments)
    claims = ledger().select(asked.claims)
    settings = RunSettings(n_instances=asked.instances, shrink=SHRINK)
    order = {claim.id: place for place, claim in enumerate(claims)}
    outcomes = sorted(
        iter_outcomes(claims, settings, jobs=asked.jobs, load=ledger),
        key=lambda outcome: order[outcome.claim.id],
    )
    surprising = [outcome.claim.id for outcome in outcomes if not outcome.as_expected]
    if surprising:
        print("not as expected:", ", ".join(surprising), file=sys.stderr)
    text, changes = page(outcomes), list[str]()
    if asked.check:
        before = asked.out.read_text(encoding="utf-8").splitlines()
        changes = list(difflib.unified_diff(before, text.splitlines(), str(asked.out), "now", lineterm=""))
        print(*changes, sep="\n", end="\n" if changes else "")
    else:
        asked.out.write_text(text, encoding="utf-8")
    return int(bool(surprising or changes))


if __name__ == "__main__":
    sys.exit(main())
