"""What the other commands wrote, read back into the types that they came from.

Every record has a class method `from_json`, which raises KeyError, TypeError or ValueError where
the content is not what the command writes; `material` turns that into a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self, TypeVar

from system.cost.model import Cost, LayerCost
from system.inference import Result
from system.validation.full_run import Effort, FullRun, LayerRun
from system.validation.waterfall import Rung, Waterfall

Content = Mapping[str, Any]
Record = TypeVar("Record")


def fill(cls: type[Record], content: Content, **given: Any) -> Record:
    """Return a dataclass filled from JSON: fields by name, plain numbers and texts checked."""
    values = dict(given)
    for item in fields(cls):  # type: ignore[arg-type]
        if item.name in values:
            continue
        bare = item.default is MISSING and item.default_factory is MISSING
        if bare or item.name in content:
            values[item.name] = _checked(str(item.type), content[item.name], item.name)
    return cls(**values)


def _checked(kind: str, value: Any, name: str) -> Any:
    """Return a value as its annotation has it; other annotations pass."""
    if kind.endswith(" | None"):
        return None if value is None else _checked(kind.removesuffix(" | None"), value, name)
    if kind in ("float", "int"):
        return number(value, name)
    if kind == "str":
        return text(value, name)
    if kind == "list[float]":
        return [number(v, name) for v in value]
    return value


def number(value: Any, name: str) -> Any:
    """Return a number of JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, not a number")
    return value


