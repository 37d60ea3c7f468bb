"""The command line: run, sweep, bench, backends, verify, reproduce."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mechopt.solvers.errors import InvalidInput, MechanismError

if TYPE_CHECKING:
    from mechopt.verification.claim import Outcome
    from mechopt.verification.runner import RunSettings

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
def sweep(
    scenario: Annotated[
        str, typer.Argument(help="A TOML file with a table [sweep], or the name of a bundled sweep.")
    ] = "contract-sweep",
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1 for as many as there are cores.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the cells that are there.")] = False,
) -> None:
    """Solve a scenario over a grid of its parameters, and plot it. Exits with 1 if a cell has no answer."""
    from mechopt.studies.run import check_output
    from mechopt.studies.sweep_scenario import STORE, load_sweep

    loaded = load_sweep(scenario)
    target = out or Path("mechopt-results") / Path(scenario).stem
    check_output(target)
    if (target / STORE).exists() and not resume:
        raise InvalidInput(
            f"{target / STORE} holds the cells of a sweep: --resume goes on with it; to start anew, "
            "delete it or give another --out"
        )
    try:
        with _progress() as bar:
            task = bar.add_task("cells", total=None)

            def show(done: int, total: int, failed: int) -> None:
                told = f"cells, {failed} failed" if failed else "cells"
                bar.update(task, description=told, completed=done, total=total)

            report = loaded.run(target, n_jobs=jobs, progress=show)
            bar.update(task, description="writing")
            files = report.write(target)
    except KeyboardInterrupt:
        complaints.print(f"what is done is kept in {target}; --resume goes on from there", markup=False)
        raise
    report.show(console)
    console.print(f"written to {target}/: {', '.join(path.name for path in files)}", soft_wrap=True)
    if not report.agreement:
        raise typer.Exit(SURPRISE)


@app.command()
def bench(
    mechanism: Annotated[
        list[str] | None,
        typer.Option(help="A mechanism (contract) or a family (contract/log-full); repeat, or use commas."),
    ] = None,
    backends: Annotated[
        list[str] | None, typer.Option(help="Default: all that are installed; repeat, or use commas.")
    ] = None,
    sizes: Annotated[
        list[str] | None, typer.Option(help="Instead of each family's own; repeat, or use commas.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option(help="loose, default, tight; repeat, or use commas.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, one instance of each.")] = False,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds for a solve; default 60, or 5 if quick.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Measure backends on families of programs. A run that was interrupted goes on where it stopped."""
    from mechopt.studies.bench.drive import make_plan, run_benchmark
    from mechopt.studies.bench.report import show
    from mechopt.studies.run import check_output

    plan = make_plan(
        _parts(mechanism),
        _parts(backends),
        [_size(part) for part in _parts(sizes)],
        _parts(settings),
        quick=quick,
        time_limit=time_limit,
    )
    target = out or Path("mechopt-results") / "bench"
    check_output(target)
    try:
        with _progress() as bar:
            task = bar.add_task("starting", total=None)

            def tell(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total)

            report, files = run_benchmark(plan, target, tell)
    except KeyboardInterrupt:
        complaints.print(
            f"what is done is kept in {target}; the same command goes on from there", markup=False
        )
        raise
    show(report, console)
    console.print(f"written to {target}/: {', '.join(path.name for path in files)}", soft_wrap=True)


def _parts(given: list[str] | None) -> list[str]:
    """Split what was repeated, or written with commas."""
    return [part.strip() for text in given or () for part in text.split(",") if part.strip()]


