"""The steps of noise-aware fine-tuning, each of which also runs alone.

float: training in exact arithmetic. crossbar: fine-tuning that sees crossbars, wires and their
noise, but exact thresholds; naf: the noise of ACAM units too. quantize: the ranges of all codes are
measured again, weights stay. exact: windows of ACAM units as their functions have them; every step
above ends with it. trees: windows by a decision tree for every output bit. acam: windows tuned for
noise.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from behavioral.variation import acam_model
from circuits.errors import CheckpointError, ParameterError
from system import inputs
from system.calibration import Ranges, calibrate
from system.networks import load_network
from system.quantization import Mapping, as_options
from system.sweep.points import scaled
from system.training import metrics, naf, networks, windows
from system.training.kept import KeptTraining
from system.training.recipes import RECIPES, SERVED, Plan, Recipe
from system.weights import acam_windows
from system.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

TRAINED = ("float", "crossbar", "naf")  # steps that change weights
WINDOWS = ("exact", "trees", "acam")  # steps that write acam.h5 and nothing else
STEPS = (*TRAINED, "quantize", *WINDOWS)


def finetune(model: str, steps: list[str], plan: Plan) -> list[Path]:
    """Run the steps of a recipe, in the order of `STEPS`; returns what was written.

    Interrupted, the same call goes on where the state was kept last, to the same bits.

    Raises
    ------
    ParameterError
        Unknown model or step, or choices of the mapping for windows of a checkpoint that has its
        own.
    CheckpointError
        A step without a checkpoint to start from; a kept state of another training.
    """
    if model not in RECIPES:
        raise ParameterError(f"no recipe for {model!r}; known: {', '.join(RECIPES)}")
    unknown = [s for s in steps if s not in STEPS]
    if unknown:
        raise ParameterError(f"unknown step {unknown[0]!r}; known: {', '.join(STEPS)}")
    if plan.mapping and not {*TRAINED, "quantize"} & {*steps}:
        raise ParameterError(
            "windows fit the mapping of their checkpoint; --map needs step quantize"
        )
    recipe = RECIPES[model](plan)
    recipe.mapping = recipe.mapping.changed(plan.mapping)
    written, states, start = [], [], (plan.start or plan.out) / f"{model}-float"
    for step in (s for s in TRAINED if s in steps):
        start, kept = _pretrain(recipe) if step == "float" else _tune(recipe, step, start)
        written.append(start)
        states.append(kept)
    ready = start if written else (plan.start or plan.out) / model
    if "quantize" in steps:
        ready = _quantize(recipe, ready)
        written.append(ready)
    chosen = [s for s in WINDOWS if s in steps]
    if chosen:
        written.append(_make_windows(recipe, ready, chosen))
    for kept in states:  # not earlier: a finished step is read back where a later one was stopped
        kept.remove()
    return written


def _pretrain(recipe: Recipe) -> tuple[Path, KeptTraining]:
    """Train in float, from nothing; returns the checkpoint's directory and the state kept."""
    count = recipe.plan.float_steps or recipe.float_steps
    name = f"{recipe.name}-float"
    kept = _kept(recipe, name, _command(recipe, "float", count), {})
    parameters = recipe.pretrain(count, kept)
    return _save(recipe, parameters, name, "float", count, kept), kept


def _tune(recipe: Recipe, step: str, start: Path) -> tuple[Path, KeptTraining]:
    """Fine-tune a checkpoint on chips; returns as `_pretrain`."""
    plan = recipe.plan
    count = plan.naf_steps or recipe.naf_steps
    name = recipe.name if step == "naf" else f"{recipe.name}-{step}"
    tensors = _start(recipe, start).tensors
    parameters = {name: torch.from_numpy(t.copy()).requires_grad_() for name, t in tensors.items()}
    kept = _kept(recipe, name, _command(recipe, step, count), naf.arrays(parameters))
    maker = naf.ChipMaker(
        parameters, lambda tensors: _measure(recipe, tensors, recipe.mapping), plan.library,
        recipe.mapping, plan.seed, recipe.refresh,
    )  # fmt: skip
    if step == "crossbar":
        card = replace(scaled(plan.library.device, 0.0), drift_time_s=0.0, stuck_off_rate=0.0)
        exact = replace(plan.library, device=card)
        maker.hardware.acam = acam_model(exact, recipe.mapping.spare_rows)
    recipe.tune(parameters, maker, count, kept)
    return _save(recipe, parameters, name, step, count, kept), kept


def _quantize(recipe: Recipe, ready: Path) -> Path:
    """Measure the ranges of a checkpoint again, as the mapping says; weights stay."""
    checkpoint = _start(recipe, ready)
    parameters = {name: torch.from_numpy(t) for name, t in checkpoint.tensors.items()}
    made_by = {"weights": checkpoint.extra.get("provenance")}
    return _save(recipe, parameters, recipe.name, "quantize", 0, made_by=made_by)


