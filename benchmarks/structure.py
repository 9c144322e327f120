"""The structure of the package in figures: lines, files a folder, circles, importers, names that stand twice.

    python -m benchmarks.structure        (make structure)

Imports are read from the syntax tree, those inside functions included, so that a late import hides no circle.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

from benchmarks.machine import ROOT

LIBRARIES = ("optuna", "mlflow", "timm")
_SHORT = 60  # lines


def modules(package: Path) -> dict[str, Path]:
    """Return the modules of ``package`` by dotted name."""
    named = {".".join(file.relative_to(package.parent).with_suffix("").parts): file for file in package.rglob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in named.items()}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports, wherever in it: of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def a_circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return the modules of one import circle, or none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    """Print the figures."""
    found = modules(ROOT / "hpo")
    trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in found.items()}
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in found.items()}
    filled = {name: count for name, count in lines.items() if count}
    arrows = {
        name: {other for other in imported(tree) if other in found} - {name, "hpo"} for name, tree in trees.items()
    }
    folders = Counter(found[name].parent.relative_to(ROOT) for name in filled)
    classes: defaultdict[str, list[str]] = defaultdict(list)
    for name, tree in trees.items():
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(name)
    print(
        f"lines                  {sum(lines.values()):,} in {len(filled)} files; median {median(filled.values()):.0f}"
    )
    print(f"files under {_SHORT} lines   {sum(count < _SHORT for count in filled.values())}")
    print(f"longest files          {', '.join(f'{n} {c}' for n, c in Counter(filled).most_common(5))}")
    print(f"largest folders        {', '.join(f'{folder} {count}' for folder, count in folders.most_common(5))}")
    print(f"import circle          {' → '.join(a_circle(arrows)) or 'none'}")
    for library in LIBRARIES:
        users = [name for name, tree in trees.items() if any(m.split(".")[0] == library for m in imported(tree))]
        print(f"modules with {library:10}{len(users):3} in {', '.join(sorted({user.split('.')[1] for user in users}))}")
    twice = {name: paths for name, paths in classes.items() if len(paths) > 1 and not name.startswith("_")}
    print(f"public classes twice   {', '.join(sorted(twice)) or 'none'}")
    stems = Counter(file.stem for name, file in found.items() if file.stem != "__init__")
    print(f"file names twice       {', '.join(sorted(stem for stem, count in stems.items() if count > 1)) or 'none'}")


if __name__ == "__main__":
    main()
