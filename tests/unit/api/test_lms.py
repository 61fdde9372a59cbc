"""`dx.LM` against a small real server, and the scripted one."""

import asyncio
import http.server
import json
import threading

import pytest

import dspex_nb as dx
from dspex_nb import ambient
from dspex_nb.errors import LMAuthError

pytestmark = pytest.mark.usefixtures("fresh")
KEY = "sk-right-0123456789"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        text = "you said " + body["messages"][-1]["content"]
        if self.headers["authorization"] != f"Bearer {KEY}":
            self.reply(401, json.dumps({"error": {"message": f"bad key {self.headers['authorization']}"}}), "application/json")
        elif body.get("stream"):
            pieces = [{"choices": [{"delta": {"content": word + " "}}]} for word in text.split()]
            self.reply(200, "".join(f"data: {json.dumps(p)}\n\n" for p in pieces) + "data: [DONE]\n\n", "text/event-stream")
        else:
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            self.reply(200, json.dumps({"choices": [choice], "usage": usage}), "application/json")

    def reply(self, status, text, kind):
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.bodies = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def lm(server):
    made = dx.LM("openai/m", api_base=f"http://127.0.0.1:{server.server_port}/v1", api_key=KEY, temperature=0.5, num_retries=0)
    yield made
    made.client.close()


def test_a_prompt_or_messages(lm, server):
    dx.configure(lm=lm)
    answer = lm("hello", max_tokens=9)
    assert answer.text == "you said hello"
    assert answer.usage.total_tokens == 5
    assert server.bodies[0]["temperature"] == 0.5
    assert server.bodies[0]["max_tokens"] == 9
    told = lm(messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    assert told.text == "you said u"
    assert len(server.bodies[1]["messages"]) == 2


def test_answers_come_from_the_sessions_cache(lm, server):
    dx.session()
    assert lm("hello").cached is None
    again = lm("hello")
    assert (again.text, again.cached) == ("you said hello", "memory")
    assert lm("hello", rollout_id=1, temperature=1.0).cached is None
    assert len(server.bodies) == 2
    with dx.context(cache=False):
        lm("hello")
    assert len(server.bodies) == 3


def test_before_any_session_it_just_asks(lm, server):
    assert ambient.current().store is None
    assert lm("hello").text == "you said hello"


def test_inside_a_running_loop(lm):
    async def both():
        one, two = await asyncio.gather(lm.acall("a"), lm.acall("b"))
        return one.text, two.text, lm("c").text  # a sync call, too, where a loop runs

    assert asyncio.run(both()) == ("you said a", "you said b", "you said c")


def test_streaming(lm):
    async def pieces():
        return [piece async for piece in lm.astream("a b")]

    got = asyncio.run(pieces())
    assert len(got) == 4
    assert "".join(got).strip() == "you said a b"


def test_a_wrong_key_is_told_without_it(server):
    wrong = "sk-wrong-9876543210"
    lm = dx.LM("openai/m", api_base=f"http://127.0.0.1:{server.server_port}/v1", api_key=wrong, num_retries=0)
    with pytest.raises(LMAuthError) as raised:
        lm("hello")
    told = f"{raised.value} {raised.value!r} {vars(raised.value)} {raised.value.__cause__!r}"
    assert wrong not in told
    assert raised.value.hint
    assert wrong not in repr(lm)


def test_its_address(lm, server):
    assert lm.api_base == f"http://127.0.0.1:{server.server_port}/v1"
    assert lm.model == "openai/m"
    assert dx.LM("openai/m").api_base == ""


def test_an_lm_and_a_predictor_of_the_notebook_cross_to_a_worker_and_into_no_file(fresh, model_server):
    import copy
    import pickle

    server = model_server(lambda body: "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]")
    lm = dx.LM("openai/m", api_base=server.url, api_key="sk-very-secret", rpm=1000)
    predict = dx.Predict("question -> answer", adapter="chat", lm=lm)

    def ask(question):
        return predict(question=question).answer, lm.client.settings.rpm

    pool = dx.pool("apart", 1, "loky")
    assert pool.call(ask, "Capital of France?") == ("Paris", 1000)
    assert dx.session().ledger.calls == 1  # of a task in no run
    with pytest.raises(TypeError, match="holds a key") as refused:
        pickle.dumps(lm.client)
    assert "very-secret" not in str(refused.value)
    assert copy.deepcopy(predict).lm is lm.client
    plain = dx.LM("openai/m", api_base=server.url, temperature=0.5)
    assert pickle.loads(pickle.dumps(plain.client)).options == {"temperature": 0.5}
