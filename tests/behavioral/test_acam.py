"""Windows, programmed ACAM units and their kernels."""

import dataclasses
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavioral.acam import AcamModel, Windows
from behavioral.kernels import acam as kernels
from behavioral.kernels import conversion, steps
from behavioral.kernels.steps import CELLS, INSIDE
from behavioral.overlap import Overlap
from circuits.errors import ParameterError, TableRangeError
from circuits.parameters import Device, Technology
from tests import naive

AXIS = np.geomspace(2e-9, 165e-6, 61)
TAOX = Device.from_toml("taox")


def ekv_threshold(g):
    """Three-parameter fit of the 16 nm cell, circuits-facts 5: 1.0 to 2.8 mV rms."""
    return 0.744 + 2 * 0.0367 * np.log(np.expm1(np.sqrt(g / 16.7e-6)))


@pytest.fixture(scope="module")
def model():
    """Stand-in curves whose two bounds differ by 10 mV, on the published device."""
    return AcamModel(AXIS, ekv_threshold(AXIS), ekv_threshold(AXIS) + 0.01, TAOX)


@pytest.fixture(scope="module")
def identity():
    return Windows.from_function(lambda x: x, (0.0, 1.0))


def quantise(x, bits=8):
    return np.floor(np.clip(x, 0, 1) * (2**bits - 1) + 0.5).astype(int)


def test_conductances_hit_wanted_thresholds_off_the_grid(model):
    """Held-out positions through the closed-form law: at most 0.1 LSB of span / 256."""
    u = np.random.default_rng(1).uniform(0, 1, 500)
    error = ekv_threshold(model.conductance(u)) - model.voltage(u)
    assert np.abs(error).max() < 0.1 * (model.v_hi - model.v_lo) / 256


def test_thresholds_follow_the_characterised_curve(model):
    g = np.geomspace(1e-8, 150e-6, 97)
    span = model.v_hi - model.v_lo
    np.testing.assert_allclose(
        model.threshold(g, "upper"), ekv_threshold(g) + 0.01, rtol=0, atol=0.1 * span / 256
    )


def test_thresholds_outside_the_axis_are_refused(model):
    with pytest.raises(TableRangeError, match="characterise"):
        model.threshold([1e-3])


def test_ideal_units_reproduce_the_quantised_function(model, identity):
    """Beyond 1e-3 LSB from an edge every code is exact: conductances are single precision."""
    unit = model.program(*identity.on_data_line(), identity.bit, 8, noise=False)
    u = (np.arange(4096, dtype=np.float32)[:, None] + 0.5) / 4096
    codes, clipped = model.convert(unit, u)
    edge = np.abs((u * 255 + 0.5) - np.round(u * 255 + 0.5)) < 1e-3
    np.testing.assert_array_equal(codes[~edge], quantise(u)[~edge])
    assert clipped == 0
    assert np.count_nonzero(~edge) > 0.99 * u.size


def test_ideal_units_share_one_table(model, identity):
    unit = model.program(*identity.on_data_line(), identity.bit, 8, noise=False, columns=7)
    assert unit.table.shape == (1, CELLS, 2)
    codes, _ = model.convert(unit, np.full((3, 7), 0.503, np.float32))
    assert np.all(codes == 128)


@pytest.mark.parametrize(
    ("bits", "gray", "equal", "near"),
    [(8, True, 0.999, 0.9999), (9, True, 0.995, 0.999), (8, False, 0.995, 0.998)],
)
def test_step_tables_agree_with_the_search(model, bits, gray, equal, near):
    """99.9 % shall be equal or adjacent in Gray code; binary codes jump at twice as many edges."""
    w = Windows.from_function(lambda x: x, (0.0, 1.0), bits=bits, gray=gray)
    unit = model.program(*w.on_data_line(), w.bit, bits, columns=64, seed=4, gray=gray)
    u = np.random.default_rng(2).uniform(-0.01, 1.01, (2000, 64)).astype(np.float32)
    u[:2] = [[0.0], [1.0]]  # the ends of the line are exact
    codes, exact = model.convert(unit, u)[0].astype(int), model.search(unit, u).astype(int)
    np.testing.assert_array_equal(codes[:2], exact[:2])
    assert unit.table.nbytes == 64 * 4096
    assert np.mean(codes == exact) > equal
    assert np.mean(np.abs(codes - exact) <= 1) > near


