"""``hpo gc`` in words: what goes, or would go, why, and how much that frees."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hpo.search.retention import Plan
from hpo.search.study import Study


def gc_account(study: Study, freed: Plan, dry_run: bool) -> dict[str, Any]:
    """Return what ``hpo gc --json`` prints: its keys are a contract."""
    items = [{"kind": i.kind, "name": i.name, "why": i.why, "bytes": i.n_bytes} for i in freed.items]
    return {
        "study": study.name,
        "dry_run": dry_run,
        "items": items,
        "bytes": freed.n_bytes,
        "notes": list(freed.notes),
    }


def print_gc(study: Study, freed: Plan, dry_run: bool) -> None:
    """Print it for a person."""
    console = Console()
    if freed.items:
        console.print(_table(freed))
        did = "would free" if dry_run else "freed"
        console.print(f"Study {study.name}: {did} {in_words(freed.n_bytes)}.", highlight=False)
    else:
        console.print(f"Study {study.name}: nothing to free.", highlight=False)
    for note in freed.notes:
        console.print(note, highlight=False, markup=False)


def _table(freed: Plan) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in ("what", "of", "why"):
        table.add_column(name)
    table.add_column("size", justify="right", no_wrap=True)
    for item in freed.items:
        table.add_row(item.kind, item.name, item.why, in_words(item.n_bytes))
    return table


def in_words(n_bytes: int) -> str:
    """Return bytes as people say them: 220 kB, 24.6 MB, 1.2 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes >= 1000 else f"{n_bytes} bytes"
