"""Anthropic's messages: the wire JSON as documented, and answers and streams in recorded shape."""

from __future__ import annotations

import base64

import pytest

from dspex_nb.clients.answers import Gathered, read_answer
from dspex_nb.clients.anthropic import MessagesDialect
from dspex_nb.errors import LMInvalidRequestError

DIALECT = MessagesDialect()
USER = [{"role": "user", "content": "Hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "of": {"oneOf": [{"type": "string"}, {"type": "null"}]}},
    "required": ["n"],
}


def written(model="claude-sonnet-4-5", messages=USER, streamed=False, **asked):
    return DIALECT.write(model, {"messages": messages, **asked}, streamed=streamed)


def test_a_conversation_with_system_tools_and_media():
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "Look:"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "https://x.org/a.jpg"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "So?"},
    ]  # fmt: skip
    body = written(messages=messages, max_tokens=9, stop="END", temperature=0.5).body
    assert body == {
        "model": "claude-sonnet-4-5", "max_tokens": 9, "system": "Be brief.", "stop_sequences": ["END"], "temperature": 0.5,
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://x.org/a.jpg"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}, "title": "a.pdf"},
            ]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "So?"},
            ]},
        ],
    }  # fmt: skip


def test_plain_text_files_uploaded_files_and_marks_for_the_prompt_cache():
    data = base64.b64encode("naïve".encode()).decode()
    parts = [
        {"type": "file", "file": {"file_data": f"data:text/plain;base64,{data}"}},
        {"type": "file", "file": {"file_id": "file_1"}},
        {"type": "text", "text": "all", "cache_control": {"type": "ephemeral"}},
    ]
    made = written(messages=[{"role": "user", "content": parts}])
    blocks = made.body["messages"][0]["content"]
    assert blocks[0]["source"] == {"type": "text", "media_type": "text/plain", "data": "naïve"}
    assert blocks[1] == {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    assert blocks[2]["cache_control"] == {"type": "ephemeral"}
    assert made.headers["anthropic-beta"] == "files-api-2025-04-14"


@pytest.mark.parametrize(
    ("options", "name"),
    [({"seed": 0}, "seed"), ({"presence_penalty": 1}, "presence_penalty"), ({"drop_params": True}, "drop_params")],
)
def test_an_option_without_a_form_is_named(options, name):
    with pytest.raises(LMInvalidRequestError, match=name):
        written(**options)
    assert written(extra_body=options).body[name] == options[name]


def test_audio_is_refused_before_it_is_sent():
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    with pytest.raises(LMInvalidRequestError, match="audio"):
        written(messages=[{"role": "user", "content": [part]}])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_tools_and_their_choice(given, expected):
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}
    body = written(tools=[tool], tool_choice=given).body
    assert body["tools"] == [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == expected
    assert written(tools=[tool], parallel_tool_calls=False).body["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }


def test_reasoning_effort_is_a_budget_or_a_level_by_the_model():
    body = written(reasoning_effort="low", max_tokens=100).body
    assert (body["thinking"], body["max_tokens"]) == ({"type": "enabled", "budget_tokens": 2048}, 2148)
    body = written("claude-opus-4-6", reasoning_effort="high").body
    assert (body["thinking"]["type"], body["output_config"]) == ("adaptive", {"effort": "high"})
    with pytest.raises(LMInvalidRequestError, match="enormous"):
        written(reasoning_effort="enormous")


def test_structured_output_is_native_or_a_forced_tool():
    wanted = {"type": "json_schema", "json_schema": {"name": "X", "schema": SCHEMA, "strict": True}}
    schema = written(response_format=wanted).body["output_config"]["format"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "n": {"type": "integer", "description": "(minimum: 1)"},
        "of": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }
    older = written("claude-sonnet-4-20250514", response_format=wanted).body
    assert (older["tool_choice"], older["tools"][0]["input_schema"]) == ({"type": "tool", "name": "json_answer"}, SCHEMA)
    free = {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "integer"}}}}
    mapping = {"type": "json_schema", "json_schema": {"name": "X", "schema": free}}
    assert "output_config" not in written(response_format=mapping).body
    assert written(response_format={"type": "json_object"}).body["tools"][0]["input_schema"] == {"type": "object"}
    tool = {"type": "function", "function": {"name": "f"}}
    with pytest.raises(LMInvalidRequestError, match="beside tools"):
        written(tools=[tool], response_format={"type": "json_object"})


ANSWER = {
    "type": "message",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 5, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 9},
}


def test_an_answer_with_thinking_tools_and_cache_counts():
    response = read_answer(DIALECT.answer(ANSWER), "m", lambda *_: None)
    output, usage = response.outputs[0], response.usage
    assert (output.text, output.reasoning, output.finish_reason) == ("Let me look.", "hm", "tool_calls")
    assert output.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.cache_write_tokens, usage.completion_tokens) == (10, 2, 3, 9)
    assert response.raw == ANSWER


def test_the_thinking_goes_back_with_the_tool_call():
    message = DIALECT.answer(ANSWER)["choices"][0]["message"]
    sent = written(messages=[*USER, message]).body["messages"][1]["content"]
    assert sent == ANSWER["content"]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("refusal", "content_filter"), ("stop_sequence", "stop")],
)
def test_finish_reasons(reason, finish):
    answer = DIALECT.answer({"content": [{"type": "text", "text": "x"}], "stop_reason": reason, "usage": {}})
    assert answer["choices"][0]["finish_reason"] == finish


def test_a_stream_of_thinking_text_and_a_tool_call():
    events = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 4, "cache_read_input_tokens": 6, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
    ]
    reader, gathered = DIALECT.reader(), Gathered()
    for event in events:
        assert not reader.over
        for piece in reader.read(event):
            gathered.add(piece)
    response = gathered.response("m", lambda *_: None)
    output = response.outputs[0]
    assert (reader.done, reader.over) == (True, True)
    assert (output.text, output.reasoning, output.finish_reason) == ("Hi", "hm", "tool_calls")
    assert output.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (response.usage.prompt_tokens, response.usage.cached_prompt_tokens, response.usage.completion_tokens) == (10, 6, 8)


@pytest.mark.parametrize(("kind", "status"), [("overloaded_error", 529), ("rate_limit_error", 429), ("new_error", 500)])
def test_an_error_inside_a_stream_has_its_status(kind, status):
    assert DIALECT.failure({"type": "error", "error": {"type": kind, "message": "x"}}) == status
    assert DIALECT.failure({"type": "message"}) is None