def _size(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"--sizes must be whole numbers, got {text!r}") from None


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
        console.print(f"{name:<20} {load_scenario(name)[0].title}", soft_wrap=True)


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
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random instances.")] = 0,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Solve the checks' programs on these too: names with commas, or all."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer instances: all claims in under a minute.")
    ] = False,
    shrink: Annotated[
        int, typer.Option(min=0, help="Checks that may go into making a counterexample smaller.")
    ] = 100,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the ledger here too.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write it as a web page.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write it as Markdown.")] = None,
    counterexamples: Annotated[
        Path | None, typer.Option(help="Write the counterexamples here, for --replay.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Check the counterexamples in this file again; nothing else.")
    ] = None,
) -> None:
    """Run the papers' claims and print the ledger.

    Exits with 1 if a verdict is not the expected one, or a backend called a wrong answer optimal.
    """
    from mechopt.formulations.ledger import ledger
    from mechopt.studies.ledger_page import ledger_html, ledger_markdown, tally
    from mechopt.studies.report import show_ledger
    from mechopt.verification.claim import Claim, Verdict
    from mechopt.verification.counterexample import Counterexample, keepable, write_counterexamples
    from mechopt.verification.runner import iter_outcomes, quick_seconds

    if replay is not None:
        _replay(replay)
        return
    for path in (json_file, html, markdown, counterexamples):
        _check_folder(path)
    claims = ledger().select(pattern)
    settings = _run_settings(instances, seed, backend, shrink)
    if quick:
        seconds = quick_seconds(len(claims), jobs, len(settings.backends))
        settings = replace(settings, seconds=seconds, shrink_expected=False)
    outcomes: list[Outcome] = []
    interrupted = False
    with _progress() as bar:
        task = bar.add_task("claims", total=len(claims))

        def show(claim: Claim) -> None:
            bar.update(task, description=claim.id)

        try:
            for outcome in iter_outcomes(claims, settings, jobs=jobs, load=ledger, progress=show):
                outcomes.append(outcome)
                bar.update(task, completed=len(outcomes))
        except KeyboardInterrupt:
            interrupted = True
    order = {claim.id: number for number, claim in enumerate(claims)}
    outcomes.sort(key=lambda outcome: order[outcome.claim.id])
    show_ledger(outcomes, console, ledger())
    refuted = [outcome for outcome in outcomes if outcome.verdict is Verdict.REFUTED]
    if json_file is not None:
        _write_json(json_file, [_record(outcome) for outcome in outcomes])
    if html is not None:
        title = "Ledger of claims" if pattern == "*" else f"Ledger of claims: {pattern}"
        _write_text(html, ledger_html(outcomes, title=title, ledger=ledger()))
    if markdown is not None:
        _write_text(markdown, ledger_markdown(outcomes, ledger=ledger()))
    if counterexamples is not None:
        kept = [outcome for outcome in refuted if keepable(outcome)]
        write_counterexamples(counterexamples, [Counterexample.of(outcome, seed) for outcome in kept])
        for outcome in refuted:
            if outcome not in kept:
                complaints.print(f"{outcome.claim.id}: its counterexample cannot be written to a file")
    console.print(escape(tally(outcomes)), soft_wrap=True, highlight=False)
    if any(not outcome.as_expected for outcome in refuted) and counterexamples is None:
        console.print("keep counterexamples with --counterexamples FILE", style="dim")
    if interrupted:
        left = len(claims) - len(outcomes)
        console.print(f"{left} of {len(claims)} claims were not finished", highlight=False)
        raise typer.Exit(INTERRUPTED)
    if any(not outcome.as_expected or outcome.faults for outcome in outcomes):
        raise typer.Exit(SURPRISE)


def _run_settings(instances: int | None, seed: int, backend: list[str] | None, shrink: int) -> RunSettings:
    from mechopt.solvers.backend import available_backends, get_backend
    from mechopt.verification.runner import RunSettings

    names = list(dict.fromkeys(_parts(backend)))
    if "all" in names:
        names = list(available_backends())
    for name in names:
        get_backend(name)  # refuses one that cannot be used here, before anything runs
    return RunSettings(n_instances=instances, seed=seed, shrink=shrink, backends=tuple(names))


def _replay(path: Path) -> None:
    """Check the counterexamples of a file again; exit with 1 if one of them is none any more."""
    from mechopt.formulations.ledger import ledger
    from mechopt.verification.counterexample import read_counterexamples, replay

    replays = [replay(found, ledger()) for found in read_counterexamples(path, ledger())]
    for again in replays:
        style = None if again.fails else "red"
        console.print(str(again), style=style, markup=False, highlight=False, soft_wrap=True)
    failing = sum(again.fails for again in replays)
    twice = sum(again.twice_computed for again in replays)
    told = f"{len(replays)} counterexamples: {failing} still fail, {twice} of them by two computations"
    console.print(told, highlight=False, soft_wrap=True)
    if failing < len(replays):
        raise typer.Exit(SURPRISE)


def _record(outcome: Outcome) -> Any:
    """One claim's entry of the ledger in JSON, in which what is not a number is null."""
    more = {
        "twice_computed": outcome.twice_computed,
        "backends": [row.summary() for row in outcome.backends],
    }
    return _without_nan(outcome.summary() | more)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@app.command()
def reproduce(
    paper: Annotated[
        str, typer.Argument(help="Which paper: contract, accuracy-shaping, fair-value or data-externality.")
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


def _check_folder(path: Path | None) -> None:
    """Refuse a file that cannot be written before a long run, rather than after it."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InvalidInput(f"cannot write {path}: {why}")


def _write_json(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
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
