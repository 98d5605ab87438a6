"""What the replays say: errors and code agreement per layer, worst points, totals, tables."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from system.validation.replay import CodeErrors, ColumnErrors

NONE = np.empty(0)
WORST = 3  # points of a layer that are listed
# Distances to the nearest window edge [LSB].
DISTANCES = (0.0, 0.01, 0.03, 0.1, 0.3, np.inf)


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
    fine, copy : which unit: of the second read-out range, and its number among the parallel ones.
    unit : "log" or "exp" unit of a block of products, whose stimulus is a DAC level; else empty.
    """

    layer: str
    kind: str
    tile: int | None
    column: int
    stimulus: int
    ours: float
    spice: float
    on_line: bool = True
    fine: bool = False
    copy: int = 0
    unit: str = ""

    @property
    def options(self) -> str:
        """Return the options of `nldpe validate` that replay this point alone."""
        place = "" if self.tile is None else f" --tile {self.tile}"
        code = f" --unit {self.unit}" if self.unit else ""
        code = " --search" if self.kind == "code" and not code else code
        code += " --fine" if self.fine else ""
        code += f" --copy {self.copy}" if self.copy else ""
        at = f"--column {self.column} --stimulus {self.stimulus}"
        return f"--layer {shlex.quote(self.layer)}{place} {at}{code}"


@dataclass(frozen=True)
class Boundary:
    """Conversions at one distance from the nearest window edge.

    Attributes
    ----------
    below_lsb : upper end of the distances.
    differ : how many codes differ from ngspice's.
    by_table : of these, how many only because of the step table: a search of the rows agrees.
    largest : largest difference of codes.
    """

    below_lsb: float
    searches: int
    differ: int
    by_table: int
    largest: int