@pytest.mark.parametrize("copies", [2, 4, 16])
def test_sums_of_crowded_units_stay_close_to_the_search(model, identity, copies):
    """A cell keeps three of up to a hundred edges: 99.9 % within one code of the mean, 0.1 rms."""
    rows, options = (*identity.on_data_line(), identity.bit, 8), {"columns": 32}
    unit = model.program(*rows, seed=3, copies=copies, **options)
    u = np.random.default_rng(2).uniform(0, 1, (1000, 32)).astype(np.float32)
    parts = [model.program(*rows, seed=(3, k) if k else 3, **options) for k in range(copies)]
    exact = sum(model.search(part, u).astype(int) for part in parts)
    error = (model.convert(unit, u)[0].astype(int) - exact) / copies
    assert np.mean(np.abs(error) <= 1) > 0.999
    assert np.sqrt(np.mean(error**2)) < 0.1


@pytest.mark.parametrize(
    ("g_us", "s_th_mv"), [(0.1, 0.67), (1, 1.90), (2, 2.60), (5, 1.95), (10, 1.95), (50, 0.87)]
)
def test_threshold_noise_equals_the_published_figures(g_us, s_th_mv):
    """papers.md A.3: sigma of TH(G) = exp(.5007 ln G - 3.75612) + .68358 V; 4000 draws, 4 %."""

    def published(g):
        return np.exp(0.50070001 * np.log(g * 1e6) - 3.75611608) + 0.68358110

    axis = np.geomspace(5e-10, 165e-6, 200)
    model = AcamModel(axis, published(axis), published(axis), TAOX)
    target = (published(g_us * 1e-6) - model.v_lo) / (model.v_hi - model.v_lo)
    unit = model.program([[target]], [[np.inf]], [0], 1, columns=4000, seed=5)
    sigma = np.std(unit.lo * (model.v_hi - model.v_lo)) * 1e3
    np.testing.assert_allclose(sigma, s_th_mv, rtol=0.04)


def test_noise_scales_with_its_knob(model):
    spread = [
        np.std(model.program([[0.8]], [[2.0]], [0], 1, columns=500, seed=1, noise=k).lo)
        for k in (0.5, 1.0)
    ]
    np.testing.assert_allclose(spread[1] / spread[0], 2.0, rtol=0.05)


def test_open_bounds_carry_no_device_and_no_noise(model):
    unit = model.program([[-1.0, 0.0]], [[0.5, 1.0]], [0, 1], 2, columns=9, keep_conductances=True)
    assert np.all(unit.lo == -np.inf)
    assert np.all(unit.hi[:, 1] == np.inf)
    assert np.all(unit.g_lo == 0)
    assert np.all(unit.g_hi[:, 0] > 0)
    assert np.ptp(unit.hi[:, 0]) > 0


def test_crossed_and_outside_windows_are_empty(model):
    unit = model.program([[0.5, 1.2, -1.0]], [[0.4, 2.0, -0.5]], [0, 1, 2], 3, noise=False)
    assert unit.empty_rows == 3
    assert not unit.table[..., 1].any()


def test_stuck_devices_disable_rows(model, identity):
    """A row survives when neither of its devices is stuck: (1 - rate)**2 for closed rows."""
    sick = AcamModel(
        AXIS,
        ekv_threshold(AXIS),
        ekv_threshold(AXIS),
        dataclasses.replace(TAOX, stuck_off_rate=0.04),
    )
    unit = sick.program([[0.3]], [[0.7]], [0], 1, columns=4000, seed=2)
    np.testing.assert_allclose(unit.empty_rows / 4000, 1 - 0.96**2, atol=0.012)
    healthy = model.program([[0.3]], [[0.7]], [0], 1, columns=4000, seed=2)
    assert healthy.empty_rows == 0


