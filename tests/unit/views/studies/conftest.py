"""A synthetic study, large enough that nothing of it may go to the browser whole."""

import pytest

from dspex_nb.store import Store

from .making import snapshot, synthetic


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """Columns of a synthetic study of MIPROv2's kind: 3,000 trials, minibatches, parents, choices, errors."""
    store = Store(tmp_path_factory.mktemp("large") / "runs.sqlite")
    store.append(synthetic.events(3000, 12))
    assert store.flush(60)
    found = snapshot(store.trials("s"), store.examples("s"), optimizer="MIPROv2", metric="exact_match", total=4000)
    store.close()
    return found
