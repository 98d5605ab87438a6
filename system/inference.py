"""Runs a network in one mode over one or more programmed chips."""

from __future__ import annotations

import ctypes
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from behavioral.library import Library
from behavioral.programming import Noise
from behavioral.threads import one_blas_thread
from behavioral.variation import acam_model
from circuits.errors import ParameterError
from circuits.parameters import Device
from system.chip_store import ChipStore
from system.engine import AnalogOps, make_ops
from system.hardware import Chip
from system.models.bert import Bert
from system.models.language import LanguageModel
from system.models.ops import FloatOps, Ops
from system.networks import Network, Samples
from system.pieces import Pieces
from system.programmers import program_ahead


@dataclass(frozen=True)
class Execution:
    """How the analog modes are computed: the same bits, but for torch's order of adding up.

    Attributes
    ----------
    chips_dir : Path or None
        Folder in which programmed layers are kept, and from which they are mapped.
    stream : bool
        Map a layer for every use of it, and let it go.
    workers : int
        Processes that program the layers of a text model, into that folder.
    device : str or None
        Device of torch for layers, "cpu" or "cuda"; None: the kernels.
    """

    chips_dir: Path | None = None
    stream: bool = False
    workers: int = 1
    device: str | None = None


HERE = Execution()


@dataclass(frozen=True)
class Result:
    """What `nldpe infer` reports.

    Attributes
    ----------
    values : list of float
        The metric of each chip.
    seconds : float
        Programming the chips included.
    clipped_lookups : int
        Conversions outside the calibrated range of the data line, all chips together.
    library_sha256 : str or None
        None: mode "float" without a library.
    """

    model: str
    mode: str
    metric: str
    mean: float
    std: float
    values: list[float]
    seed: int
    chips: int
    samples: int
    library_sha256: str | None
    seconds: float
    samples_per_s: float
    conversions: int
    clipped_lookups: int
    read_noise: str
    mapping: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; the metric stands under its own name too."""
        return {**asdict(self), self.metric: {"mean": self.mean, "std": self.std}}

    def __str__(self) -> str:
        percent = self.metric != "perplexity"
        scale, unit, digits = (100.0, " %", 2) if percent else (1.0, "", 3)
        spread = f" +/- {self.std * scale:.{digits}f}" if self.chips > 1 else ""
        return (
            f"{self.model} {self.mode}: {self.metric} {self.mean * scale:.{digits}f}{spread}{unit} "
            f"({self.chips} chip{'s' * (self.chips > 1)}, {self.samples} samples, "
            f"{self.seconds:.1f} s, {self.clipped_lookups} of {self.conversions} look-ups clipped)"
        )


@dataclass(frozen=True)
class Score:
    """What one chip gives: the network's metric, look-ups and those clipped, and the time."""

    value: float
    conversions: int
    clipped: int
    seconds: float


def default_samples(network: Network) -> int:
    """Return how many images, texts or windows of text score a network if nobody says."""
    return 16 if network.metric == "perplexity" else 10_000


def arithmetic(
    network: Network,
    library: Library | None,
    mode: str,
    chip: Chip,
    acam: Device | None = None,
    execution: Execution = HERE,
) -> Ops:
    """Return the arithmetic of a mode; only "float" does without a library.

    Parameters
    ----------
    network : Network
    library : Library, or None in mode "float"
    mode : {"float", "quantized", "ideal-analog", "noisy"}
    chip : Chip
    acam : Device or None
        Card whose noise and stuck devices the ACAM units have, if not the library's.
    execution : Execution

    Raises
    ------
    ParameterError
        Unknown mode, or no library for a mode that needs one.
    """
    if mode == "float":
        return FloatOps(network.model.tensors)
    if library is None:
        raise ParameterError(f"mode {mode!r} needs a library; make one: nldpe characterize")
    ops = make_ops(network, library, mode, chip)
    if acam is not None and isinstance(ops, AnalogOps):
        ops.hardware.acam = acam_model(replace(library, device=acam), network.mapping.spare_rows)
    if isinstance(ops, AnalogOps):
        _place(ops, network, execution, library, acam)
        if execution.workers > 1 and isinstance(network.model, (LanguageModel, Bert)):
            program_ahead(ops, network.model, execution.workers)
    return ops


