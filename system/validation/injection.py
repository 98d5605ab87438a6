"""Measured errors put into the network: what ngspice would have changed, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit
from behavioral.products import ProductModel
from system.conversion import Conversion
from system.engine import AnalogOps, layer_tensors
from system.linear import AnalogLinear
from system.models.ops import Activation, Array
from system.quantization import Float
from system.validation.agreement import LayerReport
from system.validation.products import KINDS
from system.validation.replay import ColumnErrors, lsb
from system.validation.sampling import layer_generator, use_cells


class Confusions:
    """Code differences of one kind of unit, with the weights that they have in the inference."""

    def __init__(self, report: LayerReport, *, fine: bool | None = None, unit: str | None = None):
        differences, weights = report.confusions(fine, unit)
        self.differences, self.weights = differences[differences != 0], weights[differences != 0]

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Draw what ngspice's codes of one unit exceed ours by, or None where no code differed."""
        total = float(self.weights.sum())
        if total == 0.0:
            return None
        out = np.zeros(shape, np.int64)
        hit = rng.random(shape, np.float32) < total
        out[hit] = -rng.choice(self.differences, size=int(hit.sum()), p=self.weights / total)
        return out


class Measured:
    """Errors of one layer, ready to be drawn from.

    Column errors: every column of the network takes the natural stimuli's errors of one replayed
    column, drawn at random; every product then one of these errors. So a column's constant error
    stays constant. Left out are extremes, which were sought, and outputs beyond the data line,
    whose error changes nothing. Codes: `wrong` of the first (False) and second read-out range.
    """

    def __init__(self, report: LayerReport):
        pools = [pool for c in report.columns for pool in _pools(c)]
        self.errors = np.concatenate(pools).astype(np.float32)
        self.size = np.array([len(p) for p in pools], np.int64)
        self.start = np.cumsum(self.size) - self.size
        self.wrong = {fine: Confusions(report, fine=fine) for fine in (False, True)}

    def columns(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the replayed column (count,) whose errors each column takes."""
        return rng.integers(len(self.size), size=count)

    def draw(self, columns: NDArray[np.int64], samples: int, rng: np.random.Generator) -> Array:
        """Draw errors (samples, columns) [LSB]."""
        size = self.size[columns].astype(np.float32)
        place = rng.random((samples, len(columns)), np.float32) * size
        # float32 may round up to the size itself
        place = np.minimum(place.astype(np.int64), self.size[columns] - 1)
        return self.errors[self.start[columns] + place]


def _pools(replayed: ColumnErrors) -> list[NDArray[np.float64]]:
    """Return the errors to draw from, column by column; all natural ones if none is on the line."""
    errors = replayed.errors[: replayed.stimuli.natural]
    used = replayed.on_line[: replayed.stimuli.natural]
    return [e[on] if on.any() else e for e, on in zip(errors.T, used.T, strict=True)]


class InjectedLinear(AnalogLinear):
    """A layer whose products and codes get measured errors while an injection is on."""

    threads = 1  # blocks draw from one generator, in turn
    together = False
    measured: Measured | None = None
    rng: np.random.Generator
    columns: list[NDArray[np.int64]]

    def inject(self, measured: Measured | None, rng: np.random.Generator) -> None:
        """Begin an injection (None: end it); draws which replayed column each column follows."""
        self.measured, self.rng = measured, rng
        if measured is not None:
            count = len(self.spec.gain)
            self.columns = [measured.columns(count, rng) for _ in self.tiles]

    def _read(self, driven: Float, tile: int, columns: slice, first: int, out: Float) -> None:
        super()._read(driven, tile, columns, first, out)
        if self.measured is not None:
            followed = self.columns[tile][columns]
            out -= self.measured.draw(followed, len(out), self.rng) * lsb(self)[columns]

    def _convert(self, conversion: Conversion, y: Float, columns: slice, first: int) -> int:
        clipped = super()._convert(conversion, y, columns, first)
        if self.measured is None:
            return clipped
        bottom, top = (end[columns] for end in conversion.values)
        step = (top - bottom) / np.float32(conversion.unit.top)  # of the sum of all copies' codes
        fine = conversion.unit is self.fine_unit
        for _ in range(conversion.unit.copies):
            extra = self.measured.wrong[fine].draw(y.shape, self.rng)
            if extra is not None:
                y[:] = np.clip(y + extra * step, bottom, top)
        return clipped


class ConfusedModel(AcamModel):
    """The cell model; `confuse` may change the table of each unit while it is set."""

    confuse: Callable[[AcamUnit], None] | None = None

    def program(self, *args: Any, **options: Any) -> AcamUnit:
        """Program a unit, and let its codes be confused."""
        unit = super().program(*args, **options)
        if self.confuse is not None:
            self.confuse(unit)
        return unit


class InjectedOps(AnalogOps):
    """The analog engine of one chip, with or without an injection of measured errors.

    Log and exp units convert DAC levels alone: an entry of their tables is given another code, and
    keeps it throughout an injection, as a wrong code of a frozen chip would.

    Parameters
    ----------
    *args
        As `AnalogOps`.
    reports : layers and blocks of products that were replayed; others stay as they are.
    """

    def __init__(self, *args: Any, reports: list[LayerReport]):
        super().__init__(*args)
        self._measured = {r.name: Measured(r) for r in reports if r.columns}
        self._wrong_products = {
            r.name: [Confusions(r, unit=kind) for kind in KINDS] for r in reports if not r.columns
        }
        self._cells = use_cells(self.hardware, ConfusedModel)
        self._draw: int | None = None

    def start(self, draw: int | None) -> None:
        """Begin injection number `draw`, or run without (None)."""
        self._draw = draw
        for layer in self.layers.values():
            self._prepare(layer)
        for name in self._wrong_products:  # their units are programmed anew
            self._products.pop(name, None)
            self._attention.pop(name, None)

    def layer(self, name: str, activation: Activation) -> AnalogLinear:
        """Return a programmed layer; programs it when first asked."""
        if name not in self.layers:
            weight, bias = layer_tensors(self._tensors, name)
            self.layers[name] = InjectedLinear(
                name, weight, bias, activation, self._ranges, self.hardware, self.chip
            )
            self._prepare(self.layers[name])
        return self.layers[name]

    def _prepare(self, layer: AnalogLinear) -> None:
        assert isinstance(layer, InjectedLinear)
        measured = None if self._draw is None else self._measured.get(layer.spec.name)
        layer.inject(measured, self._generator(layer.spec.name))

    def _generator(self, name: str) -> np.random.Generator:
        draw = 0 if self._draw is None else 1 + self._draw
        return layer_generator(name, self.chip.seed, self.chip.index, draw)

    def _units(self, name: str) -> ProductModel:
        """Program the units of a block; in an injection some codes of their tables are wrong."""
        wrong = self._wrong_products.get(name)
        if wrong is None or self._draw is None or name in self._products:
            return super()._units(name)
        rng, mapping = self._generator(name), self.hardware.mapping.of(name)
        copies = mapping.log_copies, mapping.product_copies
        each = zip(wrong, copies, strict=True)
        kinds = iter([w for w, count in each for _ in range(count)])  # in the order of `units_of`

        def confuse(unit: AcamUnit) -> None:
            extra = next(kinds).draw(unit.table.shape, rng)
            if extra is not None:
                unit.table[...] = np.clip(unit.table + extra, 0, 2**unit.bits - 1)

        self._cells.confuse = confuse
        try:
            return super()._units(name)
        finally:
            self._cells.confuse = None
