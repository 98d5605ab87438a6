"""Windows of a checkpoint's ACAM units: exact, from trees, or tuned for the noise of their cells.

Every step of tuning programs some columns afresh and moves the bounds against the gradient of the
mean squared error of the codes; where codes of units in parallel are added, of their mean. As
published (NL-DPE, arXiv 2511.13950, and the released code), each function is tuned alone, against
its own quantised values, and the best state is kept, if it is better than the exact windows on
other columns too. Ours: the columns of a layer share their windows but not where those lie on the
line, so columns are drawn at random; half the inputs are uniform, half as calibration saw them.
"""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.acam import AcamModel
from behavioral.library import Library
from behavioral.variation import acam_model
from circuits.errors import CheckpointError
from system.networks import Network
from system.training.acam import derivative
from system.training.functions import Problem, problems
from system.training.pretraining import cosine
from system.training.trees import fit_windows
from system.weights import acam_windows, adapter
from system.weights.acam_windows import TunedWindows

log = logging.getLogger(__name__)

Float = NDArray[np.float64]
Bounds = list[Float]  # (2, rows) of each set of windows of a problem

STEPS = 100
RATE = 0.15  # codes a step; less of windows that err by less than a code
UNITS, LEAST_COLUMNS = 32, 4  # of one step: units programmed; columns where many are in parallel
CHECKED, SAMPLES = 64, 4096  # columns programmed to compare states, inputs of each
EVERY = 25  # steps between comparisons
KEPT = 10  # functions between two writings of those that are ready
PARTIAL = ".acam.training"  # beside the checkpoint, after its name
# Random streams: of inputs, of training, of the comparison of states, of the error at the end.
_INPUTS, _TRAINING, _CHOICE, _END = range(4)


def error(problem: Problem, bounds: Bounds, model: AcamModel, seed: tuple[int, ...]) -> float:
    """Return the rms error [codes] of windows on freshly programmed columns."""
    rng = np.random.default_rng((*seed, 1))
    chosen = problem.columns(rng, CHECKED)
    u, line = problem.inputs(rng, chosen, SAMPLES), problem.ends(chosen)
    total = np.zeros(u.shape)
    for i, (place, own) in enumerate(zip(problem.placements, bounds, strict=True)):
        lo, hi = (own[:, None] - line[0][:, None]) / (line[1] - line[0])[:, None]
        unit = model.program(
            lo, hi, place.windows.bit, place.windows.bits, seed=(*seed, i) if i else seed,
            columns=CHECKED, levels=problem.levels, copies=problem.repeat,
        )  # fmt: skip
        if problem.levels is None:
            total += model.convert(unit, u.T)[0].T
        else:
            level = np.rint(u * (problem.levels - 1)).astype(np.int64)
            total += np.take_along_axis(unit.table, level, axis=1)
    mean = total / (len(bounds) * problem.repeat)
    return float(np.sqrt(np.mean((mean - problem.codes(line, u)) ** 2)))


