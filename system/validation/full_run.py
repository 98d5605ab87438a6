"""What a run entirely in ngspice needed, and how its codes compare with the model's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

KINDS = ("columns", "searches")


@dataclass
class Effort:
    """Netlists simulated in this run, those found in the cache, and the simulators' seconds."""

    circuits: int = 0
    cached: int = 0
    seconds: float = 0.0


@dataclass
class LayerRun:
    """What one layer needed, and how its codes compare with the model's at the same inputs.

    Attributes
    ----------
    products, conversions : column outputs and ACAM conversions of the images.
    simulated_products, simulated_conversions : those left when equal ones are done once.
    columns, searches : what ngspice did for them.
    differences : of output codes, ngspice minus model: difference -> conversions.
    by_table : codes that differ only because of the step table: a search of the rows agrees.
    """

    products: int = 0
    conversions: int = 0
    simulated_products: int = 0
    simulated_conversions: int = 0
    columns: Effort = field(default_factory=Effort)
    searches: Effort = field(default_factory=Effort)
    differences: dict[int, int] = field(default_factory=dict)
    by_table: int = 0

    @property
    def ngspice_s(self) -> float:
        """Seconds in which simulators ran for this layer, in this run."""
        return self.columns.seconds + self.searches.seconds

    @property
    def differ(self) -> int:
        """Codes that differ."""
        return sum(n for d, n in self.differences.items() if d)

    @property
    def code_equal(self) -> float:
        """Share of equal codes."""
        return self.share(0)

    @property
    def code_agreement(self) -> float:
        """Share of codes at most one apart."""
        return self.share(1)

    def share(self, largest: int) -> float:
        """Return the share of codes at most `largest` apart."""
        total = sum(self.differences.values())
        return sum(n for d, n in self.differences.items() if abs(d) <= largest) / max(total, 1)


@dataclass(frozen=True)
class FullRun:
    """Images through ngspice, beside the same images through the models.

    Attributes
    ----------
    equal_predictions : images given the same class by both.
    right, right_model : images given the right class by ngspice, and by the models.
    logit_lsb : largest difference of a logit, in codes of the last layer.
    model_s : seconds the models took for the same images, programming not included.
    whole : all layers ran in ngspice.
    """

    images: int
    layers: dict[str, LayerRun]
    equal_predictions: int
    right: int
    right_model: int
    logit_lsb: float
    model_s: float
    whole: bool

    def effort(self, kind: str) -> Effort:
        """Return what "columns" or "searches" of all layers took."""
        parts: list[Effort] = [getattr(run, kind) for run in self.layers.values()]
        return Effort(
            sum(p.circuits for p in parts),
            sum(p.cached for p in parts),
            sum(p.seconds for p in parts),
        )

    @property
    def ngspice_s(self) -> float:
        """Seconds in which simulators ran, in this run; results from the cache cost none."""
        return sum(self.effort(kind).seconds for kind in KINDS)

    @property
    def circuits(self) -> int:
        """Netlists simulated in this run."""
        return sum(self.effort(kind).circuits for kind in KINDS)

    @property
    def cached(self) -> int:
        """Netlists whose results were in the cache."""
        return sum(self.effort(kind).cached for kind in KINDS)

    @property
    def total_s(self) -> float:
        """Seconds of all netlists; those of the cache at the mean of this run's of their kind.

        NaN where the cache held all of a kind.
        """
        total = 0.0
        for effort in map(self.effort, KINDS):
            if effort.circuits or effort.cached:
                mean = effort.seconds / effort.circuits if effort.circuits else np.nan
                total += mean * (effort.circuits + effort.cached)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        layers = {
            name: {
                **asdict(run),
                "code_equal": run.code_equal,
                "code_agreement": run.code_agreement,
            }
            for name, run in self.layers.items()
        }
        names = ("ngspice_s", "circuits", "cached")
        total = self.total_s if np.isfinite(self.total_s) else None
        return {
            **asdict(self),
            "layers": layers,
            **{name: getattr(self, name) for name in names},
            "ngspice_s_with_cached": total,
        }

    def __str__(self) -> str:
        width = max(len(name) for name in self.layers)
        lines = [
            f"{'layer':{width}}  products  simulated  seconds  conversions  simulated  seconds  "
            "differ  by table  equal  agree"
        ]
        lines += [
            f"{name:{width}}  {r.products:8d}  {r.simulated_products:9d}  {r.columns.seconds:7.1f}"
            f"  {r.conversions:11d}  {r.simulated_conversions:9d}  {r.searches.seconds:7.1f}  "
            f"{r.differ:6d}  {r.by_table:8d}  {r.code_equal:5.3f}  {r.code_agreement:5.3f}"
            for name, r in self.layers.items()
        ]
        lines.append(
            f"{self.images} images: {self.equal_predictions} predicted alike, right {self.right} "
            f"in ngspice and {self.right_model} on the models; logits within "
            f"{self.logit_lsb:.0f} codes"
        )
        lines.append(
            f"ngspice {self.ngspice_s / 3600:.3f} h for {self.circuits} circuits of this run, "
            f"{self.cached} from the cache"
        )
        if self.whole and np.isfinite(self.total_s):
            cached = ", cached circuits at the mean time of the others" if self.cached else ""
            lines[-1] += (
                f"; the models {self.model_s:.4f} s: {self.total_s / self.model_s:,.0f} x per "
                f"image{cached}"
            )
        return "\n".join(lines)
