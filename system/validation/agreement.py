"""What the replays say: errors and code agreement per layer, worst points, totals, tables."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from system.validation.replay import CodeErrors, ColumnErrors
from system.validation.sampling import NEAR_LSB

WORST = 3  # points of a layer that are listed
# Distances to the nearest window edge [LSB]; a cell of the default step table is 1/64 LSB.
DISTANCES = (0.0, 0.01, NEAR_LSB, 0.1, np.inf)


@dataclass(frozen=True)
class Point:
    """One replayed column output or ACAM conversion.

    Attributes
    ----------
    kind : {"column", "code"}
    tile : None: the conversion of a layer whose tiles share one unit.
    stimulus : its number among the recorded inputs.
    ours, spice : column output [LSB], or output code.
    on_line : the output lies on the data line; beyond it the conversion saturates.
    """

    layer: str
    kind: str
    tile: int | None
    column: int
    stimulus: int
    ours: float
    spice: float
    on_line: bool = True

    @property
    def options(self) -> str:
        """Return the options of `nldpe validate` that replay this point alone."""
        place = "" if self.tile is None else f" --tile {self.tile}"
        code = " --search" if self.kind == "code" else ""
        at = f"--column {self.column} --stimulus {self.stimulus}"
        return f"--layer {shlex.quote(self.layer)}{place} {at}{code}"


@dataclass(frozen=True)
class Boundary:
    """Conversions at one distance from the nearest window edge.

    Attributes
    ----------
    below_lsb : upper end of the distances.
    differ : how many codes differ from ngspice's.
    largest : largest difference of codes.
    """

    below_lsb: float
    searches: int
    differ: int
    largest: int


@dataclass(frozen=True)
class LayerReport:
    """Agreement of one layer with ngspice; errors are model minus ngspice."""

    name: str
    columns: list[ColumnErrors]
    codes: list[CodeErrors]

    @property
    def errors(self) -> NDArray[np.float64]:
        """All column errors (points,) [LSB]."""
        return np.concatenate([c.errors.ravel() for c in self.columns])

    @property
    def line_errors(self) -> NDArray[np.float64]:
        """Errors (points,) [LSB] of outputs on the data line: those that can change a code."""
        return np.concatenate([c.errors[c.on_line] for c in self.columns])

    @property
    def differences(self) -> NDArray[np.int64]:
        """All code differences (searches,)."""
        return np.concatenate([c.differences for c in self.codes])

    @property
    def points(self) -> int:
        """Column outputs compared."""
        return self.errors.size

    @property
    def searches(self) -> int:
        """ACAM conversions compared."""
        return self.differences.size

    @property
    def rms_lsb(self) -> float:
        """Root of the mean square column error."""
        return float(np.sqrt(np.mean(self.errors**2)))

    @property
    def max_lsb(self) -> float:
        """Largest column error."""
        return float(np.abs(self.errors).max())

    @property
    def line_max_lsb(self) -> float:
        """Largest column error on the data line."""
        return float(np.abs(self.line_errors).max(initial=0.0))

    @property
    def bias_lsb(self) -> float:
        """Mean column error."""
        return float(self.errors.mean())

    @property
    def code_equal(self) -> float:
        """Estimated share of equal codes among all conversions of the inference."""
        return self.share(0)

    @property
    def code_agreement(self) -> float:
        """Estimated share of codes at most one apart among all conversions of the inference."""
        return self.share(1)

    def share(self, largest: int) -> float:
        """Return the share of conversions whose codes differ by at most `largest`."""
        differences, weights = self.confusions()
        return float(weights[np.abs(differences) <= largest].sum())

    def confusions(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return code differences (n,) and weights (n,) of sum 1.

        Conversions near an edge were sought; they count with the share they have in the
        inference, and those further away, drawn in proportion, with the rest. The ends of the
        data line do not count.
        """
        parts = []
        for unit in self.codes:
            chosen = unit.chosen
            near = chosen.distance_lsb < NEAR_LSB
            kept = np.where(near, chosen.kind != "end", chosen.kind == "natural")
            weights = np.zeros(len(near))
            for group, share in ((near, chosen.near_share), (~near, 1.0 - chosen.near_share)):
                weights[group & kept] = share / max(1, int((group & kept).sum()))
            parts.append(weights / max(weights.sum(), 1e-12) / len(self.codes))
        return self.differences, np.concatenate(parts)

    def boundaries(self) -> list[Boundary]:
        """Return how codes differ by distance to the nearest window edge."""
        distance = np.concatenate([c.chosen.distance_lsb for c in self.codes])
        size = np.abs(self.differences)
        found = []
        for low, high in itertools.pairwise(DISTANCES):
            here = size[(distance >= low) & (distance < high)]
            largest = int(here.max(initial=0))
            found.append(Boundary(high, len(here), int(np.count_nonzero(here)), largest))
        return found

    def worst(self, count: int = WORST) -> list[Point]:
        """Return the points of largest column error, then codes that differ most."""
        found = []
        for c in self.columns:
            for at in np.argsort(-np.abs(c.errors), axis=None)[:count]:
                s, k = np.unravel_index(at, c.errors.shape)
                place = c.tile, int(c.columns[k]), int(c.stimuli.index[s])
                values = float(c.ours[s, k]), float(c.spice[s, k])
                found.append(Point(self.name, "column", *place, *values, bool(c.on_line[s, k])))
        found = sorted(found, key=lambda p: -abs(p.ours - p.spice))[:count]
        return found + self._wrong_codes()[:count]

    def _wrong_codes(self) -> list[Point]:
        points = [
            Point(
                self.name, "code", unit.tile,
                int(unit.chosen.column[k]), int(unit.chosen.stimulus[k]),
                float(unit.ours[k]), float(unit.spice[k]),
            )
            for unit in self.codes
            for k in np.flatnonzero(unit.differences)
        ]  # fmt: skip
        return sorted(points, key=lambda p: -abs(p.ours - p.spice))

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """Return the figures of the layer for JSON; `command` starts those of the worst points."""
        names = (
            "name", "points", "rms_lsb", "max_lsb", "line_max_lsb", "bias_lsb", "searches",
            "code_equal", "code_agreement",
        )  # fmt: skip
        boundaries = [asdict(b) for b in self.boundaries()]
        boundaries[-1]["below_lsb"] = None
        worst = [{**asdict(p), "command": f"{command} {p.options}".strip()} for p in self.worst()]
        return {**{n: getattr(self, n) for n in names}, "boundaries": boundaries, "worst": worst}


