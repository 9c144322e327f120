"""``hpo doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import AsJson
from hpo.errors import SpaceError


def doctor(
    space: Annotated[
        Path | None, typer.Option(help="The search-space file to examine, or one that ships by name.", metavar="FILE")
    ] = None,
    configurations: Annotated[
        int, typer.Option(min=1, help="Try each parameter in this many configurations; more find more.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the configurations and of training.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Say of every parameter of a search space whether changing it changes what is trained.

    Each is tried by training: tiny networks on drawn posters, nothing downloaded. The exit code is 1 if one is dead.
    """
    if space is None:
        raise SpaceError("hpo doctor expects a search space to examine, got none: type hpo doctor --space default.")
    from rich.console import Console

    from hpo.model.architectures import check_known
    from hpo.report.doctor import dead, findings_account, print_findings
    from hpo.search.dead_parameters import examine
    from hpo.search.space.space import load_space
    from hpo.search.stand_ins import small_world

    loaded = load_space(space, check_known)
    with Console(stderr=True).status("drawing posters") as status, small_world(seed) as world:
        findings = examine(loaded, world, configurations, seed, lambda name: status.update(f"examining {name}"))
    if as_json:
        typer.echo(json.dumps(findings_account(loaded.name, findings), ensure_ascii=False))
    else:
        print_findings(loaded.name, findings, Console())
    if dead(findings):
        raise typer.Exit(1)
