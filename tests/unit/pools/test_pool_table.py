from __future__ import annotations

import http.server
import json
import threading
import time

import pytest

import dspex_nb as dx
from dspex_nb import ambient, api
from dspex_nb.ambient import Session
from dspex_nb.errors import PoolError
from dspex_nb.views.pool_views import PoolTableInfo, SlotInfo, pool_table_html, pool_table_text


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A session of its own."""
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    monkeypatch.setattr(ambient, "_root", Session())
    now = dx.session()
    yield now
    now.pools.close()
    now.store.close()


@pytest.fixture
def server():
    """An OpenAI-compatible server that answers with the model it was asked for and the key it was shown."""

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = f"{asked['model']} {self.headers['authorization']}"
            body = json.dumps(
                {
                    "id": "1",
                    "model": asked["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/v1"
    found.shutdown()
    found.server_close()


def test_the_lm_in_force_travels_into_a_worker_and_its_calls_are_told(notebook, server):
    from dspex_nb.events import Bus
    from dspex_nb.scopes import Scope

    def ask(text):
        import dspex_nb

        now = dspex_nb.session()
        from dspex_nb.messages import Request
        from dspex_nb.scopes import Scope, new_run_id

        request = Request(messages=({"role": "user", "content": text},))
        return now.lm.complete(request, scope=Scope(new_run_id(), now.bus), cache=now.cache).text

    dx.configure(lm=dx.LM("openai/first", api_base=server, api_key="sk-mine"))
    pool = dx.pool("p", 1, "loky")
    bus = Bus()
    assert pool.options(scope=Scope("run-1", bus, step="ask")).call(ask, "a") == "first Bearer sk-mine"
    assert [(event.kind, event.run_id) for event in bus.recent if event.kind == "lm_called"] == [("lm_called", "run-1")]
    with dx.context(lm=dx.LM("openai/second", api_base=server, api_key="sk-mine")):
        assert pool.call(ask, "b").startswith("second")
    assert pool.call(ask, "c").startswith("first")


def test_pools_of_known_names_are_made_when_asked_for(notebook):
    assert dx.pool("optimizers") is dx.pool("optimizers")
    assert dx.pool("modules", timeout_s=5).timeout_s == 5
    assert dx.pool("modules").timeout_s == 5
    with pytest.raises(PoolError, match="no pool 'module'") as caught:
        dx.pool("module")
    assert "did you mean 'modules'" in caught.value.hint


def test_the_table_shows_slots_queue_memory_and_failures(notebook):
    pool = dx.pool("w", 1, "loky", memory_bytes=2 * 1024**3)
    with pytest.raises(ZeroDivisionError):
        pool.call(lambda: 1 / 0)
    pool.call(len, "ab")
    while pool.stats().running:  # its result is there a moment before its slot is free
        time.sleep(0.01)
    table = api.pool_status()
    (info,) = table.info
    assert (info.size, info.running, info.waiting, info.done, info.failed) == (1, 0, 0, 1, 1)
    assert info.memory_bytes > 10_000_000
    assert info.limit_bytes == 2 * 1024**3
    assert [(slot.name, slot.done, slot.restarts) for slot in info.slots] == [("w-0", 1, 0)]
    assert "w-0" in repr(table)
    assert "2.0 GiB" in repr(table)


def test_what_tasks_are_called_is_escaped():
    bad = "<script>alert(1)</script>"
    pools = [PoolTableInfo(bad, slots=[SlotInfo(bad, bad, 1.0, bad)])]
    assert "<script" not in pool_table_html(pools)
    assert "no pool yet" in pool_table_html([])
    assert "1.0 s" in pool_table_text(pools)
