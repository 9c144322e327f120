"""Migrate a study whose search space has changed to a new version of itself.

Optuna fixes the choices of a categorical for a study's whole life ("does not support dynamic value space"). So where a
backbone is added, a second study takes over: ``NAME~2``, with every trial of the first under its own number and with
the new distributions, so that the sampler continues from what is known. To everybody else the study is still called
NAME.

A version counts from the moment at which it knows its identity, which is written last: one whose copying was
interrupted is not seen, and is made again. What is lost is the sampler's private state (CMA-ES begins a new generation,
QMC a new sequence), which is about distributions that are gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from hpo.errors import StudyError
from hpo.model.config import FUSE, TrialConfig
from hpo.space.comparison import SpaceFit, fit_exactly, fit_into, in_words
from hpo.space.parameters import PARAMETER
from hpo.space.schema import Scalar
from hpo.space.space import SearchSpace
from hpo.space.stages import Stage
from hpo.study.attributes import OF_THE_SPACE, SPACE, attributes_of, is_bound, write
from hpo.study.trial_record import TrialRecord

# Where a new study may begin: the best trials of another one that lie in its search space.
#
# What another study found is a guess, not a result: posters, metric or conditions may differ, so a trial's parameters
# are run again here and nothing else of it is taken over.

STARTS = 5


def enqueue_warm_start(study: optuna.Study, source: str, best_first: Sequence[TrialRecord], space: SearchSpace) -> None:
    """Queue the ``best_starts`` of study ``source`` that ``study`` has not tried or queued. Raises StudyError."""
    for number, params in best_starts(source, best_first, space).items():
        study.enqueue_trial(params, user_attrs={"warm_start": f"{source} #{number}"}, skip_if_exists=True)


def best_starts(source: str, best_first: Sequence[TrialRecord], space: SearchSpace) -> dict[int, dict[str, Scalar]]:
    """Return the searched parameters of the best trials of study ``source`` that lie in ``space``, by their number.

    At most ``STARTS`` different ones, best first. Raises StudyError that names the parameter which fits least often
    when none does.
    """
    starts: dict[int, dict[str, Scalar]] = {}
    misfits: Counter[str] = Counter()
    for trial in best_first:
        fit = fit_into(space, trial.configuration)
        misfits.update(fit.misfits)
        if not fit.misfits and fit.params not in starts.values():
            starts[trial.number] = fit.params
        if len(starts) == STARTS:
            break
    if not starts:
        raise StudyError(_nothing_fits(source, len(best_first), misfits, space))
    return starts


def _nothing_fits(source: str, n_trials: int, misfits: Counter[str], space: SearchSpace) -> str:
    if not n_trials:
        return (
            f"Expected trials in study {source!r} to warm-start from, but none of it is complete: "
            "leave --warm-start out, or name another study."
        )
    name, n_misfits = misfits.most_common(1)[0]
    wanted = space.searched[name].in_words() if name in space.searched else space.fixed[name]
    return (
        f"Expected trials of study {source!r} that lie in the search space {space.name}, but none of its {n_trials} "
        f"does: {name} does not fit in {n_misfits} of them (expected {wanted}); leave --warm-start out, or choose "
        "another study or space."
    )


_LONGEST_NAME = 200  # report-NAME.html and what else is named after it must fit in the 255 bytes of a file's name
_VERSIONED = re.compile(r"(.+)~(\d+)")


def base_name(study_name: str) -> str:
    """Return what users call the study of which ``study_name`` is a version."""
    versioned = _VERSIONED.fullmatch(study_name)
    return versioned[1] if versioned else study_name


def check_name(name: str) -> None:
    """Raise StudyError for a name that would be taken for a version, or is too long for the files named after it."""
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        raise StudyError(
            f"Expected a study's name of at most {_LONGEST_NAME} bytes, got one of "
            f"{len(name.encode('utf-8', 'surrogatepass'))}, {name[:20]!r}...: name it with --study NAME."
        )
    if base_name(name) != name:
        raise StudyError(
            f"Expected a study's name that does not end in ~ and a number, which mark versions, got {name!r}: "
            f"use --study {base_name(name)}."
        )


def latest_version(storage: BaseStorage, name: str) -> str:
    """Return under which name Optuna knows the study ``name`` today; ``name`` itself where there is none."""
    versions = [found for found in optuna.get_all_study_names(storage) if _VERSIONED.fullmatch(found)]
    for version in sorted((found for found in versions if base_name(found) == name), key=version_number, reverse=True):
        if is_bound(storage.get_study_user_attrs(storage.get_study_id_from_name(version))):
            return version
    return name


def version_number(study_name: str) -> int:
    """Return 1 for a study under its plain name, 2 for the version that took over first, and so on."""
    versioned = _VERSIONED.fullmatch(study_name)
    return int(versioned[2]) if versioned else 1


def check_latest(study: optuna.Study) -> None:
    """Raise StudyError where another search has begun a later version of ``study`` meanwhile."""
    name = base_name(study.study_name)
    if latest_version(study._storage, name) != study.study_name:
        raise StudyError(
            f"Study {name!r} continues with another search space, which another search has given it meanwhile: "
            "to take part in it, type this again with that --space."
        )


def write_space(space: SearchSpace) -> dict[str, Any]:
    """Return a space as a study remembers it, in JSON."""
    return {
        "name": space.name,
        "searched": {name: parameter.model_dump(exclude_unset=True) for name, parameter in space.searched.items()},
        "fixed": dict(space.fixed),
        "weights": dict(space.weights),
        "recipes": {name: dict(recipe) for name, recipe in space.recipes.items()},
        "stages": {name: stage.model_dump() for name, stage in space.stages.items()},
    }


def read_space(written: Mapping[str, Any]) -> SearchSpace:
    """Return the space that ``write_space`` wrote."""
    searched = {name: PARAMETER.validate_python(parameter) for name, parameter in written["searched"].items()}
    stages = {name: Stage.model_validate(stage) for name, stage in written["stages"].items()}
    return SearchSpace(written["name"], searched, written["fixed"], written["recipes"], written["weights"], stages)


def migrate(
    study: optuna.Study,
    identity: Mapping[str, str],
    more: Mapping[str, Any],
    carry_predictions: Callable[[optuna.Study], None],
) -> tuple[str, str]:
    """Make the next version of ``study``; return Optuna's name of it, and a sentence that says what happened.

    ``identity`` and ``more`` are what a study of the changed space remembers, the space among it;
    ``carry_predictions`` copies what the trials predicted to the version that it receives, under the same numbers. The
    caller holds a lock, so that neither trials nor versions are begun meanwhile. The budget moves along, so that
    workers of the old version end. Raises StudyError where a trial does not lie in the new space, or is still running.
    """
    name, trials = base_name(study.study_name), study.get_trials(deepcopy=False)
    old, new = read_space(attributes_of(name, study.user_attrs).space_document or {}), read_space(more[SPACE])
    if any(trial.state == TrialState.RUNNING for trial in trials):
        raise StudyError(
            f"Study {name!r} is being searched with another space than asked for now ({in_words(old, new)}): let its "
            "workers finish or stop them, and then type this again."
        )
    fits = [_fit(trial, old, new) for trial in trials]
    _check(name, old, new, fits)
    version = _begin(study, f"{name}~{version_number(study.study_name) + 1}")
    for trial, fit in zip(trials, fits, strict=True):
        version.add_trial(_copy(trial, fit.params, new))
    carry_predictions(version)
    _remember(study, version, identity, more)
    taken = "its trial is" if len(trials) == 1 else f"its {len(trials)} trials are"
    what = "grew" if _lies_in(old, new) and not _lies_in(new, old) else "changed"
    return version.study_name, f"The space of study {name!r} {what} ({in_words(old, new)}): {taken} taken over."


def _begin(study: optuna.Study, version: str) -> optuna.Study:
    storage = study._storage
    if version in optuna.get_all_study_names(storage):  # by a process that was killed before it finished
        optuna.delete_study(study_name=version, storage=storage)
    return optuna.create_study(storage=storage, study_name=version, direction="maximize")


def _remember(study: optuna.Study, version: optuna.Study, identity: Mapping[str, str], more: Mapping[str, Any]) -> None:
    kept = {key: value for key, value in study.user_attrs.items() if not is_bound({key: value})}
    changed = {key: value for key, value in more.items() if key in OF_THE_SPACE}
    write(study, budget=0)  # before there is a later version, so that no trial is begun beside it
    new = {"version_of": base_name(study.study_name), "identity": dict(identity)}  # the identity last
    write(version, **{**kept, **changed, **new})


def _fit(trial: FrozenTrial, old: SearchSpace, new: SearchSpace) -> SpaceFit:
    """A trial that ended well must mean the same in the new space; of any other, what it has so far."""
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        config = old.rebuild(trial.params)
        fit = fit_exactly(new, config)
        return SpaceFit(fit.params, (*fit.misfits, *_other_weights(config, old, new)))
    known = {**_fixed(trial), **trial.params}
    misfits = tuple(key for key, value in known.items() if not _allows(new, key, value))
    return SpaceFit({key: value for key, value in trial.params.items() if key in new.searched}, misfits)


def _other_weights(config: TrialConfig, old: SearchSpace, new: SearchSpace) -> list[str]:
    backbones = config.backbone.split(FUSE)
    return [f"weights of {name}" for name in backbones if old.weights.get(name) != new.weights.get(name)]


def _allows(space: SearchSpace, name: str, value: Scalar) -> bool:
    if name in space.searched:
        return space.searched[name].holds(value)
    return bool(value == space.fixed.get(name, TrialConfig.model_fields[name].default))


def _lies_in(inner: SearchSpace, outer: SearchSpace) -> bool:
    """Whether ``outer`` allows all values of every parameter of ``inner``, conditions aside."""
    names = [*inner.searched, *inner.fixed]
    return all(_allows(outer, name, value) for name in names for value in inner.values_of(name))


def _check(name: str, old: SearchSpace, new: SearchSpace, fits: Sequence[SpaceFit]) -> None:
    misfits = Counter(misfit for fit in fits for misfit in fit.misfits)
    if not misfits:
        return
    (least, n_misfits), *_ = misfits.most_common(1)
    raise StudyError(
        f"Study {name!r} cannot continue with the changed search space ({in_words(old, new)}): {least} no longer "
        "fits in "
        f"{n_misfits} of its {len(fits)} trials; choose a new name with --study, or let the space allow what they have."
    )


def _copy(trial: FrozenTrial, params: dict[str, Scalar], space: SearchSpace) -> FrozenTrial:
    fixed = {key: value for key, value in _fixed(trial).items() if key in space.searched}
    copied = optuna.trial.create_trial(
        state=trial.state,
        values=trial.values,
        params=params,
        distributions=_distributions(params, space),
        user_attrs=trial.user_attrs,
        system_attrs={"fixed_params": fixed} if fixed else {},
        intermediate_values=trial.intermediate_values,
    )
    copied.datetime_start, copied.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copied


def _distributions(params: dict[str, Scalar], space: SearchSpace) -> dict[str, optuna.distributions.BaseDistribution]:
    trial = FixedTrial(params)
    for name in params:
        space.searched[name].suggest(trial, name)
    return dict(trial.distributions)


def _fixed(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial was queued with."""
    return dict(trial.system_attrs.get("fixed_params", {}))