def _make_windows(recipe: Recipe, ready: Path, steps: list[str]) -> Path:
    """Write the ACAM windows of a checkpoint whose weights are ready."""
    plan, place = recipe.plan, recipe.plan.out / recipe.name
    inputs.note(_need(ready, f"{recipe.name} --steps float,naf"))
    if ready.resolve() != place.resolve():
        shutil.copytree(ready, place, dirs_exist_ok=True)
    rows = plan.library.technology.column.rows
    network = load_network(str(place), tile_rows=rows, data=plan.data)
    count = plan.acam_steps if "acam" in steps else 0
    words = [f"nldpe finetune {recipe.name} --steps {','.join(steps)}"]
    words += [f"--acam-steps {count}"] if count else []
    windows.make_windows(
        network, plan.library, place, command=" ".join([*words, f"--seed {plan.seed}"]),
        steps=count, seed=plan.seed, trees="trees" in steps,
    )  # fmt: skip
    return place / acam_windows.FILE


def _kept(recipe: Recipe, name: str, command: str, start: dict[str, Any]) -> KeptTraining:
    """Return where the state of a training is kept, beside the checkpoint it writes."""
    origin = {
        "command": command, "config": recipe.config, "mapping": recipe.mapping.to_dict(),
        "library": recipe.plan.library.sha256,
    }  # fmt: skip
    arrays = [recipe.training_data, *start.values()]
    return KeptTraining(recipe.plan.out / f"{name}.training", origin, arrays)


def _command(recipe: Recipe, step: str, count: int) -> str:
    """Return the command of one step; crossbar takes as many steps as naf."""
    kind = "float" if step == "float" else "naf"
    words = [f"nldpe finetune {recipe.name} --steps {step}"]
    words += [f"--{kind}-steps {count}"] if step in TRAINED else []
    words += as_options(recipe.plan.mapping)
    return " ".join([*words, f"--seed {recipe.plan.seed}"])


def _start(recipe: Recipe, place: Path) -> Checkpoint:
    """Return a checkpoint to go on from, whose tokens are those of the recipe."""
    found = load_checkpoint(_need(place, f"{recipe.name} --steps float"))
    ours, theirs = recipe.tokenizer, found.tokenizer
    if ours is not None and (theirs is None or theirs.get_vocab() != ours.get_vocab()):
        raise CheckpointError(
            f"{place} has another tokenizer than this data gives, so that its weights know other "
            "tokens; begin with --steps float on this data, or leave --data out"
        )
    return found


def _need(place: Path, words: str) -> Path:
    """Return a checkpoint's directory, or say how to make it."""
    if not place.is_dir():
        raise CheckpointError(
            f"{place} does not exist; make it first: nldpe finetune {words}; or name the folder "
            "that holds one: --start DIR"
        )
    return place


def _measure(recipe: Recipe, tensors: dict[str, Any], mapping: Mapping) -> Ranges:
    model = recipe.build(tensors)
    rows = recipe.plan.library.technology.column.rows
    return calibrate(
        model.tensors,
        lambda ops: recipe.calibration(model, ops),  # type: ignore[arg-type]
        mapping,
        rows,
    )


def _save(
    recipe: Recipe, parameters: networks.Parameters, name: str, step: str, count: int,
    kept: KeptTraining | None = None, made_by: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write a checkpoint and what it scores; returns its directory."""
    plan = recipe.plan
    tensors = {k: p.detach().numpy() for k, p in parameters.items()}
    rows = plan.library.technology.column.rows
    mapping = recipe.mapping.changed(SERVED.get(recipe.name, {}) | plan.mapping)
    provenance = {
        "command": _command(recipe, step, count),
        "seed": plan.seed,
        "step": step,
        "steps": count,
        "library_sha256": plan.library.sha256 if step in ("crossbar", "naf") else None,
        **(made_by or {}),
    }
    place = plan.out / name
    save_checkpoint(
        place,
        {**recipe.config, "mapping": mapping.to_dict(), "tile_rows": rows},
        tensors,
        analog=_measure(recipe, tensors, mapping),
        extra={"provenance": provenance},
        tokenizer=recipe.tokenizer,
    )
    losses = kept.losses if kept is not None else []
    network = load_network(str(place), tile_rows=rows, data=plan.data)
    metrics.write(network, place, plan.library, losses, samples=plan.samples, seed=plan.seed)
    windows.make_windows(
        network, plan.library, place, command=provenance["command"], seed=plan.seed
    )
    return place
