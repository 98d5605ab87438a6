"""Measured errors put into a network, the waterfall, and layers entirely in ngspice."""

import dataclasses

import numpy as np
import pytest

from behavioral.library import Library
from circuits import plan
from circuits.errors import ParameterError
from system.commands.main import main
from system.hardware import Chip
from system.networks import load_network
from system.validation.agreement import LayerReport
from system.validation.full import run_full
from system.validation.injection import InjectedOps, Measured
from system.validation.replay import lsb
from system.validation.sampling import hardware_of, record
from system.validation.waterfall import RUNGS, draw, half_width, waterfall
from tests.system.replayed import code_errors, column_errors

pytestmark = pytest.mark.ngspice  # the library is measured


def report(name, errors, differences=(0,)):
    """Return a report whose natural column errors, one column, and codes are given."""
    columns = column_errors(np.array(errors)[:, None], np.zeros((len(errors), 1)), len(errors))
    n = len(differences)
    return LayerReport(name, [columns], [code_errors(differences, [1.0] * n, ["natural"] * n, 0.0)])


@pytest.fixture(scope="module")
def lenet(quick_library):
    return load_network("lenet-mnist-float", tile_rows=256), Library.from_hdf5(quick_library)


def injected(lenet, reports):
    network, library = lenet
    hardware = hardware_of(network, library)
    return InjectedOps(network.model.tensors, network.ranges, hardware, Chip(), reports=reports)


def test_errors_of_zero_change_no_bit(lenet):
    network, library = lenet
    images = network.samples(20).inputs
    ops = injected(lenet, [report("fc1", [0.0, 0.0])])
    before = network.model.forward(images, ops)
    ops.start(0)
    np.testing.assert_array_equal(network.model.forward(images, ops), before)
    plain = record(network, library, 20, Chip())
    np.testing.assert_array_equal(network.model.forward(images, plain), before)


def test_a_constant_error_is_taken_off_every_output(lenet):
    """Model minus ngspice is 2 LSB: ngspice would have given 2 LSB less."""
    ops = injected(lenet, [report("fc2", [2.0, 2.0])])
    layer = ops.layer("fc2", "relu")
    drive = layer.drive(np.random.default_rng(0).random((5, 120), np.float32))
    driven, outputs = layer._drive_tile(drive, 0), np.empty((2, 5, 84), np.float32)
    layer._read(driven, 0, slice(0, 84), 0, outputs[0])
    ops.start(0)
    layer._read(driven, 0, slice(0, 84), 0, outputs[1])
    shift = (outputs[1] - outputs[0]) / lsb(layer)
    np.testing.assert_allclose(shift, -2.0, atol=1e-3)


def test_every_column_follows_one_replayed_column():
    two = column_errors([[1.0, 5.0], [1.2, 5.2], [9.0, 9.0]], np.zeros((3, 2)), natural=2)
    measured = Measured(LayerReport("a", [two], [code_errors([0], [1], ["natural"], 0.0)]))
    rng = np.random.default_rng(0)
    columns = measured.columns(40, rng)
    drawn = measured.draw(columns, 100, rng)
    low, high = np.float32([1.0, 5.0])[columns], np.float32([1.2, 5.2])[columns]
    assert ((drawn == low) | (drawn == high)).all()
    assert {0, 1} == set(columns.tolist())
    assert (drawn == low).mean() == pytest.approx(0.5, abs=0.05)  # 4000 draws: 6 sigma


def test_codes_are_confused_as_often_as_measured():
    """One of four codes was 3 too high: binomial, 40,000 draws, six sigma."""
    measured = Measured(report("a", [0.0], [3, 0, 0, 0]))
    found = measured.wrong[False].draw((200, 200), np.random.default_rng(0))
    assert set(np.unique(found)) == {-3, 0}
    assert (found != 0).mean() == pytest.approx(0.25, abs=0.013)
    assert Measured(report("a", [0.0])).wrong[False].draw((2, 2), np.random.default_rng(0)) is None


def test_codes_of_each_range_are_confused_as_its_own_were():
    """The second range's codes were 7 too high, the first's right."""
    plain = report("a", [0.0])
    wrong = dataclasses.replace(plain.codes[0], ours=np.array([7]), fine=True)
    measured = Measured(dataclasses.replace(plain, codes=[*plain.codes, wrong]))
    rng = np.random.default_rng(0)
    assert measured.wrong[False].draw((3, 3), rng) is None
    assert (measured.wrong[True].draw((3, 3), rng) == -7).all()


def test_large_errors_show_in_the_waterfall_and_the_same_seed_gives_the_same(lenet, tmp_path):
    network, library = lenet
    rng = np.random.default_rng(0)
    reports = [report(n, rng.normal(0, 60, 50)) for n in ("conv1", "conv2", "fc1")]
    options = {"samples": 60, "chips": 2, "injections": 2}
    found = waterfall(network, library, reports, **options)
    assert [r.name for r in found.rungs] == list(RUNGS)
    assert found.rungs[-1].mean < found.rungs[-2].mean - 0.1
    total = found.rungs[0].mean + sum(r.change for r in found.rungs[1:])
    assert total == pytest.approx(found.rungs[-1].mean)
    assert found.shift == pytest.approx(-found.rungs[-1].change)
    assert found == waterfall(network, library, reports, **options)
    draw(found, tmp_path / "w.png")
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG")


def test_the_interval_is_students():
    """t(0.975, 2) = 4.3027 (any table); std of 1, 2, 3 is 1."""
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert half_width([1.0]) is None


def test_the_command_propagates_and_gates_on_the_shift(quick_library, tmp_path, capsys):
    few = ["--samples", "4", "--layer", "fc3", "--columns", "2", "--stimuli", "8"]
    score = ["--propagate", "--score-samples", "20", "--chips", "2", "--injections", "1"]
    more = ["--searches", "4", "--plot", str(tmp_path / "w.png"), "--require", "score_shift<0.2"]
    library = ["--library", str(quick_library)]
    assert main(["validate", "lenet-mnist-float", *library, *few, *score, *more]) == 0
    assert "spice-corrected" in capsys.readouterr().out
    assert (tmp_path / "w.png").exists()


@pytest.mark.slow
def test_a_layer_in_ngspice_resumes_after_an_interrupt(lenet, tmp_path, monkeypatch):
    """fc3 of one image, in codes of five bits: what finished comes from the cache afterwards."""
    network = load_network("lenet-mnist-float", tile_rows=256, overrides={"fc3.output_bits": 5})
    library = lenet[1]
    options = {"images": 1, "layers": ["fc3"], "workers": 1, "cache": tmp_path}
    finish, done = plan._finish, []

    def interrupted(*arguments):
        if len(done) == 12:
            raise KeyboardInterrupt
        done.append(finish(*arguments))
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(plan, "_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_full(network, library, **options)
    found = run_full(network, library, **options)
    assert found.cached >= 12
    assert found.circuits + found.cached == 10 + 8  # columns of 4, 2 halves of 16 rows by 40
    assert found.equal_predictions == 1
    assert found.logit_lsb < 10  # a noisy threshold's row may carry a high bit
    assert found.layers["fc3"].code_agreement >= 0.8  # thresholds of the quick library
    assert 0 <= found.layers["fc3"].by_table <= found.layers["fc3"].differ


def test_a_language_model_is_refused(lenet):
    network = load_network("llama-austen-float", tile_rows=256)
    with pytest.raises(ParameterError, match="--full is for small classifiers"):
        run_full(network, lenet[1], images=1)
