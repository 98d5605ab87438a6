"""Networks whose weights are published: an adapter, or ACAM windows, in a directory beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

from circuits.errors import ParameterError
from system import inputs
from system.files import write_json
from system.measured_ranges import Calibration
from system.networks import is_measured, known_names, load_network, shipped
from system.training import windows
from system.training.adapters import AdapterPlan, train_adapter
from system.training.pipeline import WINDOWS
from system.training.recipes import Plan
from system.weights.adapter import is_adapter

ADAPTER_STEPS = 300


def finetune_published(model: str, steps: list[str], plan: Plan) -> list[Path]:
    """Train an adapter for a Llama (naf), make windows for it or for the network; or one of both.

    Interrupted, the same call goes on where it was; with an adapter that is finished, do so by the
    adapter's path.

    Parameters
    ----------
    model : a network's name or path.
    steps : naf, and those of `WINDOWS`.
    plan : what there is to do; `mapping` counts for an adapter, which states it from then on.

    Returns
    -------
    list of Path
        The directories written.

    Raises
    ------
    ParameterError
        Another step.
    """
    written, chosen = [], [step for step in WINDOWS if step in steps]
    if not {"naf", *WINDOWS} >= set(steps):
        raise ParameterError(
            f"{model} is trained already; give --steps naf for its adapter, acam for its ACAM"
            " windows, or naf,acam"
        )
    if "naf" in steps:
        count = plan.naf_steps or ADAPTER_STEPS
        adapter = AdapterPlan(count, seed=plan.seed, noise=plan.naf_noise)
        place = train_adapter(
            model, plan.out, plan.library, adapter, plan.mapping, plan.data, plan.samples
        )
        written, model = [place], str(place)
    if chosen:
        place = _make_windows(model, chosen, plan)
        written += [place] if place not in written else []
    return written


def _make_windows(model: str, steps: list[str], plan: Plan) -> Path:
    """Write the ACAM windows of a network; returns the directory.

    Those of an adapter stand in its directory, below `plan.out`; of any other network in NAME-acam.
    """
    source, rows = shipped().get(model, Path(model)), plan.library.technology.column.rows
    if is_adapter(source):
        inputs.note(source)
        place = plan.out / source.resolve().name
        if source.resolve() != place.resolve():
            shutil.copytree(source, place, dirs_exist_ok=True)
    else:
        place = plan.out / f"{Path(model).stem}-acam"
    network = load_network(model, tile_rows=rows, data=plan.data)
    count = plan.acam_steps if "acam" in steps else 0
    command = f"nldpe finetune {model} --steps {','.join(steps)}"
    command += f" --acam-steps {count}" * (count > 0) + f" --seed {plan.seed}"
    windows.make_windows(
        network, plan.library, place, command=command, steps=count, seed=plan.seed,
        trees="trees" in steps,
        ranges=None if is_measured(network.checkpoint, rows) else Calibration(network, rows).key,
    )  # fmt: skip
    if not is_adapter(source):
        base = model if model in known_names() else str(Path(model).resolve())
        kind = network.checkpoint.config["model_type"]
        write_json(place / "config.json", {"model_type": kind, "base": base})
        provenance = {
            "command": command, "seed": plan.seed, "step": ",".join(steps), "steps": count,
            "library_sha256": plan.library.sha256,
        }  # fmt: skip
        write_json(place / "provenance.json", provenance)
    return place
