"""Events, the bus, the ledger; and the records that ride on them."""

import json
import random
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex_nb import events
from dspex_nb.errors import Cancelled
from dspex_nb.events import Bus, Event, Ledger, LMCalled, Progress, RunStarted, from_json, to_json
from dspex_nb.predictions import Facts, Prediction
from dspex_nb.scopes import CancelToken, Scope, new_run_id

SAMPLES = [
    events.RunStarted(run_id="r", name="n", of="map", total=3, info={"a": [1]}),
    events.RunEnded(run_id="r", status="done"),
    events.Progress(run_id="r", done=1, total=2),
    events.StepStarted(run_id="r", step="a"),
    events.StepEnded(run_id="r", step="a", status="done"),
    events.ItemYielded(run_id="r", step="a", index=0, item=[1]),
    events.LMCalled(run_id="r", model="m", cost=0.5, trial=2),
    events.LogWritten(run_id="r", step="a", worker="p-0", source="print", level="INFO", text="é"),
    events.TokenReceived(run_id="r", step="a", text="é"),
    events.TrialStarted(run_id="r", trial=0),
    events.TrialEnded(run_id="r", trial=0, score=0.5, best=0.5),
    events.RowScored(run_id="r", index=0, scores={"f1": 1.0}),
]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.kind)
def test_json_there_and_back(event):
    assert from_json(json.loads(json.dumps(to_json(event)))) == event
    assert from_json({**to_json(event), "of_a_later_version": 1}) == event


def test_a_worker_without_any_package_reads_and_writes_the_same():
    script = """
import json, sys
sys.modules["msgspec"] = None
from dspex_nb.events import from_json, to_json
print(json.dumps([to_json(from_json(one)) for one in json.load(sys.stdin)]))
"""
    told = [to_json(event) for event in SAMPLES]
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == told


def test_every_kind_is_sampled_and_known():
    kinds = {cls.kind for cls in Event.__subclasses__()}
    assert kinds == {event.kind for event in SAMPLES}
    with pytest.raises(KeyError):
        from_json({"kind": "nothing"})


def test_the_bus_keeps_order_and_the_last_few():
    bus, seen = Bus(keep=2), []
    stop = bus.subscribe(seen.append)
    for event in SAMPLES[:3]:
        bus.publish(event)
    assert seen == SAMPLES[:3]
    assert list(bus.recent) == SAMPLES[1:3]
    stop()
    stop()
    bus.publish(SAMPLES[0])
    assert len(seen) == 3


def test_a_broken_subscriber_is_dropped_alone():
    bus, seen = Bus(), []

    def broken(event):
        raise RuntimeError("view")

    bus.subscribe(broken)
    bus.subscribe(seen.append)
    bus.publish(SAMPLES[0])
    bus.publish(SAMPLES[1])
    assert seen == SAMPLES[:2]
    assert [str(fault) for fault in bus.faults] == ["view"]


def test_subscribing_from_many_threads():
    bus = Bus()
    threads = [threading.Thread(target=lambda: bus.subscribe(lambda event: None)()) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bus._subscribers == ()


def call(**facts):
    return LMCalled(run_id="r", model="m", **facts)


def test_the_ledger():
    ledger = Ledger()
    for event in (
        call(prompt_tokens=3, completion_tokens=1, cost=0.5),
        call(prompt_tokens=2, cost=None),
        call(cached="disk", prompt_tokens=9, cost=9.0),
        call(error="down", cost=9.0),
        Progress(run_id="r", done=1, total=1),
    ):
        ledger.take(event)
    assert (ledger.calls, ledger.cache_hits, ledger.unknown) == (2, 1, 1)
    assert (ledger.prompt_tokens, ledger.completion_tokens, ledger.cost) == (5, 1, 0.5)


def test_cancelling_calls_back_once():
    token, called = CancelToken(), []
    token.check()
    forget = token.on_cancel(lambda: called.append("forgotten"))
    forget()
    token.on_cancel(lambda: called.append("a"))
    token.on_cancel(lambda: 1 / 0)
    token.cancel()
    token.cancel()
    assert called == ["a"]
    token.on_cancel(lambda: called.append("late"))
    assert called == ["a", "late"]
    with pytest.raises(Cancelled):
        token.check()


def test_a_scope_publishes_on_its_bus():
    scope = Scope(new_run_id(), Bus())
    assert len(scope.run_id) == 12
    scope.at_step("a").publish(RunStarted(run_id=scope.run_id, name="n", of="call"))
    assert scope.bus.recent[0].name == "n"
    assert scope.at_step("a").step == "a"


def test_predictions():
    import pickle

    done = Prediction({"a": 1, "usage": "much"}, Facts(cost=0.5))
    assert (done.a, done["a"], done["usage"], done.usage.calls) == (1, 1, "much", 0)
    assert done == Prediction({"a": 1, "usage": "much"})
    again = pickle.loads(pickle.dumps(done))
    assert (again, again.cost) == (done, 0.5)
    with pytest.raises(AttributeError, match="fields: a, usage"):
        done.b
    with pytest.raises(TypeError):
        hash(done)


def test_a_bus_is_quick_while_all_its_subscribers_are():
    class Listener(list):  # no set could hold it
        def __call__(self, event):
            self.append(event)

    bus, heard = Bus(), Listener()
    assert bus.quick
    forget = bus.subscribe(lambda event: None, quick=True)
    bus.subscribe(heard)
    assert not bus.quick
    event = Progress(run_id="r", done=1, total=1)
    bus.publish(event)
    assert heard == [event]
    bus.unsubscribe(heard)
    forget()
    assert bus.quick


def test_run_ids_differ_between_threads_and_whatever_seed_is_set():
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: [new_run_id() for _ in range(500)], range(8)))
    ids = [one for each in found for one in each]
    for _ in range(2):
        random.seed(0)
        ids.append(new_run_id())
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in ids)


def test_run_ids_differ_between_a_process_and_its_fork():
    program = """
import os
from dspex_nb.scopes import new_run_id
first = new_run_id()
reader, writer = os.pipe()
if not os.fork():
    os.write(writer, new_run_id().encode())
    os._exit(0)
print(first, new_run_id(), os.read(reader, 12).decode())
os.wait()
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert len(set(told)) == 3
