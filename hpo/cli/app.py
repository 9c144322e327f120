"""The command line: parse → call → print.

Commands import what they need when they run, so that ``hpo --help`` answers at once. An HpoError is printed on
stderr as the one sentence that it is, with exit code 1; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from types import FrameType

import typer

from hpo import __version__
from hpo.cli import annotate, bundles, compare, data, doctor, predict, report, results, search, space
from hpo.cli import gc as garbage
from hpo.errors import HpoError
from hpo.printable import printable

app = typer.Typer(
    name="hpo",
    help="Find the best multi-label poster-genre classifier that this machine can train, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("search")(search.search)
app.command("space")(space.space)
app.command("doctor")(doctor.doctor)
app.command("status")(results.status)
app.command("leaderboard")(results.leaderboard)
app.command("ensemble")(results.ensemble)
app.command("export-best")(results.export_best)
app.command("evaluate")(bundles.evaluate)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("annotate")(annotate.annotate)
app.command("report")(report.report)
app.command("sync")(results.sync)
app.command("gc")(garbage.gc)
app.command("ui")(results.ui)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"hpo {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _like_ctrl_c)
    # Threads that wait asleep instead of spinning: as fast alone, several times as fast beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdin, sys.stdout):  # a file's name need not be UTF-8: what was read is written
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    # A catalogue is a million small objects that stay: to look through them all ever again took a third of the time.
    gc.set_threshold(100_000, 20, 100)
    try:
        app()
    except HpoError as error:
        print(f"hpo: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _like_ctrl_c(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
