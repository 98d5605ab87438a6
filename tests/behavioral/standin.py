"""A library without a simulator: sinh RRAM in series with a square-law (EKV) transistor."""

import dataclasses
from typing import Any

import numpy as np

from behavioral.library import Library
from circuits.acam import AcamData
from circuits.crossbar import CrossbarData
from circuits.parameters import Device, Technology
from circuits.plan import Provenance
from circuits.readout import ReadoutData
from circuits.row_transfer import RowTransferData

V_T = 0.0259


def transistor(drain, source, strength=6e-3):
    """Current of an n-channel transistor with 1 V of overdrive [A], EKV model."""
    pinch = 0.75

    def part(v):
        return np.log1p(np.exp((pinch - v) / (2 * V_T))) ** 2

    return strength * V_T**2 * (part(source) - part(drain))


def cell_current(g, v, u, v_sinh=0.4):
    """Current of RRAM and transistor in series [A], by bisection of the node between them."""
    g, v, u = np.broadcast_arrays(np.asarray(g, float), v, u)
    low, high = np.minimum(v, u).astype(float), np.maximum(v, u).astype(float)
    for _ in range(60):
        node = (low + high) / 2
        more = g * v_sinh * np.sinh((v - node) / v_sinh) > transistor(node, u)
        low, high = np.where(more, node, low), np.where(more, high, node)
    return g * v_sinh * np.sinh((v - (low + high) / 2) / v_sinh)


def fill(kind: type, **values: Any) -> Any:
    """Build a data class; fields not given become empty arrays."""
    names = [item.name for item in dataclasses.fields(kind)]
    blank = {name: np.zeros(0) for name in names}
    origin = Provenance("stand-in", {"cell": "* cell"}, "0" * 64, 1, 0)
    return kind(**{**blank, "provenance": origin, **values})


def crossbar_data(v_read: float = 0.2) -> CrossbarData:
    """Cell table, and held-out points off its grid."""
    g = np.geomspace(2e-9, 3.75e-4, 25)
    v, u = np.linspace(-v_read, v_read, 11), np.linspace(-v_read, v_read, 9)
    table = cell_current(g[:, None, None], v[:, None], u)
    off_g, off_v, off_u = np.geomspace(1e-7, 1e-4, 5), np.linspace(-0.15, 0.15, 5), np.full(5, 0.03)
    return fill(
        CrossbarData,
        g=g,
        v_row=v,
        v_bl=u,
        current=table,
        status=np.zeros(g.size, np.int8),
        held_out_g=off_g,
        held_out_v_row=off_v,
        held_out_v_bl=off_u,
        held_out_current=cell_current(off_g, off_v, off_u),
    )


def make_library(**overrides: str) -> Library:
    """Assemble the stand-in; overrides are ``--set`` values, dots written as two underscores."""
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    technology = Technology.from_toml("lp16").override(changed)
    g = np.geomspace(2e-9, 1.65e-4, 9)
    threshold = 0.5 + 0.04 * np.sqrt(g * 1e6)
    i_in = np.linspace(-1e-4, 1e-4, 5)
    gain = 500.0 * np.array([1, -1, 1 / 64, -1 / 64])
    offset = np.linspace(0, 0.06, 4)
    acam = fill(
        AcamData,
        g=g,
        lower_v=threshold,
        upper_v=threshold + 0.01,
        lower_static_v=threshold + 0.1,
        upper_static_v=threshold + 0.11,
        overlap_offset_v=offset,
        lower_overlap=np.exp(-offset / 0.01) * np.ones((9, 1)),
        upper_overlap=np.exp(-offset / 0.01) * np.ones((9, 1)),
        held_out_g=np.array([1e-6, 2e-5]),
        held_out_lower_v=0.5 + 0.04 * np.sqrt([1.0, 20.0]),
        held_out_upper_v=0.51 + 0.04 * np.sqrt([1.0, 20.0]),
    )
    readout = fill(
        ReadoutData,
        r_input_ohm=0.5,
        i_in=i_in,
        v_dl=0.77 + gain[:, None] * i_in,
        gain_v_per_a=gain,
        gain_nominal_v_per_a=gain,
        offset_v=0.77,
        bandwidth_hz=1e9,
        settle_s=1e-9,
        status=np.zeros(3, np.int8),
    )
    device = Device.from_toml("taox")
    return Library.from_tables(
        device, technology, acam=acam, crossbar=crossbar_data(), readout=readout
    )


def row_transfer(ohms: float, offset: float = 0.0) -> RowTransferData:
    """Table of a driver with some resistance, whose rest level is off by volts."""
    load, ideal = 0.0384 * np.linspace(0, 1, 33) ** 2, np.linspace(-0.2, 0.2, 65)
    row = (ideal + offset) / (1 + ohms * load[:, None])
    return fill(
        RowTransferData, load_s=load, ideal_v=ideal, row_v=row, status=np.zeros(33, np.int8)
    )


def simulated_library(**run_options: Any) -> Library:
    """Assemble the stand-in with columns and read-out as ngspice gives them."""
    from circuits import crossbar, readout

    library = make_library()
    card = library.device, library.technology
    column, stage = (kind.characterize(*card, **run_options) for kind in (crossbar, readout))
    return dataclasses.replace(library, crossbar=column, readout=stage)


def driven_library(ohms: float, offset: float = 0.0) -> Library:
    """Assemble the stand-in with such row drivers."""
    ideal = make_library()
    technology = ideal.technology.override({"driver.circuit": "string"})
    return dataclasses.replace(
        ideal, technology=technology, row_transfer=row_transfer(ohms, offset)
    )
