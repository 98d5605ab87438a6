"""Windows of a checkpoint's ACAM units: exact, from trees, or tuned for the noise of their cells.

Every step of tuning programs some columns afresh and moves the bounds against the gradient of the
mean squared error of the codes. As published (NL-DPE, arXiv 2511.13950, and the released code),
each function is tuned alone, against its own quantised values, and the best state is kept. Ours:
the columns of a layer share their windows but not where those lie on the line, so columns are drawn
at random; half the inputs are uniform, half as calibration saw them.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.acam import AcamModel
from behavioral.library import Library
from behavioral.windows import Function
from circuits.errors import CheckpointError
from system import evaluation
from system.calibration import Ranges
from system.engine import QuantizedOps
from system.hardware import Hardware
from system.layer_spec import FUNCTIONS, IDENTITY, LayerSpec, Placement
from system.models.language import LanguageModel
from system.networks import Network
from system.quantization import Mapping
from system.training import acam
from system.training.pretraining import cosine
from system.training.trees import fit_windows
from system.weights import acam_windows
from system.weights.acam_windows import TunedWindows

log = logging.getLogger(__name__)

Float = NDArray[np.float64]

STEPS = 300
RATE = 0.1  # codes a step
COLUMNS, SAMPLES = 8, 512  # of one step: columns programmed, inputs of each
CHECKED = 64  # columns programmed to compare states
EVERY = 50  # steps between comparisons
PARTIAL = ".acam.training"  # beside the checkpoint, after its name
# Random streams: of inputs, of training, of the comparison of states, of the error at the end.
_INPUTS, _TRAINING, _CHOICE, _END = range(4)


@dataclass(frozen=True)
class Problem:
    """Windows to tune, and what their columns convert.

    Attributes
    ----------
    placement : exact windows on the data lines of their columns
    function : of the activation
    start : position on the line at which the codes begin
    mean, std : (n,) of each column's inputs, in u; None: uniform inputs only
    """

    placement: Placement
    function: Function
    start: float
    mean: Float | None = None
    std: Float | None = None

    def draw(self, rng: np.random.Generator, columns: int, samples: int) -> tuple[Float, Float]:
        """Return the line's ends (2, columns) of columns drawn at random, and inputs u for each."""
        place = self.placement
        chosen = rng.integers(0, len(place.low), columns)
        u = self.start + (1.0 - self.start) * rng.random((columns, samples))
        if self.mean is not None and self.std is not None:
            used = rng.normal(self.mean[chosen, None], self.std[chosen, None], u.shape)
            u[:, ::2] = np.clip(used[:, ::2], 0.0, 1.0)
        return np.stack([place.low[chosen], place.high[chosen]]).astype(np.float64), u

    def codes(self, ends: Float, u: Float) -> Float:
        """Return the codes of the quantised function at inputs u of columns with these ends."""
        windows = self.placement.windows
        z = np.clip(ends[0, :, None] + u * np.ptp(ends, axis=0)[:, None], *windows.x_range)
        low, high = windows.y_range
        top = 2**windows.bits - 1
        codes = np.floor((self.function(z) - low) / (high - low) * top + 0.5)
        return np.asarray(np.clip(codes, 0, top))


def error(problem: Problem, bounds: Float, model: AcamModel, seed: tuple[int, ...]) -> float:
    """Return the rms error [codes] of windows (2, rows) on freshly programmed columns."""
    windows = problem.placement.windows
    ends, u = problem.draw(np.random.default_rng((*seed, 1)), CHECKED, 8 * SAMPLES)
    lo, hi = _on_line(bounds, ends)
    unit = model.program(lo, hi, windows.bit, windows.bits, seed=seed, columns=CHECKED)
    codes, _ = model.convert(unit, u.T)
    return float(np.sqrt(np.mean((codes.T - problem.codes(ends, u)) ** 2)))


def _tensor(values: Float) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _on_line(bounds: Any, ends: Any) -> tuple[Any, Any]:
    """Return lo and hi (columns, rows) in u for bounds (2, rows) and lines' ends (2, columns)."""
    low, span = ends[0][:, None], (ends[1] - ends[0])[:, None]
    return (bounds[0] - low) / span, (bounds[1] - low) / span


def tune(
    problem: Problem, model: AcamModel, *, steps: int = STEPS, seed: tuple[int, ...] = (1234,),
    rate: float = RATE, label: str = "acam",
) -> TunedWindows:  # fmt: skip
    """Move the bounds of windows to where noisy cells make the smallest error.

    Parameters
    ----------
    problem : Problem
    model : AcamModel
        Its device's noise is what the windows are tuned for.
    steps, rate : of Adam, on shifts in codes
    seed : of inputs and draws
    label : of the progress bar
    """
    exact = problem.placement.windows
    code = (exact.x_range[1] - exact.x_range[0]) / (2**exact.bits - 1)
    shift = torch.zeros((2, exact.rows), requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=rate)
    rng = np.random.default_rng((*seed, _INPUTS))

    start = kept = np.stack([exact.lo, exact.hi])
    best = first = error(problem, start, model, (*seed, _CHOICE)) if steps else 0.0
    bar = tqdm(range(steps), desc=label, disable=None, mininterval=1.0, leave=False)
    for step in bar:
        optimizer.param_groups[0]["lr"] = rate * cosine(step, steps, warm_up=1)
        ends, u = problem.draw(rng, COLUMNS, SAMPLES)
        wanted = _on_line(_tensor(start) + code * shift, _tensor(ends))
        actual = acam.program(*wanted, exact.bit, model, seed=(*seed, _TRAINING, step))
        found = acam.search(_tensor(u), *actual, exact.bit, exact.bits)
        loss = torch.mean((found - _tensor(problem.codes(ends, u))) ** 2)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            moved = start + code * shift.detach().numpy()
            now = error(problem, moved, model, (*seed, _CHOICE))
            bar.set_postfix(rms=f"{now:.3f}", before=f"{first:.3f}")
            if now < best:
                best, kept = now, moved
    before = error(problem, start, model, (*seed, _END))
    after = before if kept is start else error(problem, kept, model, (*seed, _END))
    return TunedWindows(kept[0], kept[1], exact.bit, exact.x_range, exact.y_range, before, after)


