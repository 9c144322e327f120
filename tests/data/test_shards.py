from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.data import shards
from hpo.data.shards import DIGEST_BYTES, ShardStore
from hpo.errors import DataError, ResourceError

ROW_SHAPE = (2, 3)


def digest(poster: int) -> bytes:
    return blake2b(str(poster).encode(), digest_size=DIGEST_BYTES).digest()


def row(poster: int) -> np.ndarray:
    return np.full(ROW_SHAPE, poster, np.float32)


def store_in(folder: Path) -> ShardStore:
    return ShardStore(folder, ROW_SHAPE, np.float32)


def append(store: ShardStore, posters: list[int]) -> None:
    store.append([digest(poster) for poster in posters], np.stack([row(poster) for poster in posters]))


def run_python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@settings(max_examples=25, deadline=None)
@given(
    shards=st.lists(st.lists(st.integers(0, 30), min_size=1, unique=True), min_size=1, max_size=5),
    data=st.data(),
)
def test_any_rows_come_back_in_any_order_from_a_reopened_store(tmp_path_factory, shards, data):
    folder = tmp_path_factory.mktemp("store")
    writer = store_in(folder)
    for posters in shards:
        append(writer, posters)
    kept = sorted({poster for posters in shards for poster in posters})
    asked = data.draw(st.lists(st.sampled_from(kept), min_size=1))
    for store in (writer, store_in(folder)):
        rows = store.gather([digest(poster) for poster in asked])
        assert rows.dtype == np.float32
        assert np.array_equal(rows, np.stack([row(poster) for poster in asked]))


def test_a_writer_finds_what_others_wrote_and_removes_what_a_killed_one_left(tmp_path):
    store, other = store_in(tmp_path), store_in(tmp_path)
    append(other, [1, 2])
    (tmp_path / "half.tmp").write_bytes(b"half a shard")
    with store.writing():
        assert store.missing([digest(1), digest(2), digest(3)]) == [2]
    assert not list(tmp_path.glob("*.tmp"))
    assert np.array_equal(store.gather([digest(2)])[0], row(2))


def test_a_narrow_choice_of_columns(tmp_path):
    store = ShardStore(tmp_path, (5,), np.float32)
    store.append([digest(1), digest(2)], np.arange(10).reshape(2, 5))
    assert store.gather([digest(2), digest(1)], np.array([4, 0])).tolist() == [[9, 5], [4, 0]]


def test_missing_names_each_absent_poster_once(tmp_path):
    store = store_in(tmp_path)
    append(store, [1])
    assert store.missing([digest(poster) for poster in (3, 1, 2, 3, 2)]) == [0, 2]
    assert store.missing([digest(1)]) == []


def test_gathering_what_is_missing_is_an_error(tmp_path):
    with pytest.raises(KeyError):
        store_in(tmp_path).gather([digest(1)])


def test_another_process_is_noticed_on_refresh(tmp_path):
    reader, writer = store_in(tmp_path), store_in(tmp_path)
    append(writer, [1])
    assert digest(1) not in reader
    reader.refresh()
    assert np.array_equal(reader.gather([digest(1)]), [row(1)])


KILLED_BEFORE_THE_KEYS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from hpo.data import shards

write_array = shards.write_array
def write_rows_and_die(path, array):
    if path.name.endswith(".keys.npy"):
        os.kill(os.getpid(), signal.SIGKILL)
    write_array(path, array)