def _place(ops: AnalogOps, network: Network, execution: Execution, *parts: Any) -> None:
    """Say where layers are kept and computed; `parts` decide the chip too."""
    if execution.chips_dir is None and (execution.stream or execution.workers > 1):
        raise ParameterError(
            "--stream and --workers need a folder through which layers go; name it: --chips-dir DIR"
        )
    ops.stream = execution.stream
    if execution.chips_dir is not None:
        kept = (network.mapping.to_dict(), ops.chip)
        ops.store = ChipStore(execution.chips_dir, *parts, *kept)
    if execution.device is not None:
        try:
            from system.torch_linear import mover
        except ModuleNotFoundError as error:
            raise ParameterError(
                f"--device needs {error.name}; install the extra: pip install 'nldpe-cosim[train]'"
            ) from error
        ops.move = mover(execution.device)


def score_chip(
    network: Network,
    library: Library | None,
    samples: Samples,
    mode: str,
    chip: Chip,
    acam: Device | None = None,
    execution: Execution = HERE,
) -> Score:
    """Program one chip and score a network on it; arguments as in `arithmetic`."""
    start = perf_counter()
    with one_blas_thread():
        ops = arithmetic(network, library, mode, chip, acam, execution)
        value = network.score(ops, samples, f"{network.name} {mode} chip {chip.index}")
    counted = (
        (ops.counters.conversions, ops.counters.clipped) if isinstance(ops, AnalogOps) else (0, 0)
    )
    del ops
    release_memory()
    return Score(value, *counted, perf_counter() - start)


def release_memory() -> None:
    """Give what a chip took back to the system: else the next one finds it in pieces.

    The tables of a language model are a few megabytes each, which glibc keeps when they are freed:
    measured on SmolLM2, three chips in turn took 6.4 GB and one 3.7. Elsewhere nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def evaluate(
    network: Network,
    library: Library | None,
    *,
    mode: str,
    samples: int,
    chips: int = 1,
    seed: int = 0,
    read_noise: Noise = "frozen",
    execution: Execution = HERE,
    pieces: Pieces | None = None,
) -> Result:
    """Score a network; only mode "noisy" differs from chip to chip.

    Parameters
    ----------
    network : Network
    library : Library, or None in mode "float"
    mode : {"float", "quantized", "ideal-analog", "noisy"}
    samples : images, or windows of text.
    chips : chips to program; one in every mode but "noisy".
    seed : keys the draws of all chips.
    read_noise : {"frozen", "per-read"}
    execution : as in `arithmetic`.
    pieces : keeps the score of every chip until the run is whole.
    """
    chosen = network.samples(samples)
    count = chips if mode == "noisy" else 1
    start = perf_counter()

    def score(index: int) -> dict[str, Any]:
        chip = Chip(seed, index, read_noise)
        return asdict(score_chip(network, library, chosen, mode, chip, execution=execution))

    scores = [
        Score(**(pieces.take(f"chip-{k}", partial(score, k)) if pieces else score(k)))
        for k in range(count)
    ]
    seconds = perf_counter() - start
    values = [score.value for score in scores]
    return Result(
        model=network.name,
        mode=mode,
        metric=network.metric,
        mean=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if count > 1 else 0.0,
        values=values,
        seed=seed,
        chips=count,
        samples=len(chosen),
        library_sha256=library.sha256 if library else None,
        seconds=seconds,
        samples_per_s=len(chosen) * count / seconds,
        conversions=sum(score.conversions for score in scores),
        clipped_lookups=sum(score.clipped for score in scores),
        read_noise=read_noise,
        mapping=network.mapping.to_dict(),
    )
