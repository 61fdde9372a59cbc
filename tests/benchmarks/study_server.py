"""The stub server for studies: answers whatever DSPy's optimizers ask, deterministically, and counts requests at `/count`.

An answer to the task is right more often the more demos its prompt holds, and by chance that the prompt alone decides: so
candidates differ in score, and the same requests give the same study.
"""

import hashlib
import json
import re

import stub_server

FIELDS = re.compile(r"\[\[ ## (\w+) ## ]]")
seen = [0]


class Varied(stub_server.Answering):
    """Answers by what was asked."""

    def reply(self, body):
        if not body:
            return _http({"count": seen[0]})
        seen[0] += 1
        asked = json.loads(body)
        choices = [
            {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": _text(asked, index)}}
            for index in range(asked.get("n") or 1)
        ]
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return _http({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage})


def _http(found):
    body = json.dumps(found).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _text(asked, index):
    messages = asked["messages"]
    chance = int(hashlib.sha256(json.dumps([messages, index]).encode()).hexdigest()[:8], 16)
    last = str(messages[-1]["content"]).rpartition("Respond with the corresponding output fields")[2]
    names = [name for name in FIELDS.findall(last) if name != "completed"]
    texts = {name: f"some {name} {chance % 1000}" for name in names}
    if "answer" in texts:
        texts["answer"] = "Paris" if chance % 100 < 30 + 4 * len(messages) else "Rome"
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{text}" for name, text in texts.items()), "[[ ## completed ## ]]"])


if __name__ == "__main__":
    stub_server.main(Varied)
