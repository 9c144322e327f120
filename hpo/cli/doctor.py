"""`hpo doctor` and `hpo space`: preflight checks, and what a search space holds."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo.cli.options import MOST_SEED, AsJson, CacheDir, Pruner, Storage, TrackingUri
from hpo.cli.search import parse_trials
from hpo.errors import UsageError

# ``hpo space``.


def space(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="A search-space file, or one that ships by name. Default: default.", metavar="FILE"),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what differs between two FILEs.")] = False,
    sample: Annotated[int, typer.Option(min=0, max=100_000, help="Print this many random configurations too.")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the random configurations.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Explain a search space: parameters, conditions, recipes, number of combinations; or compare two.

    Every mistake in the file is reported at once, unknown backbones included.
    """
    names = files or [Path("auto")]
    if len(names) != 1 + diff:
        expected = "two files with --diff" if diff else "one file (two are compared with --diff)"
        raise UsageError(f"hpo space expects {expected}, got {len(names)}: {', '.join(map(str, names))}.")
    if diff:
        _compare(names[0], names[1], as_json)
    else:
        _explain(names[0], sample, seed, as_json)


def _explain(name: Path, n_samples: int, seed: int, as_json: bool) -> None:
    from rich.console import Console

    from hpo.report.space_tables import print_samples, print_space, space_account
    from hpo.space.load import load_space
    from hpo.study.samplers import draw

    loaded = load_space(name)
    samples = draw(loaded, n_samples, seed) if n_samples else []
    if not as_json:  # at once: timm, which knows the backbones, takes seconds to import
        console = Console()
        print_space(loaded, console)
        print_samples(samples, console)
    from hpo.model.backbones.architectures import check_known

    load_space(name, check_known)
    if as_json:
        typer.echo(json.dumps(space_account(loaded, samples), ensure_ascii=False))


def _compare(first: Path, second: Path, as_json: bool) -> None:
    from rich.console import Console

    from hpo.report.space_tables import difference_account, print_difference
    from hpo.space.comparison import compare
    from hpo.space.load import load_space

    difference = compare(load_space(first), load_space(second))
    if as_json:
        typer.echo(json.dumps(difference_account(difference), ensure_ascii=False))
    else:
        print_difference(difference, (str(first), str(second)), Console())


if TYPE_CHECKING:
    from rich.console import Console

    from hpo.doctor.result import CheckResult
    from hpo.doctor.unused_parameters import ParameterEffect
    from hpo.space.space import SearchSpace


def doctor(
    space: Annotated[
        Path | None,
        typer.Option(
            help="The search space, a file or one that ships by name; its parameters are examined as well. "
            "Default: the space 'auto', and its parameters are not.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The table of posters, CSV or Parquet. Default: the built-in sample.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder of posters. Default: those in the table, or 'images' beside it.")
    ] = None,
    trials: Annotated[str, typer.Option(help="The budget of the search that is planned.", metavar="N")] = "50",
    workers: Annotated[str, typer.Option(help="Its processes on this machine.", metavar="N|auto")] = "1",
    folds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Its folds. Default: what suits the posters.")
    ] = None,
    pruner: Annotated[Pruner | None, typer.Option(help="Its pruner. Default: what suits the folds.")] = None,
    configurations: Annotated[
        int, typer.Option(min=1, max=1_000, help="Try each parameter in this many configurations; more find more.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the configurations and of training.")] = 0,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Say what would go wrong with a search, before it runs: give it the search's own options.

    Databases, the MLflow server, clocks, disks, weights, cores and memory are checked, and nothing is made or
    changed. With `--space`, every parameter of it is tried as well: does changing it change what is trained? That takes
    tiny networks and drawn posters, and downloads nothing. The exit code is 1 for a problem or a parameter without
    effect.
    """
    budget, _ = parse_trials(trials)
    from hpo.cli.rich_progress import start_heavy_imports

    with start_heavy_imports():
        from rich.console import Console

        from hpo.doctor.checks import examine_environment
        from hpo.doctor.result import PlannedSearch
        from hpo.doctor.trials import count_posters
        from hpo.model.backbones.architectures import check_known
        from hpo.report.doctor_tables import checks_account, print_summary
        from hpo.search.executors.processes import parse_workers
        from hpo.settings import Paths
        from hpo.space.load import load_space
    console = None if as_json else Console()
    loaded = load_space(space or Path("auto"), check_known)
    n_posters, posters = count_posters(data, images)
    plan = PlannedSearch(
        Paths.of(storage, tracking_uri, cache_dir), loaded, parse_workers(workers), budget, n_posters, folds, pruner
    )
    findings = [_shown(finding, console) for finding in chain([posters], examine_environment(plan))]
    account: dict[str, Any] = checks_account(findings)
    if console is not None:
        print_summary(findings, console)
    if space is not None:
        account |= _examine_parameters(loaded, configurations, seed, console)
    if as_json:
        typer.echo(json.dumps(account, ensure_ascii=False))
    if account["problems"] or account.get("no_effect"):
        raise typer.Exit(1)


def _shown(finding: CheckResult, console: Console | None) -> CheckResult:
    """Print each finding as it comes: a server that does not answer takes seconds."""
    from hpo.report.doctor_tables import print_finding

    if console is not None:
        print_finding(finding, console)
    return finding


def _examine_parameters(space: SearchSpace, configurations: int, seed: int, console: Console | None) -> dict[str, Any]:
    """Try every parameter, print what was found where there is a ``console``, and return it as for JSON."""
    from rich.console import Console

    from hpo.doctor.proxy_task import open_proxy_task
    from hpo.doctor.unused_parameters import examine
    from hpo.report.doctor_tables import findings_account, print_findings

    with Console(stderr=True).status("drawing posters") as status, open_proxy_task(seed) as task:
        found: list[ParameterEffect] = examine(
            space, task, configurations, seed, lambda name: status.update(f"examining {name}")
        )
    if console is not None:
        print_findings(space.name, found, console)
    return findings_account(space.name, found)
