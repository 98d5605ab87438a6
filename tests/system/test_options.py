"""What the sub-commands share."""

import argparse

import pytest

from circuits.errors import CheckpointError, ParameterError
from system.commands import options


def network_arguments(mode):
    return argparse.Namespace(model="nowhere", mode=mode, data=None, mapping=[])


@pytest.mark.parametrize(("compiled", "lines"), [(True, 0), (False, 1)])
def test_compilation_is_announced_only_where_it_is_still_to_come(
    compiled, lines, monkeypatch, capsys
):
    monkeypatch.setattr("behavioral.compilation.kernels_are_compiled", lambda: compiled)
    options.announce_compilation()
    assert capsys.readouterr().err.count("Compiling kernels for this machine") == lines


def test_a_network_without_a_library_compiles_nothing(monkeypatch):
    monkeypatch.setattr(options, "announce_compilation", lambda: pytest.fail("announced"))
    with pytest.raises(CheckpointError, match="nowhere"):
        options.open_network(network_arguments("float"), None)


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.txt"])
def test_a_picture_of_unknown_kind_is_refused_before_the_work(name, tmp_path):
    with pytest.raises(ParameterError, match=r"permitted endings: \.png, \.pdf, \.svg"):
        options.picture_file(str(tmp_path / name), "--plot")
