"""A study's calls keep their prompts beside the answers, for its dashboard; no other call does."""

from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


def test_only_a_trials_prompt_is_kept_and_never_its_pictures(model_server):
    server = model_server(lambda body: "yes")
    client, cache = connect("openai/m", api_base=server.url, api_key="x"), Cache()
    asked = Request([{"role": "user", "content": "Is it?"}, {"role": "user", "content": PICTURE}])
    other = Request([{"role": "user", "content": "Is it not?"}])
    assert client.complete(asked, scope=Scope("r", trial=3, index=1), cache=cache).text == "yes"
    assert client.complete(other, scope=Scope("r"), cache=cache).text == "yes"
    assert cache.peek(client.key(asked))["messages"] == [{"role": "user", "content": "Is it?"}]
    assert "messages" not in cache.peek(client.key(other))
    again = client.complete(asked, scope=Scope("r", trial=4), cache=cache)
    assert (again.text, again.cached) == ("yes", "memory")
    assert len(server.bodies) == 2
