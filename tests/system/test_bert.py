"""BERT against Hugging Face transformers: random weights, and the published MiniLM."""

import numpy as np
import pytest

from circuits.errors import CheckpointError, ParameterError
from system.models.bert import Bert, BertConfig
from system.models.ops import FloatOps
from system.weights.checkpoint import load_checkpoint

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
LENGTHS = np.array([40, 17, 1])
MASK = np.arange(40) < LENGTHS[:, None]
RNG = np.random.default_rng(5)
TOKENS = RNG.integers(0, SIZES["vocab_size"], (3, 40))
TYPES = RNG.integers(0, 2, (3, 40))


def oracle(kind: str, folder, **changes):
    """Return transformers' model with random weights, saved in a folder, and ours loaded there."""
    import torch
    import transformers

    torch.manual_seed(0)
    theirs = getattr(transformers, kind)(transformers.BertConfig(**SIZES | changes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.15 if parameter.ndim > 1 else 1.0)
    theirs.save_pretrained(folder)
    return theirs, load_checkpoint(folder).build()


def run(theirs):
    """Return the outputs of transformers' model for the padded batch."""
    import torch

    texts = (TOKENS, MASK.astype(np.int64), TYPES)
    with torch.no_grad():
        return theirs(*(torch.from_numpy(x) for x in texts))


@pytest.mark.parametrize(
    "changes", [{}, {"hidden_act": "gelu_new", "num_labels": 3}, {"hidden_act": "relu"}]
)
def test_a_classifier_of_transformers_loads_and_agrees(changes, tmp_path):
    """1e-5 of the largest logit: float32 in another order of summation."""
    theirs, ours = oracle("BertForSequenceClassification", tmp_path, **changes)
    wanted = run(theirs).logits.numpy()
    logits = ours.forward(TOKENS, FloatOps(ours.tensors), MASK, TYPES)
    assert logits.dtype == np.float32
    assert logits.shape == (3, changes.get("num_labels", 2))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_an_encoder_of_transformers_loads_and_agrees(tmp_path):
    """All tokens of all texts, then their means over the text, to 1e-5 of the largest value."""
    theirs, ours = oracle("BertModel", tmp_path)
    wanted = run(theirs).last_hidden_state.numpy()
    ops = FloatOps(ours.tensors)
    hidden = ours.encode(TOKENS, ops, MASK, TYPES)
    top = np.abs(wanted).max()
    np.testing.assert_allclose(hidden, wanted, rtol=0, atol=1e-5 * top)
    means = [text[:n].mean(axis=0) for text, n in zip(wanted, LENGTHS, strict=True)]
    found = ours.forward(TOKENS, ops, MASK, TYPES)
    np.testing.assert_allclose(found, means, rtol=0, atol=1e-5 * top)


def test_heads_for_pretraining_are_left_out(tmp_path):
    theirs, ours = oracle("BertForMaskedLM", tmp_path)
    wanted = run(theirs.bert).last_hidden_state.numpy()
    hidden = ours.encode(TOKENS, FloatOps(ours.tensors), MASK, TYPES)
    np.testing.assert_allclose(hidden, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.fixture(scope="module")
def model() -> Bert:
    config = BertConfig.from_dict({**SIZES, "classes": 2})
    rng = np.random.default_rng(4)
    shapes = config.shapes().items()
    return Bert(config, {name: rng.normal(0, 0.2, s).astype(np.float32) for name, s in shapes})


def test_what_fills_up_a_short_text_does_not_matter(model):
    ops = FloatOps(model.tensors)
    batch = model.forward(TOKENS, ops, MASK)
    other = np.where(MASK, TOKENS, 7)
    np.testing.assert_array_equal(model.forward(other, ops, MASK), batch)
    alone = model.forward(TOKENS[1:2, :17], ops)
    np.testing.assert_allclose(alone[0], batch[1], rtol=0, atol=1e-5 * np.abs(batch).max())


def test_later_tokens_change_earlier_ones(model):
    ops = FloatOps(model.tensors)
    everywhere = np.ones((1, 10), bool)
    changed = TOKENS[:1, :10].copy()
    changed[0, 9] = (changed[0, 9] + 1) % 97
    before, after = (model.encode(t, ops, everywhere) for t in (TOKENS[:1, :10], changed))
    assert np.abs(before - after)[0, 0].max() > 1e-3


@pytest.mark.parametrize(
    ("mask", "types", "message"),
    [
        (MASK[:2], None, "needs their shape"),
        (MASK & (LENGTHS[:, None] > 1), None, "at least one token in every text"),
        (MASK, TYPES[:, :3], "token_types must be"),
        (MASK, TYPES + 1, "numbers from 0 to 1"),
    ],
)
def test_masks_and_segments_that_do_not_fit_are_refused(model, mask, types, message):
    with pytest.raises(ParameterError, match=message):
        model.forward(TOKENS, FloatOps(model.tensors), mask, types)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "must be a multiple of num_attention_heads 5"),
        ({"hidden_size": "wide"}, "must be positive whole numbers"),
        ({"hidden_act": "mish"}, "'mish' is not supported: gelu"),
        ({"pooling": "max"}, "'max' is not supported: mean, pooler"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' is not supported"),
    ],
)
def test_a_config_that_is_no_bert_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        BertConfig.from_dict({**SIZES, **changes})


