"""Snapshots that share a history on the disk, beside the history itself."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skoptax._archive import Snapshot, Writer, read_snapshot
from skoptax._files import read_head
from skoptax._recorded import Recorded
from skoptax.exceptions import CheckpointError

# Rows of 64 bytes: 128 of them are as few as a segment has.
COLUMNS, FEW = 8, 128


def history(n_rows, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, COLUMNS))


def snapshot(rows, step):
    """Return a snapshot of a run that has made so many steps, in blocks of 500."""
    blocks = [
        (first, {"float64": rows[first : min(first + 500, step + 1)]})
        for first in range(0, step + 1, 500)
    ]
    about = {"fit": {"model": "this one"}}
    return Snapshot(step, about, {"state": rows[step] + 1}, Recorded(blocks))


def assert_read(path, rows):
    """Check what is read of a file against the history of its run."""
    found = read_snapshot(path)
    assert path.name == f"step-{found.step:012d}.safetensors"
    read = found.history.rows()
    assert read.keys() == {"float64"}
    assert_array_equal(read["float64"], rows[: found.step + 1], strict=True)
    assert_array_equal(found.arrays["state"], rows[found.step] + 1)
    assert found.arrays.keys() == {"state"}


def steps_of(folder):
    return sorted(folder.glob("step-*.safetensors"))


def segments_of(folder):
    return sorted(folder.glob("rows-*.safetensors"))


def named_by(*paths):
    """Return the names of the segments that files of snapshots name."""
    return {
        f"rows-{first:012d}-{stop:012d}-{digest}.safetensors"
        for path in paths
        for first, stop, _, digest in read_head(path)["segments"]
    }


@pytest.fixture(autouse=True)
def power(monkeypatch):
    """Do not wait for the disk: the power stays on."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def written(monkeypatch):
    """Count the bytes that are put on the disk, by the kind of file."""
    found, fsync = Counter(), os.fsync

    def counted(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        kind = re.fullmatch(r"\.(rows|step)-.*\.partial", os.path.basename(name))
        if kind:
            found[kind[1]] += os.fstat(descriptor).st_size
        return fsync(descriptor)

    monkeypatch.setattr("os.fsync", counted)
    return found


on_linux = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="It asks for names of descriptors."
)