shards.write_array = write_rows_and_die
shards.ShardStore(Path(sys.argv[1]), (2, 3), np.float32).append([b"0" * 16], np.ones((1, 2, 3)))
"""


def test_killed_between_rows_and_keys_the_shard_does_not_exist(tmp_path):
    died = run_python(KILLED_BEFORE_THE_KEYS, tmp_path)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(list(tmp_path.glob("*.npy"))) == 1  # the rows are there
    store = store_in(tmp_path)
    assert store.missing([b"0" * 16]) == [0]
    store.append([b"0" * 16], row(7)[None])  # and are made again under the same name
    assert np.array_equal(store_in(tmp_path).gather([b"0" * 16]), [row(7)])


DAMAGES = {
    "empty": lambda content: b"",
    "only a header": lambda content: content[:100],
    "one byte short": lambda content: content[:-1],
    "text": lambda content: b"not an array",
    "a zip": lambda content: b"PK\x03\x04" + content,
    "a pickle": lambda content: b"\x80\x04N.",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["rows", "keys"])
def test_a_damaged_shard_counts_as_absent_and_is_replaced(tmp_path, file, damage):
    append(store_in(tmp_path), [1, 2])
    append(store_in(tmp_path), [3])
    keys = max(tmp_path.glob("*.keys.npy"), key=lambda path: path.stat().st_size)  # of posters 1 and 2
    damaged = keys if file == "keys" else keys.with_name(keys.name.replace(".keys", ""))
    damaged.write_bytes(DAMAGES[damage](damaged.read_bytes()))

    store = store_in(tmp_path)
    assert store.missing([digest(poster) for poster in (1, 2, 3)]) == [0, 1]
    append(store, [1, 2])
    assert store_in(tmp_path).missing([digest(poster) for poster in (1, 2, 3)]) == []


@pytest.mark.parametrize("place", ["row", "key", "rows' header", "keys' header"])
def test_a13_a_changed_byte_is_noticed_and_the_shard_made_again(tmp_path, place):
    append(store_in(tmp_path), [1, 2])
    append(store_in(tmp_path), [3])
    keys = max(tmp_path.glob("*.keys.npy"), key=lambda path: path.stat().st_size)  # of posters 1 and 2
    rows = keys.with_name(keys.name.replace(".keys", ""))
    damaged = rows if place.startswith("row") else keys
    content = damaged.read_bytes()
    if place == "rows' header":
        content = content.replace(b"'fortran_order': False", b"'fortran_order': True ")
    elif place == "keys' header":
        content = content.replace(b"|u1", b"|i1")
    else:
        content = content[:130] + bytes([content[130] ^ 4]) + content[131:]
    damaged.write_bytes(content)

    store = store_in(tmp_path)
    asked = [digest(poster) for poster in (1, 2, 3)]
    assert store.missing(asked) == [0, 1]
    append(store, [1, 2])
    for opened in (store, store_in(tmp_path)):
        assert opened.missing(asked) == []
        assert np.array_equal(opened.gather(asked), [row(1), row(2), row(3)])


def test_a13_a_shard_that_goes_while_it_is_used_is_one_sentence(tmp_path):
    store = store_in(tmp_path)
    append(store, [1])
    (rows,) = (path for path in tmp_path.glob("*.npy") if ".keys" not in path.name)
    rows.unlink()
    with pytest.raises(DataError, match="was changed while it was in use"):
        store.gather([digest(1)])


def test_a13_a_shard_of_an_older_version_has_no_checksum_and_is_used(tmp_path):
    append(store_in(tmp_path), [1, 2])
    (keys,) = tmp_path.glob("*.keys.npy")
    np.save(keys, np.load(keys)[:-1])
    assert store_in(tmp_path).missing([digest(1), digest(2)]) == []


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [
        (errno.ENOSPC, ResourceError, "the disk is full.*: free some space, or name another folder with --cache-dir"),
        (errno.EDQUOT, ResourceError, "the disk is full.*: free some space"),
        (errno.EROFS, DataError, "Read-only file system.*: make the place writable, or name"),
        (errno.EACCES, DataError, "Permission denied.*: make the place writable"),
        (errno.EIO, DataError, ": check the disk"),
    ],
)
def test_a16_f25_what_the_disk_refuses_is_one_sentence_with_its_own_cure(tmp_path, monkeypatch, number, kind, word):
    store = store_in(tmp_path)

    def refuse(path: Path, array: np.ndarray) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(shards, "write_array", refuse)
    with pytest.raises(kind, match=word) as caught:
        append(store, [1])
    assert str(caught.value).count("free some space") == (kind is ResourceError)


@pytest.mark.parametrize(("row_shape", "dtype"), [((6,), np.float32), (ROW_SHAPE, np.float16)])
def test_rows_of_another_shape_or_type_count_as_absent(tmp_path, row_shape, dtype):
    append(store_in(tmp_path), [1])
    assert digest(1) not in ShardStore(tmp_path, row_shape, dtype)


DISK_IS_FULL_AFTER_8_KB = """
import resource, sys
from pathlib import Path
import numpy as np
from hpo.data.shards import ShardStore
from hpo.errors import DataError

store = ShardStore(Path(sys.argv[1]), (1024,), np.float32)
store.append([b"0" * 16], np.ones((1, 1024)))
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    store.append([bytes([row]) * 16 for row in range(1, 9)], np.ones((8, 1024)))
except DataError as error:
    print(error)
"""


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path):
    finished = run_python(DISK_IS_FULL_AFTER_8_KB, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert f"cache folder {tmp_path} could not be written" in finished.stdout
    assert "--cache-dir" in finished.stdout
    store = ShardStore(tmp_path, (1024,), np.float32)
    assert (b"0" * 16) in store
    assert bytes([1]) * 16 not in store
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"could not be written .*--cache-dir"):
        store_in(tmp_path / "file" / "cache")


def test_rows_are_memory_mapped_rather_than_read(tmp_path):
    row_shape, posters = (250_000,), range(8)
    writer = ShardStore(tmp_path, row_shape, np.float32)
    for poster in posters:
        writer.append([digest(poster)], np.full((1, *row_shape), poster))
    tracemalloc.start()
    rows = ShardStore(tmp_path, row_shape, np.float32).gather([digest(poster) for poster in posters], slice(0, 2))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows.tolist() == [[poster, poster] for poster in posters]
    assert peak_bytes < 3_000_000  # of the 8 MB on disk: a shard at a time