def text(value: Any, name: str) -> str:
    """Return a text of JSON; characters that no page can hold are replaced."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, not a text")
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in value)


@dataclass(frozen=True)
class Evaluation:
    """What `nldpe infer --json` wrote.

    Attributes
    ----------
    variation : corner, mismatch and programming corner where they are not the usual ones.
    """

    result: Result
    variation: str = ""

    @classmethod
    def from_json(cls, content: Content) -> Self:
        """Read one result."""
        parts = [content.get("corner"), content.get("mismatch"), content.get("programmed_at")]
        words = [
            form.format(text(part, "corner"))
            for form, part in zip(("{}", "mismatch {}", "programmed at {}"), parts, strict=True)
            if part not in (None, "none")
        ]
        return cls(fill(Result, content), ", ".join(words))


@dataclass(frozen=True)
class LayerReplay:
    """Figures of a layer in `nldpe validate --json`; see `validation.agreement.LayerReport`."""

    name: str
    points: int
    rms_lsb: float
    max_lsb: float
    line_max_lsb: float
    bias_lsb: float
    searches: int
    code_equal: float
    code_agreement: float
    boundaries: list[Content]
    worst: list[Content]
    fine_rms_lsb: float = 0.0
    fine_max_lsb: float = 0.0


@dataclass(frozen=True)
class Replay:
    """What `nldpe validate --json` wrote: totals, layers, and the waterfall of `--propagate`."""

    model: str
    seed: int
    library_sha256: str
    column_rms_lsb: float
    column_max_lsb: float
    line_rms_lsb: float
    line_max_lsb: float
    code_equal: float
    code_agreement: float
    points: int
    searches: int
    layers: tuple[LayerReplay, ...]
    waterfall: Waterfall | None = None
    require: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Content) -> Self:
        """Read one validation."""
        layers = tuple(fill(LayerReplay, layer) for layer in content["layers"])
        if not layers:
            raise ValueError("no layers")
        for layer in layers:
            for bin_ in layer.boundaries:
                for name in ("searches", "differ", "by_table", "largest"):
                    number(bin_[name], name)
            for point in layer.worst:
                number(point["ours"], "ours"), number(point["spice"], "spice")
                text(point["kind"], "kind"), text(point["command"], "command")
        found = content.get("waterfall")
        return fill(
            cls, content, layers=layers, waterfall=None if found is None else _waterfall(found)
        )


def _waterfall(content: Content) -> Waterfall:
    rungs = [fill(Rung, rung) for rung in content["rungs"]]
    if len(rungs) < 2:
        raise ValueError("a waterfall of less than two rungs")
    return fill(Waterfall, content, rungs=rungs)


@dataclass(frozen=True)
class Simulation:
    """What `nldpe validate --full N --json` wrote."""

    model: str
    seed: int
    library_sha256: str
    run: FullRun

    @classmethod
    def from_json(cls, content: Content) -> Self:
        """Read one run entirely in ngspice."""
        layers = {}
        for name, layer in content["layers"].items():
            efforts = {kind: fill(Effort, layer[kind]) for kind in ("columns", "searches")}
            found = {int(k): number(v, "differences") for k, v in layer["differences"].items()}
            layers[text(name, "layer")] = fill(LayerRun, layer, differences=found, **efforts)
        return fill(cls, content, run=fill(FullRun, content, layers=layers))


@dataclass(frozen=True)
class Load:
    """One workload of a cost study on all machines; ours comes first."""

    what: str
    batch: int
    machines: tuple[Cost, ...]
    gpu_roofline: Mapping[str, float]

    @classmethod
    def from_json(cls, content: Content) -> Self:
        """Read one workload."""
        machines = tuple(_cost(content, machine) for machine in content["machines"])
        gpu = {k: number(v, k) for k, v in content["gpu_roofline"].items()}
        for name in ("energy_j", "time_s", "tops_per_w"):
            number(gpu[name], name)
        if not machines or not machines[0].energy_j > 0:
            raise ValueError("no machine, or one without energy")
        return fill(cls, content, machines=machines, gpu_roofline=gpu)


def _cost(load: Content, content: Content) -> Cost:
    layers = tuple(
        fill(LayerCost, x, energy_j={k: number(v, k) for k, v in x["energy_j"].items()})
        for x in content["layers"]
    )
    notes = tuple(text(note, "notes") for note in content["notes"])
    shared = {"what": text(load["what"], "what"), "batch": number(load["batch"], "batch")}
    return fill(Cost, content, layers=layers, notes=notes, **shared)


@dataclass(frozen=True)
class CostStudy:
    """What `nldpe cost --json` wrote."""

    model: str
    sequence: int
    library_sha256: str
    figures_of: str
    loads: tuple[Load, ...]
    tile_areas: Mapping[str, float]
    origin: Mapping[str, str]
    technology: Mapping[str, str]
    claims: tuple[tuple[str, str, str, str], ...]
    not_counted: tuple[str, ...]

    @classmethod
    def from_json(cls, content: Content) -> Self:
        """Read one study."""
        loads = tuple(Load.from_json(load) for load in content["workloads"])
        if not loads:
            raise ValueError("no workloads")
        words = ("what", "published", "ours", "differs")
        claims = tuple(tuple(text(c[w], w) for w in words) for c in content["claims"])
        return fill(
            cls, content,
            loads=loads,
            tile_areas={k: number(v, k) for k, v in content["areas_m2"]["tile"].items()},
            origin={k: text(v, k) for k, v in content["origin"].items()},
            technology={k: text(v, k) for k, v in content["technology"].items()},
            claims=claims,
            not_counted=tuple(text(line, "not_counted") for line in content["not_counted"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Generation:
    """What `nldpe generate --json` wrote: a prompt and its continuation."""

    model: str
    mode: str
    prompt: str
    text: str
    seed: int
    temperature: float
    library_sha256: str | None = None

    @classmethod
    def from_json(cls, content: Content) -> Self:
        """Read one text."""
        return fill(cls, content)


# Keys by which the JSON of a command is known, most particular first.
KINDS: Sequence[tuple[str, type, tuple[str, ...]]] = (
    ("infer", Evaluation, ("model", "mode", "metric", "values")),
    ("validate --full", Simulation, ("model", "layers", "equal_predictions")),
    ("validate", Replay, ("model", "layers", "column_rms_lsb")),
    ("cost", CostStudy, ("model", "workloads", "areas_m2")),
    ("generate", Generation, ("model", "mode", "prompt", "text")),
)
