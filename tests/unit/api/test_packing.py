"""The settings on their way to a worker process."""

import pickle
import threading

import dspex_nb as dx
from dspex_nb.api import packing


def test_threads_with_settings_of_their_own_each_pack_their_own(fresh, stumbling):
    dx.session()
    start, wrong = threading.Barrier(3), []

    def pack(name):
        with dx.context(lm=dx.LM(f"openai/{name}", api_base="http://127.0.0.1:9/v1", api_key="k")):
            start.wait()
            for _ in range(100):
                _, state, _ = pickle.loads(stumbling(packing, packing.packed_settings))["lm"]
                if state["model"] != f"openai/{name}":
                    wrong.append((name, state["model"]))

    threads = [threading.Thread(target=pack, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