def test_an_incomplete_config_is_refused():
    with pytest.raises(CheckpointError, match=r"not a BERT's.*vocab_size"):
        BertConfig.from_dict({k: v for k, v in SIZES.items() if k != "vocab_size"})


def test_minilm_of_the_package_agrees_with_transformers():
    """The published weights and tokenizer, three texts in one padded batch.

    Theirs in float64: in float32 it is itself 1.02e-5 of the largest output off at the padding.
    """
    import torch
    import transformers

    from system.data.fetch import fetch
    from system.networks import load_network
    from system.weights import zoo

    texts = ["The man is eating a meal.", "x", "It is a truth universally acknowledged " * 9]
    folder = fetch(zoo.MINILM)
    theirs = transformers.BertModel.from_pretrained(folder).double().eval()
    network = load_network("minilm-l6", tile_rows=None)
    tokens = network.encode_texts(texts)
    mask = tokens >= 0
    ids = np.where(mask, tokens, 0)
    batch = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]"
    )(texts, padding="longest", truncation=False)
    np.testing.assert_array_equal(ids, batch["input_ids"])
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)))
    found = network.model.encode(ids, FloatOps(network.model.tensors), mask)
    hidden = wanted.last_hidden_state.numpy()
    np.testing.assert_allclose(found, hidden, rtol=0, atol=1e-5 * np.abs(hidden).max())


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "tanh", "silu", "sigmoid", "relu", "relu6"])
def test_activations_are_torchs_in_float_and_in_windows(name):
    """Float arithmetic and the functions that ACAM windows are made of, to float32 rounding."""
    import torch
    from torch.nn import functional as F

    from system.layer_spec import FUNCTIONS
    from system.models.ops import activate

    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    named = {
        "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }
    wanted = named.get(name, getattr(F, name, None))(torch.from_numpy(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(FUNCTIONS[name](x.astype(np.float64)), wanted, rtol=0, atol=1e-14)
    np.testing.assert_allclose(activate(x.copy(), name), wanted, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_gelu_units_have_the_published_number_of_rows(name):
    """papers.md A.4: 132 rows in Gray code at 8 bits; the tanh form needs as many."""
    from behavioral.windows import Windows
    from system.layer_spec import FUNCTIONS

    assert Windows.from_function(FUNCTIONS[name], (-8.0, 8.0), bits=8).rows == 132


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "tanh"])
def test_what_counts_as_flat_is_less_than_a_code(name):
    """Half a code of a range of 1 is 1/510: beyond the flat ends outputs differ by less."""
    from system.layer_spec import FLAT_ABOVE, FLAT_BELOW, FUNCTIONS

    f = FUNCTIONS[name]
    assert np.ptp(f(np.linspace(-30.0, FLAT_BELOW[name], 500))) < 1 / 510
    if name in FLAT_ABOVE:
        assert np.ptp(f(np.linspace(FLAT_ABOVE[name], 30.0, 500))) < 1 / 510


@pytest.mark.parametrize(("bits", "share"), [(8, 0.05), (10, 0.015)])
def test_masked_attention_by_log_codes_is_exact_but_for_their_rounding(bits, share):
    """Oracle: torch. A log step of ln 2 / 31 is 1.1 % rms per factor at 8 bits."""
    import torch
    from torch.nn import functional as F

    from behavioral.products import ProductModel
    from system.attention import AnalogAttention, AnalogCache

    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(3, 4, 40, 16)).clip(-4.5, 4.5).astype(np.float32) for _ in range(3))
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    wanted = F.scaled_dot_product_attention(
        *tensors, attn_mask=torch.from_numpy(MASK[:, None, None])
    ).numpy()
    exact = FloatOps({}).attention("a", q, k, v, None, MASK)
    np.testing.assert_allclose(exact, wanted, rtol=0, atol=1e-5)
    ranges = {f"a.{key}": np.full(4, 4.5, np.float32) for key in "qkv"}
    unit = AnalogAttention("a", ProductModel.program(None, bits=bits), ranges)
    found = unit.forward(q, k, v, AnalogCache(), MASK)
    assert np.abs(found - wanted).std() < share * wanted.std()
    other = np.where(MASK[:, None, :, None], v, np.float32(4.0))
    changed = unit.forward(q, k, other, AnalogCache(), MASK)
    np.testing.assert_array_equal(changed, found)


@pytest.fixture(scope="module")
def network(model):
    from system.calibration import calibrate
    from system.networks import Network
    from system.quantization import Mapping
    from system.weights.checkpoint import Checkpoint

    mapping = Mapping(weight_scale="column", output_range="column", output_margin=0.25)
    ranges = calibrate(model.tensors, lambda ops: model.forward(TOKENS, ops), mapping, 256)
    config = {"model_type": "bert", **SIZES, "classes": 2}
    return Network("small", model, Checkpoint(config, model.tensors), mapping, ranges)


@pytest.mark.parametrize(("mode", "share"), [("quantized", 0.1), ("ideal-analog", 0.2)])
def test_modes_without_noise_stay_near_float(network, mode, share):
    """As for the small Llama: three blocks of 8-bit layers, log codes round by 1.1 % rms."""
    from system.engine import make_ops
    from system.hardware import Chip
    from tests.behavioral.standin import make_library

    exact = network.model.encode(TOKENS, FloatOps(network.model.tensors), MASK)
    found = network.model.encode(TOKENS, make_ops(network, make_library(), mode, Chip()), MASK)
    assert np.abs(found - exact)[MASK].std() < share * exact[MASK].std()
