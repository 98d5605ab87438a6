"""The read-out: transimpedance stages of four bit lines and the stage that sums them.

The bit lines are p and n (main pair) and pe and ne (error pair, divided by ``error_scale``).
Ideally ``v_dl = v_mid + s R_f ((I_p - I_n) + (I_pe - I_ne) / k)``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import amplifier, plan
from circuits.amplifier import AmplifierData
from circuits.netlist import number
from circuits.parameters import Device, Technology
from circuits.plan import Job, Provenance, RunLog
from circuits.readout_bench import LINES, crossing, gbw_hz, readout_job, settling, step_job

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReadoutData(AmplifierData):
    """Characterised read-out; also the attributes of ``AmplifierData``.

    Attributes
    ----------
    r_input_ohm : float
        Static input resistance of a transimpedance stage: rise of the bit line per current.
    i_in : (n,) float array [A]
        Test currents of the transfer sweep.
    v_dl : (4, n) float array [V]
        Data line for each of the lines p, n, pe, ne driven alone; pe and ne with k ``i_in`` when
        the amplifier is the model.
    gain_v_per_a : (4,) float array [V/A]
        Slopes of these; nominal values in ``gain_nominal_v_per_a``.
    gain_nominal_v_per_a : (4,) float array [V/A]
        What ideal amplifiers would give.
    offset_v : float
        Data line at zero currents [V].
    bandwidth_hz : float
        Where the transfer from p falls by 3 dB, bit line unloaded.
    settle_s : float
        From a full-scale step of the p current until the data line stays within half an LSB.
    status : (3,) int8 array
        Of transfer, bandwidth, settling: 0 ok, 1 ok after a retry, 2 failed (then NaN).
    provenance : Provenance
    """

    r_input_ohm: float
    i_in: Floats
    v_dl: Floats
    gain_v_per_a: Floats
    gain_nominal_v_per_a: Floats
    offset_v: float
    bandwidth_hz: float
    settle_s: float
    status: NDArray[np.int8]
    provenance: Provenance


def characterize(
    device: Device,
    technology: Technology,
    *,
    quick: bool = False,
    checks: bool = True,
    samples: int = 0,
    **run_options: Any,
) -> ReadoutData:
    """Measure transfer, input resistance, bandwidth and settling of the read-out in ngspice.

    ``device``, ``quick`` and ``checks`` are there for the common interface; the read-out needs none
    of them. ``samples``: transistor-level amplifiers of a mismatch Monte-Carlo.
    """
    del device, quick, checks
    readout = technology.readout
    points = 9
    full = readout.i_full_scale_a / 2
    # A transistor takes no k-fold current: its error lines are swept like the main ones.
    k_error = readout.error_scale if readout.amplifier == "model" else 1.0
    scale = np.array([1.0, 1.0, k_error, k_error])
    jobs = [
        _transfer_job(technology, line, full * k, points)
        for line, k in zip(LINES, scale, strict=True)
    ]
    jobs += [_bandwidth_job(technology), step_job(technology)]
    log = RunLog()
    results = plan.run(jobs, **run_options)
    log.add(jobs, results)
    *transfers, ac, step = results
    share = np.linspace(-1, 1, points)
    v_dl = np.full((4, points), np.nan)
    r_input = np.nan
    for line, result in enumerate(transfers):
        if result.status < 2:
            v_dl[line] = result.vectors["v(dl)"]
            if line == 0:
                v_in = result.vectors["v(p)"]
                r_input = float((v_in[-1] - v_in[0]) / (2 * full))
    gain = (v_dl[:, -1] - v_dl[:, 0]) / (2 * full * scale)
    nominal = (readout.v_dl_hi_v - readout.v_dl_lo_v) / readout.i_full_scale_a
    worst = max(result.status for result in transfers)
    return ReadoutData(
        r_input_ohm=r_input,
        i_in=share * full,
        v_dl=v_dl,
        gain_v_per_a=gain,
        gain_nominal_v_per_a=nominal
        * np.array([1, -1, 1 / readout.error_scale, -1 / readout.error_scale]),
        offset_v=float(v_dl[0, points // 2]),
        bandwidth_hz=_bandwidth(ac.vectors) if ac.status < 2 else np.nan,
        settle_s=settling(step),
        **amplifier.measure(technology, log, samples=samples, **run_options),
        status=np.array([worst, ac.status, step.status], dtype=np.int8),
        provenance=log.provenance(),
    )


def _transfer_job(technology: Technology, line: str, full: float, points: int) -> Job:
    step = 2 * full / (points - 1)
    sweep = f".dc i{line} {number(-full)} {number(full + step * 1e-3)} {number(step)}"
    return readout_job(technology, f"readout-{line}", {}, sweep, "v(dl)", f"v({line})")


def _bandwidth_job(technology: Technology) -> Job:
    top = gbw_hz(technology)
    sweep = f".ac dec 100 {number(top / 1e4)} {number(top * 10)}"
    drive = {"p": "dc 0 ac 1"}
    return readout_job(technology, "readout-ac", drive, sweep, "frequency", "v(dl)")


def _bandwidth(vectors: dict[str, NDArray[Any]]) -> float:
    size = np.abs(vectors["v(dl)"])
    found = crossing(np.real(vectors["frequency"]), size, size[0] / np.sqrt(2))
    return np.inf if np.isnan(found) else found
