"""fastmlp.data on Parquet and Arrow files, which pyarrow writes and reads."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, SGD
from fastmlp.data import BlockError, Chunks, Files

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")

N, D = 1000, 4


def columns(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return {"label": rng.integers(0, 3, n).astype(np.int32), "weight": rng.uniform(0.5, 2, n),
            **{f"x.{j}": rng.standard_normal(n).astype(np.float32) for j in range(D)}}


def arrays(table):
    return (np.stack([table[f"x.{j}"] for j in range(D)], axis=1), table["label"], table["weight"])


def write(path, table, rows=150):
    table = pa.table(table)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=rows)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=rows)
    else:
        feather.write_feather(table, str(path), chunksize=rows)


def trained(X, y=None, **options):
    model = MLP([D, 16, 3], seed=0)
    model.fit(X, y, epochs=3, batch_size=32, optimizer=SGD(0.1, momentum=0.9), progress=False,
              **{"shuffle": False, **options})
    return [w.tobytes() for w in model.weights]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
@pytest.mark.parametrize("block_size", [100, 2**20])
def test_bits_are_those_of_the_array(suffix, block_size, tmp_path):
    table = columns()
    X, y, w = arrays(table)
    for i in range(2):
        half = {name: values[500 * i:500 * i + 500] for name, values in table.items()}
        write(tmp_path / f"part-{i}{suffix}", half)
    source = Files(tmp_path / f"part-*{suffix}", "label", weight="weight", block_size=block_size,
                   buffer_rows=96)
    assert trained(source) == trained(X, y, sample_weight=w)
    assert source.rows == (N if suffix == ".parquet" else None)
    assert_array_equal(np.concatenate([block[0] for block in source]), X)
    assert trained(source, shuffle=True) == trained(source, shuffle=True) != trained(source)
    found = source.statistics()
    np.testing.assert_allclose(found.mean, X.mean(axis=0, dtype=float), rtol=1e-12)


def test_a_page_that_was_changed_is_named(tmp_path):
    """Where the writer left checksums: without, garbage is read as numbers."""
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table(columns()), path, row_group_size=150, write_page_checksum=True,
                        compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(BlockError, match="^t.parquet.*: .*(CRC|checksum)"):
        trained(Files(path, "label", weight="weight"))


def test_some_columns_by_name_and_number(tmp_path):
    table = columns()
    write(tmp_path / "t.parquet", table)
    X, y, _ = next(iter(Files(tmp_path / "t.parquet", ["x.0", "x.1"], inputs=["x.2", 5], weight=1)))
    assert_array_equal(X, np.stack([table["x.2"], table["x.3"]], axis=1)[:len(X)])
    assert_array_equal(y, np.stack([table["x.0"], table["x.1"]], axis=1)[:len(y)])


def test_row_groups_are_the_parts_that_are_shuffled(tmp_path):
    """With the same groups, the order is that of blocks from anywhere."""
    table = columns()
    X, y, w = arrays(table)
    write(tmp_path / "t.parquet", table, rows=100)
    blocks = [(X[i:i + 100], y[i:i + 100], w[i:i + 100]) for i in range(0, N, 100)]
    source = Files(tmp_path / "t.parquet", "label", weight="weight", buffer_rows=96, block_size=500)
    assert trained(source, shuffle=True) == trained(Chunks(blocks, rows=100, buffer_rows=96), shuffle=True)


def test_a_group_with_missing_values_is_named(tmp_path):
    table = columns()
    table["x.1"] = pa.array(table["x.1"], mask=np.arange(N) == 333)
    write(tmp_path / "t.parquet", table)
    text = r"t.parquet, block 2: X: expected numbers, got missing values \(1\) in column 'x.1'"
    with pytest.raises(BlockError, match=text):
        trained(Files(tmp_path / "t.parquet", "label", weight="weight"))
    source = Files(tmp_path / "t.parquet", "label", weight="weight", on_error="skip")
    with pytest.warns(RuntimeWarning, match=text):
        assert sum(len(block[0]) for block in source) == N - 150


def test_columns_of_words_are_named(tmp_path):
    write(tmp_path / "t.parquet", {"label": [0, 1], "x.0": ["a", "b"], "x.1": [1.0, 2.0]})
    with pytest.raises(BlockError, match="X: expected numbers, got dtype string in column 'x.0'"):
        list(Files(tmp_path / "t.parquet", "label"))
    with pytest.raises(BlockError, match="target: expected one of the columns label, x.0, x.1, got 'price'"):
        list(Files(tmp_path / "t.parquet", "price"))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_broken_file_is_named(suffix, tmp_path):
    for i in range(2):
        write(tmp_path / f"{i}{suffix}", columns(seed=i))
    path = tmp_path / f"0{suffix}"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BlockError, match=f"^0{suffix}: "):
        list(Files(tmp_path / f"*{suffix}", "label"))
    source = Files(tmp_path / f"*{suffix}", "label", on_error="skip")
    with pytest.warns(RuntimeWarning, match=f"^skipped 0{suffix}: "):
        assert sum(len(block[0]) for block in source) == N


def test_nothing_of_it_is_imported_before_it_is_needed():
    program = "import sys, fastmlp.data; print('pyarrow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_without_pyarrow_the_error_names_the_extra(tmp_path, monkeypatch):
    write(tmp_path / "t.parquet", columns())
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[data\]"'):
        list(Files(tmp_path / "t.parquet", "label"))