def tune(
    problem: Problem, model: AcamModel, *, steps: int = STEPS, seed: tuple[int, ...] = (1234,),
    rate: float = RATE,
) -> dict[str, TunedWindows]:  # fmt: skip
    """Move the bounds of windows to where noisy cells make the smallest error.

    Parameters
    ----------
    problem : Problem
    model : AcamModel
        Its device's noise is what the windows are tuned for.
    steps : of Adam
    rate : of its shifts in codes, for windows that err by one code
    seed : of inputs and draws

    Returns
    -------
    dict
        Windows by key; the exact ones where these make no larger error.
    """
    exact = [place.windows for place in problem.placements]
    start = [np.stack([one.lo, one.hi]) for one in exact]
    code = [float(np.ptp(one.x_range)) / (2**one.bits - 1) for one in exact]
    shifts = [torch.zeros((2, one.rows), dtype=torch.float64) for one in exact]
    optimizer = torch.optim.Adam(shifts, lr=rate)
    rng = np.random.default_rng((*seed, _INPUTS))
    columns = max(LEAST_COLUMNS, UNITS // (len(exact) * problem.repeat))

    kept = start
    best = first = error(problem, start, model, (*seed, _CHOICE)) if steps else 0.0
    bar = tqdm(range(steps), desc=problem.name, disable=None, mininterval=1.0, leave=False)
    for step in bar:
        optimizer.param_groups[0]["lr"] = rate * min(first, 1.0) * cosine(step, steps, warm_up=1)
        moved = [s + c * shift.numpy() for s, c, shift in zip(start, code, shifts, strict=True)]
        chosen = problem.columns(rng, columns)
        slopes = derivative(problem, moved, chosen, model, (*seed, _TRAINING, step))
        for shift, c, slope in zip(shifts, code, slopes, strict=True):
            shift.grad = torch.from_numpy(c * slope)
        optimizer.step()
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            moved = [s + c * shift.numpy() for s, c, shift in zip(start, code, shifts, strict=True)]
            now = error(problem, moved, model, (*seed, _CHOICE))
            bar.set_postfix(rms=f"{now:.3f}", before=f"{first:.3f}")
            if now < best:
                best, kept = now, moved
    before = error(problem, start, model, (*seed, _END))
    after = before if kept is start else error(problem, kept, model, (*seed, _END))
    if after >= before:
        after, kept = before, start
    return {
        place.key: TunedWindows(own[0], own[1], one.bit, one.x_range, one.y_range, before, after)
        for place, one, own in zip(problem.placements, exact, kept, strict=True)
    }


def of_trees(problem: Problem) -> Problem:
    """Return a problem whose windows are those of decision trees, if these have the same rows.

    Those of DAC levels are: their bounds lie midway between levels.
    """
    if problem.levels is not None:
        return problem
    (place,), (function,) = problem.placements, problem.functions
    exact = place.windows
    found = fit_windows(function, exact.x_range, exact.y_range, bits=exact.bits, gray=exact.gray)
    if not np.array_equal(found.bit, exact.bit):
        log.warning(
            "%s: trees have %d rows, exact windows %d; the exact ones are taken.",
            place.key, found.rows, exact.rows,
        )  # fmt: skip
        return problem
    return replace(problem, placements=(replace(place, windows=found),))


def make_windows(
    network: Network, library: Library, folder: Path, *, command: str, steps: int = 0, seed: int,
    trees: bool = False, ranges: str | None = None,
) -> dict[str, TunedWindows]:  # fmt: skip
    """Make all windows of a checkpoint and write its acam.h5; goes on where it was stopped.

    Windows that are ready are kept in a file of their own until all are.

    Parameters
    ----------
    network : loaded from the folder
    library : the characterised circuits whose noise counts
    folder : the checkpoint's directory; made if it is not there
    command : that makes them
    steps, seed : of each set of windows; no steps: they stay as trees or the function give them
    trees : start from windows of decision trees in place of exact ones
    ranges : sha256 that names the network's ranges, if they are not in the folder
    """
    step = ",".join(["trees"] * trees + ["acam"] * (steps > 0)) or "exact"
    origin = {
        "command": command, "step": step, "steps": steps, "seed": seed,
        "library_sha256": library.sha256, "mapping": network.mapping.to_dict(), "ranges": ranges,
        "weights_sha256": _weights_sha256(folder),
    }  # fmt: skip
    partial = folder.with_name(folder.name + PARTIAL)
    done = _resumed(partial, json.loads(json.dumps(origin)))
    model = _cells(network, library)
    for problem in problems(network, library.technology.column.rows):
        if all(place.key in done for place in problem.placements):
            continue
        part = (seed, zlib.crc32(problem.name.encode()))
        found = tune(of_trees(problem) if trees else problem, model, steps=steps, seed=part)
        if trees:  # compared with exact windows too
            windows = [np.stack([p.windows.lo, p.windows.hi]) for p in problem.placements]
            exact = error(problem, windows, model, (*part, _END))
            found = {key: replace(one, error_before=exact) for key, one in found.items()}
        done |= found
        one = next(iter(found.values()))
        log.info("%s: rms %.3f -> %.3f codes", problem.name, one.error_before, one.error_after)
        if len(done) % KEPT == 0:
            acam_windows.write_windows(partial, done, origin)
    folder.mkdir(parents=True, exist_ok=True)
    acam_windows.write_windows(folder / acam_windows.FILE, done, origin)
    partial.unlink(missing_ok=True)
    return done


def _cells(network: Network, library: Library) -> AcamModel:
    """Return the cells whose noise counts; none is stuck where spare rows stand in for them."""
    spared = network.mapping.spare_rows > 0
    card = replace(library.device, stuck_off_rate=0.0) if spared else library.device
    return acam_model(replace(library, device=card), 0)


def _weights_sha256(folder: Path) -> str | None:
    """Return the sha256 of a directory's weights; None if it has none of its own."""
    for name in ("model.safetensors", adapter.WEIGHTS):
        if (folder / name).exists():
            return sha256((folder / name).read_bytes()).hexdigest()
    return None


def _resumed(partial: Path, origin: dict[str, Any]) -> dict[str, TunedWindows]:
    """Return what an interrupted run left, if it was the same one."""
    if not partial.exists():
        return {}
    try:
        found, made_by = acam_windows.read_windows(partial)
    except CheckpointError as problem:
        log.warning("%s; its windows are tuned again.", problem)
        return {}
    return found if made_by == origin else {}