def test_same_seed_same_bits_on_any_thread_count(model, identity):
    u = np.random.default_rng(3).uniform(-0.1, 1.1, (600, 64)).astype(np.float32)
    results = []
    before = numba.get_num_threads()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        unit = model.program(*identity.on_data_line(), identity.bit, 8, columns=64, seed=(1, 2))
        results.append((unit.table, *model.convert(unit, u)))
    numba.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("spare_rows", [0, 2])
def test_copies_are_units_of_their_own_whose_codes_are_added(identity, spare_rows):
    """Each copy has other stuck devices, and other rows stand in for them."""
    sick = AcamModel(
        AXIS, ekv_threshold(AXIS), ekv_threshold(AXIS) + 0.01,
        dataclasses.replace(TAOX, stuck_off_rate=0.02),
    )  # fmt: skip
    sick.spare_rows = spare_rows
    rows, options = (*identity.on_data_line(), identity.bit, 8), {"columns": 70}
    whole = sick.program(*rows, seed=(1, 2), copies=3, **options)
    keys = [(1, 2), (1, 2, 1), (1, 2, 2)]
    units = [sick.program(*rows, seed=key, **options) for key in keys]
    u = np.random.default_rng(1).uniform(0, 1, (50, 70)).astype(np.float32)
    exact = sum(sick.search(unit, u).astype(int) for unit in units)
    assert np.mean(np.abs(sick.convert(whole, u)[0] - exact) <= 3) > 0.999
    assert whole.top == 3 * 255
    assert whole.stuck_devices == units[0].stuck_devices
    np.testing.assert_array_equal(whole.lo, units[0].lo)


def test_other_seeds_give_other_chips(model, identity):
    rows = (*identity.on_data_line(), identity.bit, 8)
    tables = [model.program(*rows, seed=(1, chip)).table for chip in (0, 1)]
    assert np.any(tables[0] != tables[1])


def test_out_of_range_inputs_clip_and_are_counted(model, identity):
    unit = model.program(*identity.on_data_line(), identity.bit, 8, noise=False)
    codes, clipped = model.convert(unit, [[-0.5], [0.0], [1.0], [1.5], [np.inf], [-np.inf]])
    assert codes.ravel().tolist() == [0, 0, 255, 255, 255, 0]
    assert clipped == 4


def test_nan_is_refused(model, identity):
    unit = model.program(*identity.on_data_line(), identity.bit, 8, noise=False)
    for convert in (model.convert, model.search):
        with pytest.raises(ParameterError, match="NaN"):
            convert(unit, [[0.5], [np.nan]])
    with pytest.raises(ParameterError, match="NaN"):
        model.program([[np.nan]], [[1.0]], [0], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bit": [0, 0]}, "must be"),
        ({"bit": [3]}, "bits 3 to 3"),
        ({"bits": 40}, "1 to 16"),
        ({"bits": 15, "copies": 3}, "1 to 2 add up"),
        ({"columns": 0}, "columns"),
    ],
)
def test_rows_that_do_not_fit_are_refused(model, change, message):
    rows = {"lo": [[0.1]], "hi": [[0.9]], "bit": [0], "bits": 2} | change
    with pytest.raises(ParameterError, match=message):
        model.program(**rows)


def test_wrong_input_shapes_are_refused(model):
    unit = model.program([[0.1]], [[0.9]], [0], 2, noise=False, keep_thresholds=False)
    with pytest.raises(ParameterError, match=r"takes \(batch, 1\)"):
        model.convert(unit, [[0.5, 0.5]])
    with pytest.raises(ParameterError, match="keep_thresholds"):
        model.search(unit, [[0.5]])


