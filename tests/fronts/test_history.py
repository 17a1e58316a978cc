"""The history as a table of pandas."""
import numpy as np
import pytest

from fastmlp import MLP


def test_a_table_of_the_history():
    pandas = pytest.importorskip("pandas")
    X, y = np.eye(4), [0, 1, 0, 1]
    history = MLP([4, 3], seed=0).fit(X, y, epochs=5, validation_data=(X, y), restarts=2, progress=False)
    table = pandas.DataFrame(history)
    assert list(table) == ["loss", "samples_per_second", "val_loss", "val_accuracy"] and len(table) == 5
    assert table["val_loss"].tolist() == history.val_loss