@on_linux
def test_the_history_is_written_once_per_digit(tmp_path, written):
    rows = history(FEW * 700)
    writer = Writer(tmp_path, 2)
    for n in range(1, 601):
        path = writer.write(snapshot(rows, FEW * n))
        # As an abacus counts, where 16 beads of a wire are one of the next.
        digits = [n // 16**place % 16 for place in range(3)]
        assert len(read_head(path)["segments"]) == sum(digits)
        assert {p.name for p in segments_of(tmp_path)} == named_by(*steps_of(tmp_path))
    assert_read(path, rows)
    # 600 parts, but each 16th as part of 16, and of these each 16th as part of 256.
    size = 64 * FEW * ((600 - 37) + (37 - 2) * 16 + 2 * 256)
    assert size < written["rows"] < 1.02 * size
    # The other files do not grow with the history, but for names.
    assert written["step"] < 600 * 4096


@on_linux
def test_few_rows_are_no_segment(tmp_path, written):
    rows = history(6 * FEW)
    writer = Writer(tmp_path, 2)
    for step in range(5 * FEW):
        path = writer.write(snapshot(rows, step))
        if step % 50 == 0:
            assert_read(path, rows)
        # What has been written is not written again.
        assert len(segments_of(tmp_path)) == step // FEW
    assert written["step"] < 5 * FEW * (64 * FEW + 1024)
    assert 64 * FEW * 4 < written["rows"] < 64 * FEW * 5


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_each_that_is_kept_can_be_read(keep, tmp_path):
    rng = np.random.default_rng(keep)
    rows = history(60_000)
    writer, step = Writer(tmp_path, keep), 0
    for n in range(80):
        step += int(rng.choice([1, 40, 400, 900]))
        writer.write(snapshot(rows, step))
        kept = steps_of(tmp_path)
        assert len(kept) == min(n + 1, keep)
        for path in kept:
            assert_read(path, rows)


def test_a_row_that_is_replaced_after_it_was_written(tmp_path):
    rows, writer = history(3 * FEW), Writer(tmp_path, 1)
    for step in range(FEW, 2 * FEW):
        before = rows.copy()
        before[step] += 1.0  # as long as this step is the last
        assert_read(writer.write(snapshot(before, step)), before)
    assert_read(writer.write(snapshot(rows, 2 * FEW)), rows)


@on_linux
def test_another_writer_takes_over(tmp_path, written):
    rows, end = history(9000), 4000
    first = Writer(tmp_path, 2)
    for step in range(500, end + 1, 500):
        first.write(snapshot(rows, step))
    written.clear()
    path = Writer(tmp_path, 2).write(snapshot(rows, 5000))
    assert 64 * 1000 < written["rows"] < 64 * 1100  # what was not there
    assert_read(path, rows)


def test_of_two_histories_none_is_mixed_with_the_other(tmp_path):
    """As if a run went on from an earlier step, and elsewhere from there."""
    rows, other = history(9000), history(9000, seed=1)
    other[:2700] = rows[:2700]
    first = Writer(tmp_path, 3)
    for step in range(500, 4001, 500):
        first.write(snapshot(rows, step))
    # Those of 3,000, 3,500 and 4,000 are there.
    paths = [Writer(tmp_path, 9).write(snapshot(other, step)) for step in (3200, 6000)]
    for path in paths:
        assert_read(path, other)
    for path in steps_of(tmp_path)[:1]:
        assert_read(path, rows)
    assert [read_snapshot(p).step for p in steps_of(tmp_path)] == [
        *(3000, 3200, 3500, 4000, 6000)
    ]
    for step in (3000, 3500, 4000):
        assert_read(tmp_path / f"step-{step:012d}.safetensors", rows)


def test_one_row_of_another_history_is_enough(tmp_path):
    rows, writer = history(5000), Writer(tmp_path, 1)
    for step in (1000, 2000, 3000):
        writer.write(snapshot(rows, step))
    other = rows.copy()
    other[1500, 3] = np.nextafter(other[1500, 3], 9.0)
    path = Writer(tmp_path, 1).write(snapshot(other, 4000))
    assert_read(path, other)
    shared = {p.name[:30] for p in segments_of(tmp_path)}
    assert shared == {f"rows-{0:012d}-{1000:012d}", f"rows-{1000:012d}-{4000:012d}"}


def test_an_earlier_step_by_the_same_writer(tmp_path):
    rows, other = history(5000), history(5000, seed=1)
    writer = Writer(tmp_path, 5)
    writer.write(snapshot(rows, 4000))
    assert_read(writer.write(snapshot(other, 2000)), other)
    assert_read(tmp_path / "step-000000004000.safetensors", rows)


def test_what_someone_has_removed_is_written_again(tmp_path):
    rows, writer = history(5000), Writer(tmp_path, 2)
    for step in (1000, 2000, 3000):
        writer.write(snapshot(rows, step))
    segments_of(tmp_path)[1].unlink()
    writer.write(snapshot(rows, 4000))
    for path in steps_of(tmp_path):
        assert_read(path, rows)


def test_names_that_cannot_be_read_keep_all_segments(tmp_path):
    rows, writer = history(9000), Writer(tmp_path, 3)
    for step in (1000, 2000):
        writer.write(snapshot(rows, step))
    before = set(segments_of(tmp_path))
    (tmp_path / "step-000000001500.safetensors").write_bytes(b"damaged")
    orphan = tmp_path / f"rows-000000000000-000000001000-{'0' * 32}.safetensors"
    orphan.write_bytes(b"of a killed process")
    path = Writer(tmp_path, 3).write(snapshot(rows, 3000))
    assert_read(path, rows)
    assert before | {orphan} <= set(segments_of(tmp_path))
    # Until that file is one of the old ones.
    for step in (4000, 5000):
        writer.write(snapshot(rows, step))
    assert not orphan.exists()


def test_what_a_killed_process_has_left_goes_at_once(tmp_path):
    rows = history(5000)
    Writer(tmp_path, 9).write(snapshot(rows, 1000))
    orphan = f"rows-000000001000-000000002000-{'0' * 32}.safetensors"
    mine = {".notes.partial", ".rows-1.partial", "rows-1.safetensors", "rows.txt"}
    left = {orphan, f".{orphan}.partial", ".step-000000002000.safetensors.partial"}
    for name in mine | left:
        (tmp_path / name).write_bytes(b"")
    path = Writer(tmp_path, 9).write(snapshot(rows, 3000))
    assert_read(path, rows)
    names = {p.name for p in tmp_path.iterdir()}
    assert mine <= names and not left & names


def test_a_file_that_another_writer_has_put_in_place(tmp_path):
    rows, other, writer = history(5000), history(5000, seed=1), Writer(tmp_path, 2)
    for step in (1000, 2000, 3000):
        writer.write(snapshot(rows, step))
    path = Writer(tmp_path, 2).write(snapshot(other, 3000))
    assert_read(writer.write(snapshot(rows, 4000)), rows)
    assert_read(path, other)


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def take_another(path):
    """Put a whole one in its place, of the same steps."""
    other = path.parent / "other"
    first, stop = (int(part) for part in path.name.split("-")[1:3])
    assert first == 0
    Writer(other, 1).write(snapshot(history(5000, seed=1), stop))
    (found,) = segments_of(other)
    assert found.name.split("-")[:3] == path.name.split("-")[:3]
    shutil.move(found, path)


@pytest.mark.parametrize("damage", [remove, truncate, flip, empty, take_another])
def test_a_segment_that_is_not_as_it_was_is_named(damage, tmp_path):
    rows, writer = history(5000), Writer(tmp_path, 2)
    paths = [writer.write(snapshot(rows, step)) for step in (1000, 2000)]
    segment = segments_of(tmp_path)[0]
    damage(segment)
    what = "is not there" if damage is remove else "is damaged: "
    message = (
        f"{re.escape(str(segment))} {what}.*The checkpoint {paths[1].name} needs it, "
        "as the history of the steps 0 to 999. Put the file back as it was, or remove "
        f"{paths[1].name}: the fit then goes on from the checkpoint before"
    )
    with pytest.raises(CheckpointError, match=message):
        read_snapshot(paths[1])
    # A new writer relies on it no more.
    assert_read(Writer(tmp_path, 2).write(snapshot(rows, 3000)), rows)


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_file_of_a_snapshot_that_is_not_as_it_was(damage, tmp_path):
    path = Writer(tmp_path, 2).write(snapshot(history(5000), 1000))
    damage(path)
    with pytest.raises(CheckpointError, match=f"{path.name} is not a checkpoint"):
        read_snapshot(path)


class Killed(BaseException):
    """The process is no more."""


class Disk:
    """Counts what is done to the disk, and lets nothing be done after a number."""

    def __init__(self, monkeypatch):
        self.log, self.last = [], None
        for owner, name in (
            *((Path, name) for name in ("open", "replace", "unlink")),
            (os, "fsync"),
        ):
            monkeypatch.setattr(owner, name, self.watched(name, getattr(owner, name)))

    def watched(self, name, function):
        def call(target, *arguments, **keywords):
            if self.last is not None and len(self.log) >= self.last:
                raise Killed
            self.log.append((name, target, *arguments))
            return function(target, *arguments, **keywords)

        return call


def test_killed_between_any_two_things_that_are_done(tmp_path, monkeypatch):
    """Each of what a run does to the disk is the last that it does."""
    rows = history(20 * FEW + 1)

    def run(folder, begin):
        writer = Writer(folder, 2)
        # Until segments are put together, and the small ones removed.
        for n in range(begin, 19):
            writer.write(snapshot(rows, FEW * n))

    disk = Disk(monkeypatch)
    run(tmp_path / "whole", 1)
    whole, n_actions = tmp_path / "whole", len(disk.log)
    assert {name for name, *_ in disk.log} == {"open", "replace", "unlink", "fsync"}
    assert len(segments_of(whole)) == 3
    for last in range(n_actions):
        folder = tmp_path / f"{last}"
        disk.log, disk.last = [], last
        with pytest.raises(Killed):
            run(folder, 1)
        disk.last = None
        there = steps_of(folder)
        for path in there:
            assert_read(path, rows)
        reached = read_snapshot(there[-1]).step // FEW if there else 0
        run(folder, min(reached + 1, 18))
        assert len(steps_of(folder)) == 2
        for path in steps_of(folder):
            assert_read(path, rows)
        # Nothing is left of what the killed one had begun.
        names = named_by(*steps_of(folder)) | {p.name for p in steps_of(folder)}
        assert {p.name for p in folder.iterdir()} == names
        shutil.rmtree(folder)


def test_a_name_is_there_after_what_it_needs(tmp_path, monkeypatch):
    """On the disk too, which puts files and folders there only when it is told to."""
    rows, disk, writer = history(40 * FEW), Disk(monkeypatch), Writer(tmp_path, 1)
    for n in range(1, 34):
        disk.log = []
        path = writer.write(snapshot(rows, FEW * n))
        actions = [name for name, *_ in disk.log]
        renamed = [Path(a[2]).name for a in disk.log if a[0] == "replace"]
        assert renamed[-1] == path.name and len(renamed) == 2
        assert set(renamed[:-1]) <= named_by(path)
        # A file, its name and its folder, one after another; then the old ones.
        began = ["open", "fsync", "replace"]
        begin = actions.index("open")
        assert actions[begin : begin + 3] == began
        assert "fsync" in actions[begin + 3 : actions.index("open", begin + 1)]
        removed = [Path(a[1]).name for a in disk.log if a[0] == "unlink"]
        assert removed == sorted(removed, key=lambda name: name.startswith("rows"))
        if any(name.startswith("rows") for name in removed):
            first = next(
                i
                for i, a in enumerate(disk.log)
                if a[0] == "unlink" and Path(a[1]).name.startswith("rows")
            )
            assert disk.log[first - 1][0] == "fsync"
