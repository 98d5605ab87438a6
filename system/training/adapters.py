"""A low-rank adapter for a language model's published weights, fine-tuned for noisy circuits.

The forward pass is the inference engine on a programmed chip. Programming a large model for every
step would cost far more than the step, so a chip serves many: what the adapter has changed since
then is added exactly. The backward pass is that of the float network at the noisy operating point
(straight-through estimator). The float network is the teacher, and the loss is the divergence from
its predictions alone: cross entropy would adapt the model to the training text, and hide what the
circuits cost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from behavioral.library import Library
from behavioral.programming import Noise
from circuits.errors import ParameterError
from system.engine import AnalogOps
from system.generation import language_model
from system.hardware import Chip, Hardware
from system.inference import release_memory
from system.linear import AnalogLinear
from system.models.llama import Llama
from system.models.ops import Activation
from system.networks import Network, known_names, load_network
from system.quantization import as_options, block_scale
from system.training import metrics, naf, networks, pretraining
from system.training.kept import KeptTraining
from system.weights.adapter import Pairs, save_adapter

log = logging.getLogger(__name__)

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FIRST_CHIP = 1_000_000  # training never sees the chips that are scored
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class AdapterPlan:
    """How an adapter is trained.

    Attributes
    ----------
    steps : optimiser steps.
    rank : of every layer's pair.
    rate : largest learning rate of AdamW.
    length : tokens of the one window of a step, of a conversation at most.
    refresh : steps that one chip serves; without device noise one serves all.
    seed : of initial pairs, windows and chips.
    noise : device noise of the chips; "none" leaves what all chips have in common.
    """

    steps: int
    rank: int = 8
    rate: float = 5e-4
    length: int = 256
    refresh: int = 50
    seed: int = 1234
    noise: Noise = "frozen"

    @property
    def turn(self) -> int:
        """Return how many steps one chip serves."""
        return max(1, self.steps) if self.noise == "none" else self.refresh


class _Linear(torch.autograd.Function):
    """Forward on tiles plus what the pair has changed; backward of the float layer."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, old: Pair,
        layer: AnalogLinear,
    ) -> Tensor:  # fmt: skip
        """Run the layer as inference does; x (n, in), weight (out, in), down (r, in), up (out, r).

        `old` is the pair that the chip was programmed with; weight and bias (out,) stay.
        """
        out = torch.from_numpy(layer.forward(x.numpy()))
        change = (x @ down.T) @ up.T - (x @ old[0].T) @ old[1].T
        activation, z = layer.spec.activation, None
        if activation is None:
            out += change
        else:
            function = networks.ACTIVATIONS[activation]
            before = x @ weight.T + bias + (x @ old[0].T) @ old[1].T
            z = before + change
            out += function(z) - function(before)
        ctx.save_for_backward(x, weight, down, up, z)
        ctx.spec = layer.spec
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, down and up; zero where the DAC clips an input."""
        x, weight, down, up, z = ctx.saved_tensors
        spec = ctx.spec
        g = gradients[0] if z is None else gradients[0] * naf._slope(z, spec.activation)
        inner = g @ up
        scale = torch.from_numpy(block_scale(x.numpy(), spec.norm)) if spec.blocks else 1.0
        drive = x / scale
        if spec.smoothing is not None:
            drive = drive / torch.from_numpy(spec.smoothing)
        low, high = (spec.codes.scale * (c - spec.codes.zero) for c in (0, spec.codes.top))
        g_x = (g @ weight + inner @ down) * ((drive >= low) & (drive <= high))
        return g_x, None, None, inner.T @ x, g.T @ (x @ down.T), None, None


class AdaptedOps(naf.NoisyOps):
    """`TorchOps` on one programmed chip, with what a low-rank adapter has changed since."""

    def __init__(self, analog: AnalogOps, pairs: dict[str, Pair], old: dict[str, Pair]) -> None:
        super().__init__(analog)
        self._pairs, self._old = pairs, old

    def linear(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation
    ) -> Tensor:
        """Return f(x (W + up down)^T + b) from crossbars and ACAM units."""
        layer = self.analog.layer(name, activation)
        shift = torch.zeros(len(weight)) if bias is None else bias
        empty = (x.new_zeros((0, weight.shape[1])), x.new_zeros((len(weight), 0)))
        pair, old = self._pairs.get(name, empty), self._old.get(name, empty)
        out: Tensor = _Linear.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, x.shape[-1]), weight, shift, *pair, old, layer
        )
        return out.reshape(*x.shape[:-1], -1)


def initial_pairs(
    network: Network, rank: int, seed: int, targets: tuple[str, ...] = TARGETS
) -> dict[str, Pair]:
    """Return pairs that change nothing yet: `up` is zero, `down` has rows of norm about 1."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, weight in network.model.tensors.items():
        layer = name.removesuffix(".weight")
        if layer.endswith(targets):
            out, inputs = weight.shape
            down = torch.randn((rank, inputs), generator=generator) * inputs**-0.5
            pairs[layer] = (down.requires_grad_(), torch.zeros((out, rank)).requires_grad_())
    if not pairs:
        raise ParameterError(f"{network.name} has no layer called {', '.join(targets)}")
    return pairs


