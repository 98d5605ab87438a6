"""Published claims beside what this model gives, and what differs. Nothing is tuned to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from system.cost.baselines import IsaacLike, adc_area, adc_energy
from system.cost.chip import Placement
from system.cost.study import Study

CHIPS = {"llama-3.2-1b": (3, 18), "llama-3.2-3b": (8, 35)}  # chips, link share [%]
FLASH_NODE_M, FLASH_RATE_HZ = 16e-9, 1e9


@dataclass(frozen=True)
class Claim:
    """One published figure, ours, and what differs."""

    what: str
    published: str
    ours: str
    differs: str


def claims(study: Study) -> list[Claim]:
    """Return all claims that the study has a figure for."""
    return [*_acam(study), _core(study), *_ratios(study), *_links(study), _isaac(study)]


def _acam(study: Study) -> list[Claim]:
    found = list(study.figures.layers.values())
    search = float(np.mean([f.search_j for f in found]))
    # the cell and its match lines, without what senses them
    bare = float(np.mean([sum(f.parts_j[:2]) if f.parts_j else f.search_j for f in found]))
    cell = bare / float(np.mean([f.rows for f in found]))
    content = "the whole unit" if study.figures.unit else "without sense amplifiers"
    part = study.machine.components["acam"]
    area = part["cells"] * part["area_m2_per_cell"]
    adc = adc_energy(8, FLASH_NODE_M, FLASH_RATE_HZ), adc_area(8, FLASH_NODE_M, FLASH_RATE_HZ)
    technology = study.machine.library.technology.name
    return [
        Claim(
            "ACAM cell, energy of a search",
            "0.44 fJ (16 nm)",
            f"{cell * 1e15:.2f} fJ (SPICE, {technology})",
            "ours holds two match lines per row that are precharged after each search, and the "
            "dividers' current over the whole cycle; the paper's bench is not published",
        ),
        Claim(
            "ACAM unit, energy of a conversion",
            "0.170 pJ (third party, 22 nm)",
            f"{search * 1e12:.2f} pJ (SPICE, {technology}, {content})",
            "third-party figure, unconfirmed; its content (OR, sense amplifiers) is not stated",
        ),
        Claim(
            "ACAM unit against 8-bit ADC + FlexSFU, power",
            "98 % less (16 nm)",
            f"{search / adc[0]:.2f} times the {adc[0] * 1e12:.2f} pJ of the ADC alone",
            "ours: ADC of the published regression at 16 nm and 1 GS/s, the survey's better "
            "designs, without FlexSFU; the paper's ADC and FlexSFU figures are not known to us",
        ),
        Claim(
            "ACAM unit against 8-bit ADC + FlexSFU, area",
            "86 x smaller (16 nm)",
            f"{adc[1] / area:.0f} x smaller than {adc[1] * 1e12:.0f} um2",
            "the same; ACAM area is the published cell times its cells, without sense amplifiers",
        ),
    ]


def _core(study: Study) -> Claim:
    """Energy of one full core for one vector, in the mean over the measured layers."""
    machine, chip = study.machine, study.machine.chip
    found = list(study.figures.layers.values())
    driver = chip.row_driver
    read = float(np.mean([machine.read_time(f, driver) for f in found]))
    cells = float(np.mean([f.cell_power_w for f in found])) * chip.rows * chip.columns * read
    acam = chip.columns * chip.copies * float(np.mean([f.search_j + f.fine_j for f in found]))
    dac = chip.rows * (driver.conversion_j + driver.power_w * read)
    amplifiers = chip.columns * machine.amplifier_power(chip.line_count, chip.ranges) * read
    measured = machine.origin["amplifier"] == "SPICE"
    ours = "measured" if measured else "an estimate for the amplifiers of the technology file"
    rows = "8-bit DACs (40 nm)" if chip.driver is None else "row drivers (SPICE)"
    operations = 2e-12 * chip.rows * chip.columns
    core = cells + acam + dac
    return Claim(
        f"one {chip.rows} x {chip.columns} product of a core, all rows and columns in use",
        "75 pJ, 1,747 TOPS/W (256 x 256, third party, 22 nm)",
        f"{core * 1e12:.0f} pJ, {operations / core:.0f} TOPS/W: cells {cells * 1e12:.1f}, "
        f"ACAM {acam * 1e12:.0f}, {rows} {dac * 1e12:.0f}; read-out amplifiers "
        f"{amplifiers * 1e12:.0f} pJ more, then {operations / (core + amplifiers):.0f} TOPS/W",
        f"{rows} where the third party has 8 one-bit steps; the papers have no figure "
        f"for a read-out stage, ours is {ours}",
    )


def _ratios(study: Study) -> list[Claim]:
    ours, gpu = study.ours[0], study.gpu[0]
    others = study.others[0]
    energies = ", ".join(f"{o.energy_j / ours.energy_j:.1f} x ({o.machine})" for o in others)
    speeds = ", ".join(f"{o.time_s / ours.time_s:.1f} x ({o.machine})" for o in others)
    what = f"one {ours.what}, batch {ours.batch}"
    roofline = "ours against a roofline that reaches the H100's peaks at full power, not against "
    return [
        Claim(
            f"energy against GPU, {what}",
            "28 x (H100, batch 1; Llama: about 100 x)",
            f"{gpu['energy_j'] / ours.energy_j:.1f} x",
            roofline + "a measured GPU; another network",
        ),
        Claim(
            f"speed against GPU, {what}",
            "112 x (batch 1), 249 x (large batch, BERT; Llama: about 100 x)",
            f"{gpu['time_s'] / ours.time_s:.3g} x",
            roofline + "a measured GPU, whose kernels and transfers dominate small batches",
        ),
        Claim(
            f"energy against existing in-memory accelerators, {what}",
            "22 x",
            energies,
            "other networks, baselines without idle power; ours counts amplifiers, DACs, buffers",
        ),
        Claim(
            f"speed against existing in-memory accelerators, {what}",
            "245 x",
            speeds,
            "other networks; only ours replicates layers (--replicate); on the baselines products "
            "of activations and links take no time here",
        ),
    ]


def _links(study: Study) -> list[Claim]:
    if study.model not in CHIPS:
        return []
    chips, share = CHIPS[study.model]
    ours = study.ours[0]
    layers = study.workloads[0].layers
    chip = study.machine.chip
    static = [x for x in layers if x.kind == "linear" and x.name != "lm_head"]
    alone = Placement.in_order(chip, static, [1] * len(static))
    link, total = ours.energies["link"], ours.energy_j
    bare = total - ours.energies["amplifier"]
    return [
        Claim(
            "chips",
            str(chips),
            f"{ours.chips}; {alone.chips} without output projection and product cores",
            f"{chip.cores} cores per chip is RAELLA's tile count; the paper's is not published",
        ),
        Claim(
            "share of the links in the energy of a token",
            f"{share} %",
            f"{100 * link / total:.2g} % ({100 * link / bare:.2g} % without read-out amplifiers)",
            "ours sends one residual vector per cut; the paper's total energy and traffic are "
            "unknown",
        ),
    ]


def _isaac(study: Study) -> Claim:
    isaac = IsaacLike(study.machine.components)
    return Claim(
        "ISAAC's chip at full speed, from its table of components",
        "65.8 W, 85.4 mm2",
        f"{isaac.chip_power():.1f} W, {isaac.chip_area() * 1e6:.1f} mm2",
        "nothing: a check of the hierarchy",
    )
