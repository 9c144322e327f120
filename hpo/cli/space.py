"""``hpo space``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import MOST_SEED, AsJson
from hpo.errors import UsageError


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

    Every mistake in the file is told at once, unknown backbones included.
    """
    names = files or [Path("default")]
    if len(names) != 1 + diff:
        expected = "two files with --diff" if diff else "one file (two are compared with --diff)"
        raise UsageError(f"hpo space expects {expected}, got {len(names)}: {', '.join(map(str, names))}.")
    if diff:
        _compare(names[0], names[1], as_json)
    else:
        _explain(names[0], sample, seed, as_json)


def _explain(name: Path, n_samples: int, seed: int, as_json: bool) -> None:
    from rich.console import Console

    from hpo.report.space import print_samples, print_space, space_account
    from hpo.search.space.samples import draw
    from hpo.search.space.space import load_space

    loaded = load_space(name)
    samples = draw(loaded, n_samples, seed) if n_samples else []
    if not as_json:  # at once: timm, which knows the backbones, takes seconds to import
        console = Console()
        print_space(loaded, console)
        print_samples(samples, console)
    from hpo.model.architectures import check_known

    load_space(name, check_known)
    if as_json:
        typer.echo(json.dumps(space_account(loaded, samples), ensure_ascii=False))


def _compare(first: Path, second: Path, as_json: bool) -> None:
    from rich.console import Console

    from hpo.report.space import difference_account, print_difference
    from hpo.search.space.difference import compare
    from hpo.search.space.space import load_space

    difference = compare(load_space(first), load_space(second))
    if as_json:
        typer.echo(json.dumps(difference_account(difference), ensure_ascii=False))
    else:
        print_difference(difference, (str(first), str(second)), Console())
