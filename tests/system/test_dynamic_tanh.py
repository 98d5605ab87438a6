"""Dynamic Tanh in place of RMSNorm, against torch and on ACAM units."""

from dataclasses import replace

import numpy as np
import pytest

from behavioral.library import Library
from circuits.errors import CheckpointError
from system.engine import make_ops
from system.hardware import Chip
from system.models.llama import LlamaConfig
from system.models.ops import FloatOps
from tests.system.tiny_llama import CONFIG, tiny_network

DYNAMIC = replace(CONFIG, normalization="dynamic-tanh")
NAME = "model.layers.0.input_layernorm"


@pytest.fixture(scope="module")
def network():
    return tiny_network(256, DYNAMIC)


def test_a_llama_with_dynamic_tanh_equals_transformers_with_its_norms_replaced(network):
    """The module of Zhu et al., arXiv:2503.10622, algorithm 1; 1e-5 of the largest logit."""
    import torch
    from transformers import LlamaConfig as OracleConfig
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    class DynamicTanh(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.alpha = torch.nn.Parameter(torch.ones(1))
            self.weight, self.bias = (torch.nn.Parameter(torch.ones(width)) for _ in range(2))

        def forward(self, x):
            return torch.tanh(self.alpha * x) * self.weight + self.bias

    theirs = LlamaForCausalLM(OracleConfig(**DYNAMIC.to_dict())).eval()
    for name, module in list(theirs.named_modules()):
        if isinstance(module, LlamaRMSNorm):
            theirs.set_submodule(name, DynamicTanh(CONFIG.hidden_size))
    tensors = {k: v + 0.1 * np.sin(np.arange(v.size)).reshape(v.shape).astype("f4")
               for k, v in network.model.tensors.items() if k != "lm_head.weight"}  # fmt: skip
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False)
    tokens = np.random.default_rng(1).integers(0, CONFIG.vocab_size, (2, 9))
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(tokens)).logits.numpy()
    ours = type(network.model)(DYNAMIC, tensors)
    found = ours.forward(tokens, FloatOps(ours.tensors))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.ngspice
def test_the_tanh_comes_from_noisy_units_of_a_chip(network, quick_library):
    """Without noise half a code of input and half of output; alpha and slope are at most 1."""
    library, peak = Library.from_hdf5(quick_library), network.ranges[f"{NAME}.a"][0]
    x = peak * np.linspace(-1, 1, 32 * 40, dtype=np.float32).reshape(40, 32)
    exact = FloatOps(network.model.tensors).dynamic_tanh(NAME, x)

    def found(mode, index=0):
        return make_ops(network, library, mode, Chip(0, index)).dynamic_tanh(NAME, x)

    quantized, ideal, noisy = (found(m) for m in ("quantized", "ideal-analog", "noisy"))
    assert np.abs(quantized - exact).max() < (peak + 1) / 255
    np.testing.assert_allclose(ideal, quantized, atol=1e-6)
    assert 0 < np.sqrt(np.mean((noisy - ideal) ** 2)) < 0.1
    np.testing.assert_array_equal(found("noisy"), noisy)
    assert not np.array_equal(found("noisy", 1), noisy)


def test_the_choice_of_normalization_is_read_and_checked():
    assert LlamaConfig.from_dict(DYNAMIC.to_dict()) == DYNAMIC
    assert "normalization" not in CONFIG.to_dict()
    assert DYNAMIC.shapes()[f"{NAME}.alpha"] == (1,)
    with pytest.raises(CheckpointError, match="permitted: rms, dynamic-tanh"):
        LlamaConfig.from_dict({**CONFIG.to_dict(), "normalization": "layer"})
