"""`hpo data check` as tables: what a search would use of a table and a folder, and why not the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hpo.data.account import cleaning_lines, group_rows, kept_together
from hpo.data.catalogue.cleaning import MERGED
from hpo.report.tables import split_table

if TYPE_CHECKING:
    from hpo.data.prepare import PreparedData

_GROUPS_SHOWN = 8
_COLUMNS_SHOWN = 10  # more do not fit a terminal of 80
_TITLES_SHOWN = 3


def print_check(data: PreparedData, account: dict[str, Any], console: Console) -> None:
    """Print the account: rows, columns, labels, images, groups, parts."""
    for line in cleaning_lines(data):
        console.print(line, highlight=False, markup=False)
    if account["sample"] is not None:
        console.print(_sample_line(account["sample"]), highlight=False, markup=False)
    console.print(_dropped_table(account))
    console.print(_cooccurrence_table(account["labels"]))
    labels = account["labels"]
    console.print(
        f"{labels['cardinality']:.2f} labels a poster, {labels['distinct_label_sets']:,} distinct sets of them",
        highlight=False,
    )
    if account["images"] is not None:
        console.print(_image_line(account["images"]), highlight=False)
    console.print(kept_together(data), highlight=False)
    if data.groups.shared:
        console.print(_group_table(data))
    console.print(split_table(data))


def _sample_line(sample: dict[str, Any]) -> str:
    image = "" if sample["image"] is None else f", image {sample['image']}"
    labels = " · ".join(sample["labels"])
    return f"A row as it was read: id {sample['id']}{image}, labels {labels} (the cell: {sample['label_cell']})"


def _dropped_table(account: dict[str, Any]) -> Table:
    table = Table(title="Rows", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("what became of them")
    table.add_column("rows", justify="right")
    table.add_column("for example")
    table.add_row("read", f"{account['rows_read']:,}", "")
    for reason, count in account["dropped"].items():
        if count:
            table.add_row(
                reason if reason == MERGED else f"dropped: {reason}",
                f"{count:,}",
                ", ".join(account["examples"][reason]),
            )
    table.add_row("kept", f"{account['rows_kept']:,}", "")
    return table


def _cooccurrence_table(labels: dict[str, Any]) -> Table:
    """A row and a column a label, by number: how many posters carry both; on the diagonal those that carry the one."""
    names = list(labels["counts"])
    table = Table(title="Posters by label and label", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("label")
    for number in range(1, len(names[:_COLUMNS_SHOWN]) + 1):
        table.add_column(str(number), justify="right")
    for number, name in enumerate(names, start=1):
        counts = labels["cooccurrence"][name]
        table.add_row(f"{number} {name}", *(f"{counts[other]}" for other in names[:_COLUMNS_SHOWN]))
    return table


def _image_line(images: dict[str, Any]) -> str:
    formats = ", ".join(f"{count:,} {name}" for name, count in images["formats"].items())
    width, height = images["width_px"], images["height_px"]
    unclaimed = len(images["unclaimed"])
    return (
        f"Images: {formats}; width {width['min']} to {width['max']} px (median {width['median']}), "
        f"height {height['min']} to {height['max']} px (median {height['median']}); "
        f"{len(images['broken'])} broken, {unclaimed:,} that no row asks for"
    )


def _group_table(data: PreparedData) -> Table:
    rows = group_rows(data)
    table = Table(title="Largest groups that stay in one part", title_justify="left", box=SIMPLE_HEAD)
    for name, justify in (("posters", "right"), ("because of", "left"), ("titles or ids", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in rows[:_GROUPS_SHOWN]:
        table.add_row(str(row["posters"]), row["because of"], _first_few(row))
    if len(rows) > _GROUPS_SHOWN:
        table.caption = f"and {len(rows) - _GROUPS_SHOWN:,} more groups"
    return table


def _first_few(row: dict[str, Any]) -> str:
    names = row["titles"].split(" · ") if row["titles"] else row["ids"].split(", ")
    more = len(names) - _TITLES_SHOWN
    return " · ".join(names[:_TITLES_SHOWN]) + (f" and {more} more" if more > 0 else "")
