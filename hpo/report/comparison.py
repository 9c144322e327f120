"""``hpo compare`` as tables: averages, labels, and the posters that two models see most differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from hpo.report.terminal import Plain

_SURE = 0.975  # of the resamples on one side: the interval excludes 0


def table_lines(account: dict[str, Any]) -> list[str]:
    """Warn where posters of the table are those that a model was made from, or where its bundle does not say."""
    lines, others = [], account["not_trained_on"]
    for which, n_seen in account["trained_on"].items():
        name = account[which]
        if n_seen is None:
            lines.append(f"{name} does not say which posters it was trained on: scores on those would be too good.")
        elif n_seen:
            lines.append(f"{n_seen:,} of {account['n_posters']:,} posters are those that {name} was trained on.")
    if others is not None:
        row = others["metrics"]["f1_macro"]
        low, high = row["ci95"]
        lines.append(
            f"On the {others['n_posters']:,} others f1_macro is {row['a']:.3f} of A and {row['b']:.3f} of B, "
            f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]."
        )
    return lines


def print_comparison(account: dict[str, Any]) -> None:
    """Print what ``Comparison.account`` found."""
    console = Plain()
    console.print(f"A is {account['a']}, B is {account['b']}, on {account['n_posters']:,} posters:", highlight=False)
    console.print(f"  {account['where']}", highlight=False)
    console.print(_table("Averages", account["metrics"], "average"))
    n_averaged, n_labels = account["n_labels_averaged"], len(account["per_label"])
    if n_averaged < n_labels:
        console.print(f"  f1_macro and mean_ap are over the {n_averaged} of {n_labels} labels that some poster has.")
    if account.get("not_trained_on"):
        others = account["not_trained_on"]
        title = f"Averages of the {others['n_posters']:,} posters that neither was trained on"
        console.print(_table(title, others["metrics"], "average"))
    console.print(_table("F1 by label", account["per_label"], "label"))
    others = {name: row for name, row in account["averages"].items() if name not in account["metrics"]}
    console.print(_plain_table(others))
    if account["posters"]:
        console.print(_poster_table(account["posters"]))


def _table(title: str, rows: dict[str, Any], what: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(what)
    for name in ("A", "B", "B - A", "95 %"):
        table.add_column(name, justify="right")
    table.add_column("better")
    for name, row in rows.items():
        if row.get("support") == 0:
            table.add_row(name, *("–" for _ in range(5)))
            continue
        low, high = row["ci95"]
        share = row["share_above_zero"]
        sure = "B" if share >= _SURE else "A" if share <= 1 - _SURE and high < 0 else "cannot tell"
        cells = f"{row['a']:.3f}", f"{row['b']:.3f}", f"{row['difference']:+.3f}", f"{low:+.3f} to {high:+.3f}"
        table.add_row(name, *cells, sure)
    return table


def _plain_table(rows: dict[str, Any]) -> Table:
    table = Table(title="Other averages", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("average")
    for name in ("A", "B"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(name, f"{row['a']:.3f}", f"{row['b']:.3f}")
    return table


def _poster_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Posters that they see most differently", title_justify="left", box=SIMPLE_HEAD)
    for name in ("poster", "truth", "A", "B"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(Path(row["image"]).name, *(", ".join(row[key]) or "none" for key in ("truth", "a", "b")))
    return table
