"""The command line: parse → call → print.

Commands import what they need when they run, so that ``hpo --help`` answers at once. An HpoError is printed on
stderr as the one sentence that it is, with exit code 1, or 2 where an option has a wrong value; anything else is a bug
and keeps its traceback.
"""

from __future__ import annotations

import codecs
import gc
import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import typer

from hpo import __version__
from hpo.cli import annotate, data, doctor, evaluate, predict, search, study
from hpo.cli.arguments import Command
from hpo.errors import DISK_ERRORS, HpoError
from hpo.escaping import printable

_AS_READ_OR_ESCAPED = "hpo.as_read_or_escaped"

app = typer.Typer(
    name="hpo",
    help="Find the best multi-label poster-genre classifier that this machine can train, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("search", cls=Command)(search.search)
app.command("space", cls=Command)(doctor.space)
app.command("doctor", cls=Command)(doctor.doctor)
app.command("status", cls=Command)(study.status)
app.command("plan", cls=Command)(study.plan)
app.command("leaderboard", cls=Command)(study.leaderboard)
app.command("ensemble", cls=Command)(study.ensemble)
app.command("export-best", cls=Command)(study.export_best)
app.command("evaluate", cls=Command)(evaluate.evaluate)
app.command("compare", cls=Command)(evaluate.compare)
app.command("predict", cls=Command)(predict.predict)
app.command("annotate", cls=Command)(annotate.annotate)
app.command("report", cls=Command)(study.report)
app.command("sync", cls=Command)(study.sync)
app.command("gc", cls=Command)(study.gc)
app.command("ui", cls=Command)(study.ui)
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
    # Figures are drawn into files. A notebook's kernel exports a backend of its own, which may not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    if isinstance(sys.stdin, io.TextIOWrapper):  # a file's name need not be UTF-8: what was read is written
        sys.stdin.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that is not UTF-8 shows \\u5b57 for what it has not
        codecs.register_error(_AS_READ_OR_ESCAPED, _as_read_or_escaped)
        sys.stdout.reconfigure(errors=_AS_READ_OR_ESCAPED)
    # A catalogue is a million small objects that stay: to look through them all ever again took a third of the time.
    gc.set_threshold(100_000, 20, 100)
    try:
        try:
            _check_current_folder()
            app()
        finally:
            sys.stdout.flush()
    except HpoError as error:
        print(f"hpo: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try, and fail, to write again
        where = f"to {error.filename}" if error.filename else "its output"
        sentence = f"Could not write {where} ({error.strerror}): free some space there, then type the command again."
        print(f"hpo: {printable(sentence)}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _check_current_folder() -> None:
    """Raise HpoError where the current folder was deleted, in which neither relative paths nor PyTorch work."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise HpoError("The current folder was deleted: change to a folder that exists, then type it again.") from None


def _as_read_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write bytes of file names as they were read, and what the terminal's encoding lacks as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _like_ctrl_c(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
