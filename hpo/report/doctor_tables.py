"""Print `hpo doctor` results as lines and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hpo.doctor.result import CheckResult as Check
from hpo.doctor.result import State
from hpo.doctor.unused_parameters import ParameterEffect
from hpo.space.schema import spelled

_COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_MARK_WIDTH = len("warning") + 1


def checks_account(findings: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as ``hpo doctor --json`` prints them: the keys are a contract."""
    return {
        "checks": [asdict(finding) for finding in findings],
        "problems": _named(findings, "problem"),
        "warnings": _named(findings, "warning"),
    }


def _named(findings: Sequence[Check], state: State) -> list[str]:
    return [finding.name for finding in findings if finding.state == state]


def print_finding(finding: Check, console: Console) -> None:
    """Print a mark, what was found, and the fix where there is something to fix: unbroken, since it may be typed."""
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=_MARK_WIDTH)
    line.add_column(overflow="fold")
    mark = f"[{_COLOURS[finding.state]}]{finding.state}[/]"
    line.add_row(mark, escape(f"{finding.name}: {finding.message}"))
    console.print(line, highlight=False)
    if finding.fix:
        console.print(Text(f"{'':{_MARK_WIDTH}} → {finding.fix}"), soft_wrap=True)


def print_summary(findings: Sequence[Check], console: Console) -> None:
    """Print what the checks come to."""
    problems, warnings = _named(findings, "problem"), _named(findings, "warning")
    if problems:
        verdict = f"Fix before you search: {', '.join(problems)}."
    else:
        verdict = f"A search would run. Worth a look: {', '.join(warnings)}." if warnings else "A search would run."
    console.print(verdict, highlight=False, markup=False)


def findings_account(name: str, findings: Sequence[ParameterEffect]) -> dict[str, Any]:
    """Return the findings as ``hpo doctor --json`` prints them: the keys are a contract."""
    return {
        "name": name,
        "parameters": {
            finding.parameter: {**asdict(finding), "needs_when": finding.needs_when} for finding in findings
        },
        "no_effect": without_effect(findings),
    }


def without_effect(findings: Sequence[ParameterEffect]) -> list[str]:
    """Return the names of the parameters that change nothing."""
    return [finding.parameter for finding in findings if finding.verdict == "no effect"]


def print_findings(name: str, findings: Sequence[ParameterEffect], console: Console) -> None:
    """Print a row for each parameter, and what to do about those without effect."""
    table = Table(title=f"What changes what is trained in {name}", title_justify="left", box=SIMPLE_HEAD)
    for column in ("parameter", "tried", "verdict", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "parameter")
    for finding in findings:
        tried = ", ".join(map(spelled, finding.values))
        table.add_row(finding.parameter, escape(tried), finding.verdict, escape(explanation(finding)))
    console.print(table)
    unused = without_effect(findings)
    advice = f"Without effect: {', '.join(unused)}. Remove them, or search what they need."
    if not unused:
        advice = "Every parameter has an effect."
    console.print(advice, highlight=False, markup=False)


def explanation(finding: ParameterEffect) -> str:
    """Say on what a verdict rests, and what it asks for."""
    if finding.reason:
        return finding.reason
    sentences = [f"has an effect in {finding.active_in} of {finding.of} configurations"]
    if finding.interaction is not None:
        interaction = finding.interaction
        there = f"{interaction.parameter} is {spelled(interaction.idle_at)}"
        proxy = ", a proxy network here" if interaction.parameter == "backbone" else ""
        sentences.append(f"idle where {there}{proxy}, not where it is {spelled(interaction.active_at)}")
        if finding.needs_when:
            sentences.append(f"consider when: {{{interaction.parameter}: [...]}}")
    sentences += [f"{spelled(one)} and {spelled(other)} train the same" for one, other in finding.alike]
    return "; ".join(sentences)