def test_libraries_give_the_model_of_their_technology():
    """One match line turns the overlap on; the read-out bounds the data line."""
    technology = Technology.from_toml("lp16")
    share = np.tile(np.exp(-np.array([0.0, 5.0, 40.0])), (AXIS.size, 1))
    data = SimpleNamespace(
        g=AXIS,
        lower_v=ekv_threshold(AXIS),
        upper_v=ekv_threshold(AXIS) + 0.01,
        lower_static_v=ekv_threshold(AXIS) + 0.1,
        upper_static_v=ekv_threshold(AXIS) + 0.1,
        overlap_offset_v=np.array([0.0, 0.02, 0.1]),
        lower_overlap=share,
        upper_overlap=share,
    )
    for lines in (1, 2):
        cell = dataclasses.replace(technology.acam, match_lines=lines)
        readout = dataclasses.replace(technology.readout, v_dl_lo_v=0.6, v_dl_hi_v=0.9)
        both = dataclasses.replace(technology, acam=cell, readout=readout)
        library = SimpleNamespace(acam=data, device=TAOX, technology=both)
        model = AcamModel.from_library(library)
        assert (model.overlap is not None) == (lines == 1)
        assert (model.v_lo, model.v_hi) == (0.6, 0.9)
    static = AcamModel.from_library(library, "static")
    assert static.conductance(0.5) < model.conductance(0.5)
    with pytest.raises(ParameterError, match="'dynamic' or 'static'"):
        AcamModel.from_library(library, "fast")


def test_curves_that_do_not_cover_the_device_are_refused():
    short = AXIS[AXIS > 1e-6]
    with pytest.raises(ParameterError, match="characterise this device"):
        AcamModel(short, ekv_threshold(short), ekv_threshold(short), TAOX)
    with pytest.raises(ParameterError, match="increasing"):
        AcamModel(AXIS, -ekv_threshold(AXIS), ekv_threshold(AXIS), TAOX)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 4)),
    bits=st.sampled_from([1, 3, 8, 10]),
    gray=st.booleans(),
    rows=st.integers(0, 6),
    seed=st.integers(0, 2**32),
)
def test_kernels_equal_their_twins(shape, bits, gray, rows, seed):
    """Empty and shared rows, crossed, open and far-away bounds; integers, so exactly equal."""
    rng = np.random.default_rng(seed)
    batch, columns = shape
    lo = rng.choice([-np.inf, -3e38, 0.0, 0.5, 1.0, 3e38, np.inf], (columns, rows))
    lo = np.where(rng.random(lo.shape) < 0.6, rng.uniform(-0.2, 1.2, lo.shape), lo)
    lo, hi = lo.astype(np.float32), rng.permutation(lo.ravel()).reshape(lo.shape)
    hi = hi.astype(np.float32)
    bit = rng.integers(0, bits, rows)
    table = np.zeros((columns, 33), np.uint16)
    kernels.compile_levels(lo, hi, bit, gray, table)
    np.testing.assert_array_equal(table, naive.compile_levels(lo, hi, bit, gray, 33))
    u = rng.uniform(-0.5, 1.5, (batch, columns)).astype(np.float32)
    out = np.empty(u.shape, np.uint16)
    kernels.search(lo, hi, bit, gray, u, out)
    expected = [naive.search(lo[j], hi[j], bit, gray, u[:, j]) for j in range(columns)]
    np.testing.assert_array_equal(out, np.transpose(expected).reshape(u.shape))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    bits=st.sampled_from([1, 3, 8, 10, 16]),
    gray=st.booleans(),
    rows=st.integers(0, 40),
    seed=st.integers(0, 2**32),
)
def test_step_tables_equal_their_twin(shape, bits, gray, rows, seed):
    """Edges at the same place, at the ends and crowded into one cell; integers, exactly equal."""
    rng, columns = np.random.default_rng(seed), shape[1]
    copies = shape[0] if bits < 16 else 1  # whose codes add up to 16 bits
    bounds = rng.choice([-np.inf, 0.0, 0.25, 0.5, 1.0, np.inf], (copies, 2, columns, rows))
    near = rng.choice([rng.uniform(-0.2, 1.2), 0.5]) + rng.normal(0, 1e-3, bounds.shape)
    anywhere = rng.uniform(-0.2, 1.2, bounds.shape)
    kind = rng.integers(0, 4, bounds.shape)
    bounds = np.choose(kind, [bounds, near, anywhere, anywhere]).astype(np.float32)
    bit, table = rng.integers(0, bits, rows), np.empty((columns, CELLS, 2), np.int64)
    steps.compile_steps(bounds, bit, gray, table)
    expected = naive.compile_steps(bounds, bit, gray)
    for cells, kept in zip(table, expected, strict=True):
        for cell, own in zip(cells, kept, strict=True):
            found = naive.unpack(cell)
            for place in {place for place, _ in (*own, *found)}:
                assert naive.code_at(found, place) == naive.code_at(own, place)


