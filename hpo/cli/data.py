"""``hpo data``: posters to search on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli import check, fetch
from hpo.cli.command import Command
from hpo.cli.options import MOST_SEED
from hpo.commands import command

app = typer.Typer(help="Posters to search on.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Posters to search on."""


app.command("check", cls=Command)(check.check)
app.command("fetch", cls=Command)(fetch.fetch)


@app.command("sample", cls=Command)
def sample(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    posters: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many usable posters.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Other seeds draw other posters.")] = 0,
) -> None:
    """Draw synthetic posters and their catalogue, deterministically."""
    from hpo.cli.watch import RichWatch
    from hpo.data.sample import write_sample

    with RichWatch() as watch, watch.phase("drawing", posters) as progress:
        csv = write_sample(out, posters, seed, progress)
    typer.echo(f"Wrote {csv} and {out / 'images'}: {posters} usable posters, synthetic (drawn).")
    typer.echo(f"Next: {command('search', data=csv, images=out / 'images', seed=None)}")
