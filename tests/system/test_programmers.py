"""Layers that several processes program are those that one programs."""

import numpy as np
import pytest

from circuits.errors import ParameterError
from system import programmers
from system.chip_store import ChipStore
from system.engine import make_ops
from system.hardware import Chip
from system.inference import Execution, arithmetic
from system.linear import AnalogLinear
from system.programmers import program_ahead
from tests.behavioral.standin import make_library
from tests.system.tiny_llama import tiny_network

LIBRARY, TOKENS = make_library(), np.arange(12)[None]


def test_two_processes_program_the_same_bits(tmp_path, monkeypatch):
    network = tiny_network(LIBRARY.technology.column.rows)
    alone = make_ops(network, LIBRARY, "noisy", Chip(3))
    wanted = network.model.forward(TOKENS, alone)
    ops = make_ops(network, LIBRARY, "noisy", Chip(3))
    ops.store = ChipStore(tmp_path, "same")
    program_ahead(ops, network.model, 2)
    assert len(list(tmp_path.glob("*.h5"))) == len(alone.layers)
    monkeypatch.setattr(AnalogLinear, "__init__", None)  # nothing is programmed here
    np.testing.assert_array_equal(network.model.forward(TOKENS, ops), wanted)
    program_ahead(ops, network.model, 2)


def test_the_largest_layers_are_programmed_first(tmp_path, monkeypatch):
    network, sizes = tiny_network(LIBRARY.technology.column.rows), []

    def note(perform, tasks, *others):
        sizes.extend(tensors[f"{name}.weight"].size for name, _, tensors, _ in tasks)
        return iter(())

    monkeypatch.setattr(programmers, "in_processes", note)
    ops = make_ops(network, LIBRARY, "noisy", Chip(3))
    ops.store = ChipStore(tmp_path, "same")
    program_ahead(ops, network.model, 2)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1


@pytest.mark.parametrize("choice", [{"workers": 2}, {"stream": True}])
def test_processes_need_a_folder(choice):
    network = tiny_network(LIBRARY.technology.column.rows)
    with pytest.raises(ParameterError, match="--chips-dir"):
        arithmetic(network, LIBRARY, "noisy", Chip(), execution=Execution(**choice))