def totals(reports: list[LayerReport]) -> dict[str, float]:
    """Return the figures of all layers together; what a gate may name.

    Column errors count by point, codes by layer: searches are not drawn in proportion to layers.
    """
    errors = np.concatenate([r.errors for r in reports])
    line = np.concatenate([r.line_errors for r in reports])
    return {
        "column_rms_lsb": float(np.sqrt(np.mean(errors**2))),
        "column_max_lsb": float(np.abs(errors).max()),
        "line_rms_lsb": float(np.sqrt(np.mean(line**2))) if line.size else 0.0,
        "line_max_lsb": float(np.abs(line).max(initial=0.0)),
        "column_bias_lsb": float(np.abs(errors.mean())),
        "layer_rms_lsb": max(r.rms_lsb for r in reports),
        "layer_bias_lsb": max(abs(r.bias_lsb) for r in reports),
        "code_equal": float(np.mean([r.code_equal for r in reports])),
        "code_agreement": float(np.mean([r.code_agreement for r in reports])),
        "code_max": float(max(np.abs(r.differences).max(initial=0) for r in reports)),
        "points": errors.size,
        "searches": sum(r.searches for r in reports),
    }


def to_dict(reports: list[LayerReport], command: str = "") -> dict[str, Any]:
    """Return totals and layers for JSON."""
    return {**totals(reports), "layers": [r.to_dict(command) for r in reports]}


def to_table(reports: list[LayerReport]) -> str:
    """Return the reports as aligned text."""
    width = max(len(r.name) for r in reports)
    head = f"{'layer':{width}}  rms LSB  max LSB  on line     bias  equal  agree  points  searches"
    lines = [
        f"{r.name:{width}}  {r.rms_lsb:7.3f}  {r.max_lsb:7.3f}  {r.line_max_lsb:7.3f}"
        f"  {r.bias_lsb:+7.3f}  {r.code_equal:5.3f}  {r.code_agreement:5.3f}  {r.points:6d}"
        f"  {r.searches:8d}"
        for r in reports
    ]
    return "\n".join([head, *lines])


def boundary_table(reports: list[LayerReport]) -> str:
    """Return code differences by distance to the nearest window edge, all layers together."""
    lines = ["LSB to the nearest window edge  searches  differ  largest"]
    per_layer = [r.boundaries() for r in reports]
    for low, bins in zip(DISTANCES, zip(*per_layer, strict=True), strict=False):
        high = bins[0].below_lsb
        label = f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
        searches, differ = sum(b.searches for b in bins), sum(b.differ for b in bins)
        largest = max(b.largest for b in bins)
        lines.append(f"{label:30}  {searches:8d}  {differ:6d}  {largest:7d}")
    return "\n".join(lines)


def worst_table(reports: list[LayerReport], command: str) -> str:
    """Return the worst point of each kind in each layer, with the command that replays it."""
    lines = []
    for report in reports:
        points = report.worst()
        for kind in ("column", "code"):
            point = next((p for p in points if p.kind == kind), None)
            if point is not None:
                what = f"column {point.ours:.3f} LSB, ngspice {point.spice:.3f}"
                what += "" if point.on_line else " (beyond the data line)"
                if kind == "code":
                    what = f"code {point.ours:.0f}, ngspice {point.spice:.0f}"
                lines += [f"{report.name}: {what}", f"  {command} {point.options}"]
    return "\n".join(lines)


def summary(figures: dict[str, float]) -> str:
    """Return the totals in one line."""
    return (
        f"all layers: columns rms {figures['column_rms_lsb']:.3f}, max "
        f"{figures['column_max_lsb']:.3f} LSB ({figures['points']:.0f} outputs), on the data line "
        f"rms {figures['line_rms_lsb']:.3f}, max {figures['line_max_lsb']:.3f}; codes equal "
        f"{figures['code_equal']:.2%}, equal or adjacent {figures['code_agreement']:.2%} "
        f"({figures['searches']:.0f} searches)"
    )
