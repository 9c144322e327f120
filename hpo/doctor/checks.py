"""Run every check of `hpo doctor`, in the order in which a search would need it.

None hides another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hpo.doctor.databases import (
    check_database_clock,
    check_storage,
    check_tracking_clock,
    check_tracking_database,
    check_two_databases,
)
from hpo.doctor.disks import check_network_disk, check_room
from hpo.doctor.machine import check_cores, check_gpu, check_memory
from hpo.doctor.mlflow_server import check_tracking_server
from hpo.doctor.result import CheckResult, PlannedSearch, problem
from hpo.doctor.trials import check_backbones, check_budget, check_pruner
from hpo.errors import HpoError
from hpo.runtime.commands import command

Check = Callable[[PlannedSearch], CheckResult | None]  # None: it does not concern this plan

CHECKS: dict[str, Check] = {
    "storage": check_storage,
    "tracking": check_tracking_database,
    "tracking server": check_tracking_server,
    "two databases": check_two_databases,
    "sqlite": check_network_disk,
    "clock of the database": check_database_clock,
    "clock of MLflow": check_tracking_clock,
    "backbones": check_backbones,
    "trials": check_budget,
    "pruner": check_pruner,
    "disk": check_room,
    "cores": check_cores,
    "memory": check_memory,
    "GPU": check_gpu,
}


def examine_environment(plan: PlannedSearch) -> Iterator[CheckResult]:
    """Yield what each check finds, as soon as it does."""
    for name, check in CHECKS.items():
        found = _guarded(name, check, plan)
        if found is not None:
            yield found


def _guarded(name: str, check: Check, plan: PlannedSearch) -> CheckResult | None:
    try:
        return check(plan)
    except HpoError as error:
        message, _, fix = str(error).rstrip(".").rpartition(": ")
        return problem(name, message, fix)
    except OSError as error:
        return problem(
            name, f"{error.filename}: {error.strerror}", f"make that readable, then type {command('doctor')} again"
        )
    except Exception as error:  # a bug in one check must not hide the others; its text might hold a password
        message = f"the check itself failed ({type(error).__name__} in {_place(error)})"
        return problem(name, message, "report this as a bug of hpo doctor")


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown" if trace is None else f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
