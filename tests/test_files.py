"""Files are read as they were written, or not at all."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skoptax._files import Damaged, encoded, is_partial_of, read_file, read_head
from skoptax._files import write_file as write

HEAD = {"step": 3, "about": {"a name": [1.5, None, "text"]}}
ARRAYS = {"one": np.arange(5.0), "other": np.ones((2, 1), "complex64")}


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "file.safetensors"
    write(found, encoded(HEAD, ARRAYS)[0])
    return found


def test_what_was_written(path):
    head, arrays, digest = read_file(path)
    assert head == HEAD
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert_array_equal(arrays[name], array)
    assert digest == encoded(HEAD, ARRAYS)[1]
    assert read_head(path).items() >= HEAD.items()


def test_no_byte_may_change(path):
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 128):
            damaged = bytearray(whole)
            damaged[place] ^= bit
            path.write_bytes(damaged)
            with pytest.raises(Damaged):
                read_file(path)
    path.write_bytes(whole)
    read_file(path)


def test_no_byte_may_be_missing(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises((Damaged, OSError)):
            read_file(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(Damaged):
        read_file(path)


@pytest.mark.parametrize(
    "other",
    [
        (HEAD | {"step": 4}, ARRAYS),
        (HEAD, ARRAYS | {"one": np.arange(5.0) + 1e-15 * (np.arange(5) == 3)}),
        (HEAD, ARRAYS | {"one": np.arange(5.0)[:, None]}),
        (HEAD, ARRAYS | {"one": np.arange(5.0).view("int64")}),
        (HEAD, {"one": ARRAYS["one"], "another": ARRAYS["other"]}),
        (HEAD, ARRAYS | {"other": np.ones((2, 1), "complex64").view("float32")}),
    ],
)
def test_other_contents_have_other_digests(other):
    assert encoded(*other)[1] != encoded(HEAD, ARRAYS)[1]


def test_a_digest_knows_nothing_of_memory():
    array = np.arange(6.0).reshape(2, 3)
    one = encoded(HEAD, {"a": array, "b": array[:, ::2]})[1]
    other = encoded(HEAD, {"b": array[:, ::2].copy(), "a": np.asfortranarray(array)})[1]
    assert one == other


def test_what_is_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing")
    (tmp_path / "text").write_text("neither head nor arrays")
    with pytest.raises(Damaged):
        read_file(tmp_path / "text")


def test_names_of_what_is_not_complete():
    assert is_partial_of(".file.safetensors.partial") == "file.safetensors"
    assert is_partial_of("file.safetensors.partial") is None
    assert is_partial_of(".file.safetensors") is None