class AdapterTraining:
    """Steps on programmed chips, kept so that an interrupted training goes on.

    Parameters
    ----------
    network : Network
        A Llama with ranges.
    library : Library
    tokens : (n,) array, the training text.
    plan : AdapterPlan
    kept : file of the state; a training of another plan or network is refused.
    every : steps between two writings of the state.
    """

    def __init__(
        self, network: Network, library: Library, tokens: NDArray[np.int64], plan: AdapterPlan,
        kept: Path, every: int = 10,
    ) -> None:  # fmt: skip
        model = language_model(network)
        if not isinstance(model, Llama):
            raise ParameterError(f"{network.name} is no Llama; adapters are trained for these only")
        self.network, self.library, self.plan = network, library, plan
        self._tokens, self._talks = tokens, network.conversations()
        origin = _origin(plan, library, network)
        self.kept = KeptTraining(kept, origin, [tokens, self._talks], every)
        self._config = model.config.to_dict()
        self._weights = {k: torch.from_numpy(np.asarray(v)) for k, v in model.tensors.items()}
        self.pairs = initial_pairs(network, plan.rank, plan.seed)
        self._programmed = _copy(self.pairs)
        self.optimizer = torch.optim.AdamW(
            [part for pair in self.pairs.values() for part in pair],
            lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.0,
        )  # fmt: skip
        self.losses: list[float] = []
        self._ops: AdaptedOps | None = None
        self._resume()

    def run(self, report: Callable[[int, float], None] | None = None) -> None:
        """Do the steps that are left."""
        first = len(self.losses)
        for step in tqdm(range(first, self.plan.steps), desc="adapter", disable=None):
            if step % self.plan.turn == 0:
                self._programmed, self._ops = _copy(self.pairs), None
            self.losses.append(self._step(step))
            if report is not None:
                report(step, self.losses[-1])
            if self.kept.is_due(step + 1, self.plan.steps):
                self._keep()

    def result(self) -> Pairs:
        """Return the pairs as arrays."""
        return {
            name: (down.detach().numpy().copy(), up.detach().numpy().copy())
            for name, (down, up) in self.pairs.items()
        }

    def window(self, step: int) -> Tensor:
        """Return the tokens (1, at most length + 1) of a step: text and conversations in turn."""
        if len(self._talks) and step % 2:
            talk = self._talks[step // 2 % len(self._talks)]
            return torch.from_numpy(talk[talk >= 0][None, : self.plan.length + 1])
        seed = self.plan.seed + 9_000_000 + step
        return pretraining.text_batch(self._tokens, 1, self.plan.length, seed)

    def _step(self, step: int) -> float:
        plan = self.plan
        for group in self.optimizer.param_groups:
            factor = pretraining.cosine(step, plan.steps, max(1, plan.steps // 20))
            group["lr"] = plan.rate * factor
        window = self.window(step)[:, :-1]
        with torch.no_grad():
            target = networks.llama(networks.FloatOps(), self._weights, self._config, window)
        ops = self._chip(step // plan.turn)
        logits = networks.llama(ops, self._weights, self._config, window)
        loss = naf.distillation(logits, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parts = [part for pair in self.pairs.values() for part in pair]
        torch.nn.utils.clip_grad_norm_(parts, 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def _chip(self, index: int) -> AdaptedOps:
        """Return the chip in use; programs it with the pairs as they were when its turn began."""
        if self._ops is None:
            release_memory()
            network = self.network
            tensors = dict(network.model.tensors)
            for name, (down, up) in self._programmed.items():
                tensors[f"{name}.weight"] = tensors[f"{name}.weight"] + (up @ down).numpy()
            hardware = Hardware(self.library, network.mapping)
            chip = Chip(self.plan.seed, FIRST_CHIP + index, self.plan.noise)
            analog = AnalogOps(tensors, network.ranges, hardware, chip)
            self._ops = AdaptedOps(analog, self.pairs, self._programmed)
        return self._ops

    def _keep(self) -> None:
        state = {
            "pairs": {name: list(pair) for name, pair in _copy(self.pairs).items()},
            "programmed": {name: list(pair) for name, pair in self._programmed.items()},
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
        }
        self.kept.save(len(self.losses), state)

    def _resume(self) -> None:
        state = self.kept.load()
        if state is None:
            return
        for name, pair in self.pairs.items():
            for part, stored in zip(pair, state["pairs"][name], strict=True):
                part.data.copy_(stored)
        self._programmed = {name: (p[0], p[1]) for name, p in state["programmed"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses = list(state["losses"])


def _origin(plan: AdapterPlan, library: Library, network: Network) -> dict[str, Any]:
    """Return what a kept training must have been begun with."""
    steps_may_change = replace(plan, steps=0)  # ended earlier, or made longer
    return {
        "plan": asdict(steps_may_change), "library": library.sha256,
        "mapping": network.mapping.to_dict(),
    }  # fmt: skip


def _copy(pairs: dict[str, Pair]) -> dict[str, Pair]:
    return {name: (d.detach().clone(), u.detach().clone()) for name, (d, u) in pairs.items()}


def train_adapter(
    model: str, out: Path, library: Library, plan: AdapterPlan,
    mapping: dict[str, Any] | None = None, data: Path | None = None, samples: int | None = None,
) -> Path:  # fmt: skip
    """Train an adapter for a Llama and write it; an interrupted training goes on.

    Parameters
    ----------
    model : a network's name or path.
    out : folder that receives NAME-naf, and NAME-naf.training while it is trained.
    library : the characterised circuits.
    plan : AdapterPlan
    mapping : choices that differ from the model's; the adapter states its mapping then.
    data : the user's own text, or None.
    samples : windows that metrics.json scores; None: as `metrics.write` says.

    Returns
    -------
    Path
        The directory written.
    """
    rows, chosen = library.technology.column.rows, mapping or {}
    network = load_network(model, tile_rows=rows, data=data, overrides=chosen)
    tokens = network.training_tokens()
    place = out / f"{Path(model).stem}-naf"
    kept = place.with_name(f"{place.name}.training")
    training = AdapterTraining(network, library, tokens, plan, kept)
    training.run(report=lambda step, loss: log.info("step %d: divergence %.4f", step + 1, loss))
    words = [f"nldpe finetune {model} --steps naf --naf-steps {plan.steps}"]
    words += [f"--naf-noise {plan.noise}", *as_options(chosen), f"--seed {plan.seed}"]
    provenance = {
        "command": " ".join(words),
        "plan": asdict(plan),
        "library_sha256": library.sha256,
        "tokens": plan.steps * plan.length,
    }
    base = model if model in known_names() else str(Path(model).resolve())
    config = {"model_type": "llama", "base": base, "adapter": {"rank": plan.rank}}
    if chosen:
        config["mapping"] = network.mapping.to_dict()
    save_adapter(place, config, training.result(), provenance)
    tuned = load_network(str(place), tile_rows=rows, data=data)
    metrics.write(tuned, place, library, training.losses, samples=samples, seed=plan.seed)
    training.kept.remove()
    return place
