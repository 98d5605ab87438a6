"""Trees of dataclasses in files: what is read is what was written, or a message."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from behavioral import mapped
from circuits.errors import FormatError


@dataclass(frozen=True)
class Node:
    """A member of the trees here."""

    value: Any
    next: Any = None


DTYPES, SHAPES = st.sampled_from(["<f4", "<u2", "<i8"]), st.sampled_from([(0, 3), (4,), (2, 5)])
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False)
    | st.text(max_size=8) | arrays.arrays(DTYPES, SHAPES)
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda some: st.builds(Node, some, some) | st.lists(some, max_size=3) | st.tuples(some, some),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Node):
        return isinstance(b, Node) and same(a.value, b.value) and same(a.next, b.next)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_what_is_read_is_what_was_written(tree, tmp_path_factory):
    place = tmp_path_factory.mktemp("tree") / "a.h5"
    mapped.write(place, tree, "key")
    assert same(tree, mapped.read(place, {"Node": Node}, "key"))


def test_large_arrays_are_mapped_aligned_and_changed_in_memory_only(tmp_path):
    place, wanted = tmp_path / "a.h5", np.arange(50_000, dtype=np.float32)
    mapped.write(place, Node(wanted, [np.float32(2.5)]), "key")
    found = mapped.read(place, {"Node": Node}, "key")
    assert isinstance(found.value.base, np.memmap)
    assert found.value.ctypes.data % mapped.ALIGNMENT == 0
    found.value[:] = 0
    np.testing.assert_array_equal(mapped.read(place, {"Node": Node}, "key").value, wanted)
    assert found.next == [np.float32(2.5)]


def test_another_key_or_class_is_refused(tmp_path):
    place = tmp_path / "a.h5"
    mapped.write(place, Node(1), "key")
    with pytest.raises(FormatError, match="something else"):
        mapped.read(place, {"Node": Node}, "other")
    with pytest.raises(FormatError, match="damaged"):
        mapped.read(place, {}, "key")


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_cut_file_is_refused(share, tmp_path_factory):
    place = tmp_path_factory.mktemp("cut") / "a.h5"
    mapped.write(place, Node(np.ones(40_000, np.float32)), "key")
    content = place.read_bytes()
    place.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FormatError, match="damaged"):
        mapped.read(place, {"Node": Node}, "key")


def test_digests_differ_where_contents_do():
    a, b = np.zeros(4, np.float32), np.zeros((2, 2), np.float32)
    trees = [Node(a), Node(b), Node(a.astype(np.int32)), Node([a]), Node(a, a), Node(1), Node("1")]
    found = [mapped.digest(tree) for tree in trees]
    assert len(set(found)) == len(trees)
    assert mapped.digest(Node(a.copy())) == found[0]