def problems(network: Network, tile_rows: int) -> Iterator[Problem]:
    """Yield the windows of a network's layers, exact, with what their columns convert."""
    ranges = {k: v for k, v in network.ranges.items() if not acam_windows.is_windows(k)}
    ops = QuantizedOps(network.model.tensors, ranges, network.mapping, tile_rows)
    _visit(network, ops)
    seen = set()
    for name, layer in ops.layers.items():
        spec = layer.spec
        for place in _placements(spec, network.mapping.of(name)):
            if place.key in seen:
                continue
            seen.add(place.key)
            if place.key == IDENTITY:
                yield Problem(place, FUNCTIONS[None], spec.start)
            else:
                moments = _moments(place, spec, ranges)
                yield Problem(place, FUNCTIONS[spec.activation], spec.start, *moments)


def _visit(network: Network, ops: QuantizedOps) -> None:
    """Run one input, so that every layer is met."""
    inputs = network.calibration_inputs()[:1]
    if isinstance(network.model, LanguageModel):
        network.model.forward(inputs[:, :2], ops)
    else:
        evaluation.outputs(network.model, ops, inputs)


def _placements(spec: LayerSpec, mapping: Mapping) -> list[Placement]:
    """Return the windows of a layer's units; those of a second read-out range stay exact."""
    bits = mapping.output_bits
    by_tile = mapping.partial_sums == "digital" and len(spec.tile_lo) > 1
    if spec.activation is None and (mapping.output_range == "column" or by_tile):
        return [spec.identity(bits)]
    own = spec.placements(bits)
    return [spec.identity(bits), *own] if by_tile else own


def _moments(
    place: Placement, spec: LayerSpec, ranges: Ranges
) -> tuple[Float | None, Float | None]:
    """Return mean and deviation of the inputs of each column, in u."""
    mean, std = (ranges.get(f"{spec.name}.{key}") for key in ("mean", "std"))
    if mean is None or std is None:
        return None, None
    span = (place.high - place.low).astype(np.float64)
    center = mean[place.columns] + spec.bias[place.columns]
    return (center - place.low) / span, std[place.columns] / span


def of_trees(problem: Problem) -> Problem:
    """Return a problem whose windows are those of decision trees, if these have the same rows."""
    exact = problem.placement.windows
    found = fit_windows(
        problem.function, exact.x_range, exact.y_range, bits=exact.bits, gray=exact.gray
    )
    if not np.array_equal(found.bit, exact.bit):
        log.warning(
            "%s: trees have %d rows, exact windows %d; the exact ones are taken.",
            problem.placement.key, found.rows, exact.rows,
        )  # fmt: skip
        return problem
    return replace(problem, placement=replace(problem.placement, windows=found))


def make_windows(
    network: Network, library: Library, folder: Path, *, command: str, steps: int = 0, seed: int,
    trees: bool = False,
) -> dict[str, TunedWindows]:  # fmt: skip
    """Make all windows of a checkpoint and write its acam.h5; goes on where it was stopped.

    Windows that are ready are kept in a file of their own until all are.

    Parameters
    ----------
    network : loaded from the folder
    library : the characterised circuits whose noise counts
    folder : the checkpoint's directory
    command : that makes them
    steps, seed : of each set of windows; no steps: they stay as trees or the function give them
    trees : start from windows of decision trees in place of exact ones
    """
    step = ",".join(["trees"] * trees + ["acam"] * (steps > 0)) or "exact"
    origin = {
        "command": command, "step": step, "steps": steps, "seed": seed,
        "library_sha256": library.sha256,
        "weights_sha256": sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "mapping": network.mapping.to_dict(),
    }  # fmt: skip
    partial = folder.with_name(folder.name + PARTIAL)
    done = _resumed(partial, json.loads(json.dumps(origin)))
    model = Hardware(library, network.mapping).acam
    for problem in problems(network, library.technology.column.rows):
        key = problem.placement.key
        if key in done:
            continue
        part = (seed, zlib.crc32(key.encode()))
        start = of_trees(problem) if trees else problem
        found = tune(start, model, steps=steps, seed=part, label=key)
        if trees:  # compared with exact windows too
            windows = problem.placement.windows
            exact = error(problem, np.stack([windows.lo, windows.hi]), model, (*part, _END))
            found = replace(found, error_before=exact)
        done[key] = found
        log.info("%s: rms %.3f -> %.3f codes", key, found.error_before, found.error_after)
        acam_windows.write_windows(partial, done, origin)
    acam_windows.write_windows(folder / acam_windows.FILE, done, origin)
    partial.unlink(missing_ok=True)
    return done


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
