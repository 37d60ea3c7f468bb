"""The command line: run, backends, verify, reproduce."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mechopt.solvers.errors import InvalidInput, MechanismError

app = typer.Typer(
    help="Incentive mechanisms for data sharing: design, solve, verify.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
complaints = Console(stderr=True)

SURPRISE, BAD_INPUT, INTERRUPTED = 1, 2, 130


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=complaints,
        transient=True,
    )


@app.command()
def run(
    scenario: Annotated[
        str, typer.Argument(help="A TOML file, or the name of a bundled scenario.")
    ] = "contract",
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Run a scenario: solve its mechanism on every capable backend, or simulate it, and check each answer."""
    from mechopt.studies.run import check_output, run_study
    from mechopt.studies.scenario import load_scenario

    loaded, folder = load_scenario(scenario)
    loaded.check_ready()
    target = out or Path("mechopt-results") / Path(scenario).stem
    check_output(target)
    with _progress() as bar:
        task = bar.add_task("starting", total=None)

        def show(name: str, number: int, total: int) -> None:
            bar.update(task, description=name, completed=number, total=total)

        report = run_study(loaded, folder, progress=show)
        bar.update(task, description="writing")
        files = report.write(target)
    report.show(console)
    console.print(f"written to {target}/: {', '.join(path.name for path in files)}", soft_wrap=True)
    if not report.agreement:
        raise typer.Exit(SURPRISE)


@app.command()
def backends() -> None:
    """List every backend: what it takes, its version and licence, and whether it can be used here."""
    from mechopt.studies.report import show_backends

    show_backends(console)


@app.command()
def scenarios() -> None:
    """List the bundled scenarios."""
    from mechopt.studies.scenario import bundled_scenarios, load_scenario

    for name in bundled_scenarios():
        console.print(f"{name:<20} {load_scenario(name)[0].title}")


@app.command()
def verify(
    pattern: Annotated[
        str,
        typer.Argument(
            help="A wing (contract, accuracy-shaping, sharing-market, fair-value, data-externality), "
            "a claim (contract/R13), or a glob."
        ),
    ] = "*",
    instances: Annotated[int | None, typer.Option(min=1, help="Instances a claim.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random instances.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the ledger here too.")] = None,
) -> None:
    """Run the papers' claims and print the ledger. Exits with 1 if a verdict is not the expected one."""
    from mechopt.formulations.ledger import ledger
    from mechopt.studies.report import show_ledger
    from mechopt.verification.claim import Claim, run_claims

    claims = ledger().select(pattern)
    with _progress() as bar:
        task = bar.add_task("claims", total=len(claims))
        started = 0

        def show(claim: Claim) -> None:
            nonlocal started
            bar.update(task, description=claim.id, completed=started)
            started += 1

        outcomes = run_claims(claims, n_instances=instances, seed=seed, progress=show)
    show_ledger(outcomes, console)
    if json_file is not None:
        _write_json(json_file, [outcome.summary() for outcome in outcomes])
    surprises = [outcome.claim.id for outcome in outcomes if not outcome.as_expected]
    held = sum(outcome.verdict == "holds" for outcome in outcomes)
    refuted = sum(outcome.verdict == "refuted" for outcome in outcomes)
    console.print(
        f"{len(outcomes)} claims: {held} hold, {refuted} refuted, "
        f"{len(outcomes) - held - refuted} undecided; not as expected: {', '.join(surprises) or 'none'}",
        soft_wrap=True,
    )
    if surprises:
        raise typer.Exit(SURPRISE)


@app.command()
def reproduce(
    paper: Annotated[
        str, typer.Argument(help="Which paper: contract, accuracy-shaping or fair-value.")
    ] = "contract",
    out: Annotated[Path | None, typer.Option(help="Folder for the figures.")] = None,
) -> None:
    """Draw a paper's figures and check their numbers."""
    from mechopt.studies.reproduce import reproduce_paper

    target = out or Path("mechopt-results") / f"reproduce-{paper}"
    with _progress() as bar:
        task = bar.add_task("figures", total=None)

        def show(name: str, number: int, total: int) -> None:
            bar.update(task, description=name, completed=number, total=total)

        results = reproduce_paper(paper, target, progress=show)
    for result in results:
        console.print(
            f"{result.name}: {result.n_numbers} numbers agree to {result.worst:.0e}  -> {result.file}"
        )


def _write_json(path: Path, content: Any) -> None:
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from None


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        console.print(f"mechopt {version('mechopt')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: an error of ours is a sentence on stderr, no traceback; Ctrl-C leaves a clean terminal."""
    try:
        app(standalone_mode=True)
    except MechanismError as error:
        # Escaped: what the message quotes from a scenario or a path is no markup.
        complaints.print(
            f"[red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True, highlight=False
        )
        raise SystemExit(BAD_INPUT) from None
    except SystemExit as stop:  # typer has turned Ctrl-C into an exit
        if stop.code == INTERRUPTED:
            complaints.print("interrupted")
        raise