def step_tables(rng, columns, top=256):
    """Tables of codes that rise on average, with up to three edges a cell."""
    codes = np.sort(rng.integers(0, top, (columns, 4 * CELLS)), axis=1).reshape(columns, CELLS, 4)
    edges = np.sort(rng.integers(1, INSIDE, (columns, CELLS, 3)), axis=2)
    words = np.zeros((columns, CELLS, 2, 4), np.uint16)
    words[..., 0, :3], words[..., 1, :] = edges, codes
    return words.view(np.int64)[..., 0]


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 5),
    columns=st.integers(1, 150),
    shared=st.booleans(),
    kind=st.sampled_from([np.uint8, np.float32]),
    bottom=st.sampled_from([np.float32(0), np.float32(-np.inf)]),
    seed=st.integers(0, 2**32),
)
def test_conversion_equals_its_twin(batch, columns, shared, kind, bottom, seed):
    rng = np.random.default_rng(seed)
    table = step_tables(rng, 1 if shared else columns)
    y = (rng.integers(-512, 512, (batch, columns)) / 256).astype(np.float32)
    y[rng.random(y.shape) < 0.1] = 3e38
    scale, shift = (rng.integers(-8, 8, (2, columns)) / 8).astype(np.float32)  # positions are exact
    line, ends = np.stack([scale, shift]), rng.normal(size=(2, columns)).astype(np.float32)
    if kind == np.uint8:
        ends[0], ends[1] = 0.0, 1.0
    expected, clipped = naive.convert(table, y, scale, shift, bottom, ends)
    out = y if kind == np.float32 else np.empty(y.shape, kind)
    with np.errstate(over="ignore"):  # float32 overflow of the extreme inputs is meant
        assert conversion.convert(table, y, line, bottom, ends, out) == clipped
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-5)  # values may be fused


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.integers(1, 150), st.booleans(), st.integers(0, 2**32))
def test_conversion_in_two_ranges_equals_its_twin(batch, columns, shared, seed):
    """The bounds of certainty are those of `certain`; values may be fused."""
    rng = np.random.default_rng(seed)
    coarse, fine = (step_tables(rng, 1 if shared else columns) for _ in range(2))
    y = (rng.integers(-512, 1536, (batch, columns)) / 1024).astype(np.float32)
    one, nothing = np.ones(columns, np.float32), np.zeros(columns, np.float32)
    line = np.stack([one, nothing, 3 * one, -one])  # the middle third
    ends = np.stack([nothing, one / 255, nothing, one / 765])
    inside, run = np.stack([one / 3, 2 * one / 3]), np.empty((2, columns), np.int64)
    middle = np.full(columns, CELLS // 2)
    conversion.certain(coarse, ends[0], ends[1], *inside, middle, run)
    assert np.array_equal(run, naive.certain(coarse, ends[0], ends[1], *inside, middle))
    sure = ((run + np.array([[0.1], [-0.1]])) / CELLS).astype(np.float32)
    zero = np.float32(0)
    expected, clipped = naive.convert_ranges(coarse, fine, y, line, zero, ends, inside)
    found = conversion.convert_ranges(coarse, fine, y, line, zero, ends, inside, sure)
    assert found == clipped
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def test_non_contiguous_and_double_inputs_are_taken(model, identity):
    unit = model.program(*identity.on_data_line(), identity.bit, 8, noise=False, columns=3)
    wide = np.linspace(0, 1, 24).reshape(4, 6)
    np.testing.assert_array_equal(
        model.convert(unit, wide[:, ::2])[0], model.convert(unit, wide[:, ::2].copy())[0]
    )


def test_affine_and_values_are_one_pass(model, identity):
    unit = model.program(*identity.on_data_line(), identity.bit, 8, noise=False, columns=2)
    y = np.array([[1.0, -4.0], [3.0, 2.0]], np.float32)
    codes, _ = model.convert_affine(unit, y, [0.25, 0.11], [0.0, 0.5])
    np.testing.assert_array_equal(codes, quantise(y * [0.25, 0.11] + [0.0, 0.5]))
    values, _ = model.convert_values(unit, y, [0.25, 0.11], [0.0, 0.5])
    np.testing.assert_allclose(values, codes / 255, rtol=1e-6)


@pytest.fixture(scope="module")
def overlap():
    """Both halves fall off by e every 4 mV: edges have a closed form."""
    offsets = np.array([0.0, 1, 2, 4, 7, 12, 20, 35, 60, 100]) * 1e-3
    share = np.tile(np.exp(-offsets / 4e-3), (AXIS.size, 1))
    return Overlap.from_curves(
        ekv_threshold(AXIS), ekv_threshold(AXIS) + 0.01, offsets, share, share
    )


def test_overlap_shrinks_windows_as_the_closed_form_says(overlap):
    """exp(-x/s) + exp(-(d-x)/s) = 1 gives a width of 2 s arccosh(exp(d / 2s) / 2)."""
    s = 4e-3
    np.testing.assert_allclose(overlap.least, 2 * s * np.log(2), rtol=1e-3)
    t = np.linspace(0, 1, overlap.narrow.shape[2])
    d = overlap.least[9] + t**2 * (overlap.width_max - overlap.least[9])
    width = 2 * s * np.arccosh(np.maximum(np.exp(d / (2 * s)) / 2, 1.0))
    np.testing.assert_allclose(overlap.narrow[0, 9], (d - width) / 2, rtol=0, atol=3e-5)


def test_programming_compensates_overlap(overlap, identity):
    """Ideal cells: effective edges lie within 0.02 LSB of the wanted ones."""
    model = AcamModel(AXIS, ekv_threshold(AXIS), ekv_threshold(AXIS) + 0.01, TAOX, overlap)
    lo, hi = identity.on_data_line()
    unit = model.program(lo, hi, identity.bit, 8, noise=False)
    closed = (lo > 0) & (hi < 1)
    np.testing.assert_allclose(unit.lo[closed], lo[closed], rtol=0, atol=0.02 / 256)
    np.testing.assert_allclose(unit.hi[closed], hi[closed], rtol=0, atol=0.02 / 256)


def test_noise_empties_narrow_overlapping_windows(overlap, model):
    """A 1 mV window loses its match where noise pulls the two thresholds together."""
    narrow = ([[0.3]], [[0.3 + 1e-3 / (model.v_hi - model.v_lo)]], [0], 1)
    shared = AcamModel(AXIS, ekv_threshold(AXIS), ekv_threshold(AXIS) + 0.01, TAOX, overlap)
    empty = shared.program(*narrow, columns=500, seed=3).empty_rows / 500
    assert 0.2 < empty < 0.8


def test_overlap_tables_of_other_shapes_are_refused():
    with pytest.raises(ParameterError, match="overlap of shape"):
        Overlap.from_curves(AXIS, AXIS, [0.0, 1.0], np.ones((3, 2)), np.ones((3, 2)))