@dataclass(frozen=True)
class LayerReport:
    """Agreement of one layer with ngspice; errors are model minus ngspice.

    A block of products has codes alone, of its log and exp units.
    """

    name: str
    columns: list[ColumnErrors]
    codes: list[CodeErrors]

    @property
    def errors(self) -> NDArray[np.float64]:
        """All column errors (points,) [LSB]."""
        return np.concatenate([NONE, *(c.errors.ravel() for c in self.columns)])

    @property
    def line_errors(self) -> NDArray[np.float64]:
        """Errors (points,) [LSB] of outputs on the data line: those that can change a code."""
        return np.concatenate([NONE, *(c.errors[c.on_line] for c in self.columns)])

    @property
    def fine_errors(self) -> NDArray[np.float64]:
        """Errors (points,) of outputs in the second read-out range, in LSB of that range."""
        return np.concatenate([NONE, *(c.fine_errors for c in self.columns)])

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
        return rms(self.errors)

    @property
    def max_lsb(self) -> float:
        """Largest column error."""
        return float(np.abs(self.errors).max(initial=0.0))

    @property
    def line_max_lsb(self) -> float:
        """Largest column error on the data line."""
        return float(np.abs(self.line_errors).max(initial=0.0))

    @property
    def fine_rms_lsb(self) -> float:
        """Root of the mean square error in the second read-out range; 0 without one."""
        return rms(self.fine_errors)

    @property
    def fine_max_lsb(self) -> float:
        """Largest error in the second read-out range; 0 without one."""
        return float(np.abs(self.fine_errors).max(initial=0.0))

    @property
    def bias_lsb(self) -> float:
        """Mean column error."""
        return mean(self.errors)

    @property
    def units(self) -> int:
        """ACAM units that were searched on each data line: copies, of both read-out ranges."""
        return len({(c.fine, c.copy, c.unit) for c in self.codes})

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

    def confusions(
        self, fine: bool | None = None, unit: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return code differences (n,) of single units and weights (n,) of sum 1.

        Conversions near an edge were sought; they count with the share they have in the
        inference, and those further away, drawn in proportion, with the rest. The ends of the
        data line do not count. Units of a layer are taken together.

        Parameters
        ----------
        fine : those of the second read-out range (True), or of the first (False); default: both.
        unit : those of "log" or of "exp" units; default: all.
        """
        units = [c for c in self.codes if fine in (None, c.fine) and unit in (None, c.unit)]
        if not units:
            return np.empty(0, np.int64), np.empty(0)
        near = np.concatenate([u.chosen.near for u in units])
        kind = np.concatenate([u.chosen.kind for u in units])
        kept = np.where(near, kind != "end", kind == "natural")
        share = float(np.mean([u.chosen.near_share for u in units]))
        weights = np.zeros(len(near))
        for group, part in ((near, share), (~near, 1.0 - share)):
            weights[group & kept] = part / max(1, int((group & kept).sum()))
        return np.concatenate([u.differences for u in units]), weights / max(weights.sum(), 1e-12)

    def boundaries(self) -> list[Boundary]:
        """Return how codes differ by distance to the nearest window edge."""
        distance = np.concatenate([c.chosen.distance_lsb for c in self.codes])
        size = np.abs(self.differences)
        agreed = np.concatenate([c.searched == c.spice for c in self.codes])
        found = []
        for low, high in itertools.pairwise(DISTANCES):
            here = (distance >= low) & (distance < high)
            differ = here & (size > 0)
            counts = int(here.sum()), int(differ.sum()), int((differ & agreed).sum())
            found.append(Boundary(high, *counts, int(size[here].max(initial=0))))
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
                float(unit.ours[k]), float(unit.spice[k]), fine=unit.fine, copy=unit.copy,
                unit=unit.unit,
            )
            for unit in self.codes
            for k in np.flatnonzero(unit.differences)
        ]  # fmt: skip
        return sorted(points, key=lambda p: -abs(p.ours - p.spice))

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """Return the figures of the layer for JSON; `command` starts those of the worst points."""
        names = (
            "name", "points", "rms_lsb", "max_lsb", "line_max_lsb", "bias_lsb", "fine_rms_lsb",
            "fine_max_lsb", "units", "searches", "code_equal", "code_agreement",
        )  # fmt: skip
        boundaries = [asdict(b) for b in self.boundaries()]
        boundaries[-1]["below_lsb"] = None
        worst = [{**asdict(p), "command": f"{command} {p.options}".strip()} for p in self.worst()]
        return {**{n: getattr(self, n) for n in names}, "boundaries": boundaries, "worst": worst}


def rms(errors: NDArray[np.float64]) -> float:
    """Return the root of the mean square, 0 of nothing."""
    return float(np.sqrt(np.mean(errors**2))) if errors.size else 0.0


def mean(errors: NDArray[np.float64]) -> float:
    """Return the mean, 0 of nothing."""
    return float(errors.mean()) if errors.size else 0.0


def totals(reports: list[LayerReport]) -> dict[str, float]:
    """Return the figures of all layers together; what a gate may name.

    Column errors count by point, codes by layer: searches are not drawn in proportion to layers.
    """
    errors = np.concatenate([r.errors for r in reports])
    line = np.concatenate([r.line_errors for r in reports])
    return {
        "column_rms_lsb": rms(errors),
        "column_max_lsb": float(np.abs(errors).max(initial=0.0)),
        "line_rms_lsb": rms(line),
        "line_max_lsb": float(np.abs(line).max(initial=0.0)),
        "fine_rms_lsb": rms(np.concatenate([r.fine_errors for r in reports])),
        "fine_max_lsb": max(r.fine_max_lsb for r in reports),
        "column_bias_lsb": abs(mean(errors)),
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
    refined = any(r.fine_errors.size for r in reports)
    fine = "  fine rms  fine max" if refined else ""
    head = (
        f"{'layer':{width}}  rms LSB  max LSB  on line     bias{fine}  equal  agree  points"
        "  searches  units"
    )
    blank = f"{'-':>7}  {'-':>7}  {'-':>7}  {'-':>7}"  # blocks of products have no columns
    lines = [
        f"{r.name:{width}}  "
        + (
            f"{r.rms_lsb:7.3f}  {r.max_lsb:7.3f}  {r.line_max_lsb:7.3f}  {r.bias_lsb:+7.3f}"
            if r.points
            else blank
        )
        + (f"  {r.fine_rms_lsb:8.3f}  {r.fine_max_lsb:8.3f}" if refined else "")
        + f"  {r.code_equal:5.3f}  {r.code_agreement:5.3f}  {r.points:6d}  {r.searches:8d}"
        f"  {r.units:5d}"
        for r in reports
    ]
    return "\n".join([head, *lines])


def boundary_table(reports: list[LayerReport]) -> str:
    """Return code differences by distance to the nearest window edge, all layers together."""
    lines = ["LSB to the nearest window edge  searches  differ  by step table  largest"]
    per_layer = [r.boundaries() for r in reports]
    for low, bins in zip(DISTANCES, zip(*per_layer, strict=True), strict=False):
        high = bins[0].below_lsb
        label = f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
        searches, differ = sum(b.searches for b in bins), sum(b.differ for b in bins)
        by_table, largest = sum(b.by_table for b in bins), max(b.largest for b in bins)
        lines.append(f"{label:30}  {searches:8d}  {differ:6d}  {by_table:13d}  {largest:7d}")
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
    fine = ""
    if figures["fine_max_lsb"]:
        fine = (
            f", in the second read-out range rms {figures['fine_rms_lsb']:.3f}, max "
            f"{figures['fine_max_lsb']:.3f} of its LSB"
        )
    codes = (
        f"codes equal {figures['code_equal']:.2%}, equal or adjacent "
        f"{figures['code_agreement']:.2%} ({figures['searches']:.0f} searches)"
    )
    if not figures["points"]:  # blocks of products alone
        return f"all layers: {codes}"
    return (
        f"all layers: columns rms {figures['column_rms_lsb']:.3f}, max "
        f"{figures['column_max_lsb']:.3f} LSB ({figures['points']:.0f} outputs), on the data line "
        f"rms {figures['line_rms_lsb']:.3f}, max {figures['line_max_lsb']:.3f}{fine}; {codes}"
    )
