"""The main job in one go: characterise, infer, validate, and write it down with plots."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from behavioral.library import Library
from circuits.parameters import load_parameters
from system import validation
from system.engine import make_ops
from system.files import write_json
from system.generation import generate, to_dict
from system.hardware import Chip
from system.inference import Result, evaluate
from system.networks import Network, load_network

MODES = ("float", "quantized", "ideal-analog", "noisy")
PROMPT = "It was a truth universally acknowledged that"
LLM_PROMPT = "The capital of France is"
SAMPLING = validation.Sampling()


@dataclass(frozen=True)
class Job:
    """One network of the demonstration.

    Attributes
    ----------
    names : checkpoints to compare, without and with noise-aware fine-tuning.
    samples, chips : of every evaluation.
    replayed : inputs of the inference that is replayed in ngspice.
    layers : layers to replay; None: all.
    """

    names: tuple[str, ...]
    samples: int
    chips: int
    replayed: int
    layers: tuple[str, ...] | None = None


JOBS = {
    "cnn": Job(("lenet-mnist-float", "lenet-mnist"), 2000, 5, 64),
    "language": Job(
        ("llama-austen-float", "llama-austen"), 8, 3, 1,
        ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.gate_proj",
         "model.layers.3.mlp.down_proj", "lm_head"),
    ),
    "llm": Job(("smollm2-135m",), 4, 1, 1, ("model.layers.0.self_attn.q_proj",)),
}  # fmt: skip


@dataclass
class Findings:
    """What the demonstration measured; `files`, in `results_folder`, is what the report reads."""

    library: Library
    results_folder: Path
    results: list[Result] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def keep(self, name: str, content: dict[str, Any]) -> None:
        """Write what a command would write with --json."""
        self.files.append(self.results_folder / f"{name}.json")
        write_json(self.files[-1], content)


def say(text: str) -> None:
    """Tell the user what is being done and why."""
    print(text, flush=True)


def run(folder: Path, jobs: list[str], workers: int | None) -> Findings:
    """Do the whole job; write `folder`/report.html, report.md, and the results they are made of."""
    from system.report import Material, write_report

    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    library = characterize(folder, workers)
    findings = Findings(library, results)
    for key in jobs:
        _run_job(JOBS[key], findings, workers)
    say(f"\nWriting {folder}/report.html and report.md.")
    write_report(Material.read([*findings.files, folder / "library.h5"]), folder / "report.html")
    return findings


def characterize(folder: Path, workers: int | None) -> Library:
    """Characterise both circuits with the default device and technology."""
    say(
        "1. Characterising the circuits: ngspice simulates the 6T2M ACAM cell, the 1T1R crossbar "
        "column and the read-out,\n   transistor by transistor, and the results become look-up "
        "tables (simulations done before come from the cache)."
    )
    device, technology = load_parameters("taox", "lp16", [])
    library = Library.from_spice(device, technology, workers=workers, progress="   ngspice")
    library.to_hdf5(folder / "library.h5")
    library = Library.from_hdf5(folder / "library.h5")
    say(f"   {folder}/library.h5 written.")
    return library


def _run_job(job: Job, findings: Findings, workers: int | None) -> None:
    library = findings.library
    rows = library.technology.column.rows
    networks = [load_network(name, tile_rows=rows) for name in job.names]
    say(
        f"\n2. Running {networks[-1].name} on these tables, from exact arithmetic to noisy silicon "
        f"({job.samples} test samples, {job.chips} programmed chips)."
    )
    for network in networks:
        for mode in MODES:
            result = evaluate(network, library, mode=mode, samples=job.samples, chips=job.chips)
            findings.results.append(result)
            findings.keep(f"infer-{network.name}-{mode}", result.to_dict())
            say(f"   {result}")
    network = networks[-1]
    if network.metric == "perplexity":
        _generate(network, findings)
    say(
        "3. Checking the tables against ngspice: columns and ACAM searches of a noisy inference "
        f"of {network.name},\n   with the conductances that were programmed, are simulated again "
        "transistor by transistor."
    )
    reports = validation.validate(
        network,
        library,
        samples=job.replayed,
        layers=list(job.layers) if job.layers else None,
        sampling=SAMPLING,
        workers=workers,
    )
    command = f"nldpe validate {network.name} --library library.h5 --samples {job.replayed}"
    content = {"model": network.name, "seed": 0, "library_sha256": library.sha256}
    findings.keep(f"validate-{network.name}", {**content, **validation.to_dict(reports, command)})
    say(validation.to_table(reports))


def _generate(network: Network, findings: Findings) -> None:
    prompt = LLM_PROMPT if network.name == "smollm2-135m" else PROMPT
    for mode in ("float", "noisy"):
        ops = make_ops(network, findings.library, mode, Chip())
        text = "".join(generate(network, ops, prompt, tokens=30))
        findings.keep(
            f"generate-{network.name}-{mode}",
            to_dict(network, mode, prompt, text, findings.library.sha256),
        )
        say(f"   {mode}: {prompt}{text}")
