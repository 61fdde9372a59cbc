"""OpenAI's responses API: the wire JSON as documented, and answers and streams in recorded shape."""

from __future__ import annotations

import pytest

from dspex_nb.clients.answers import Gathered, read_answer
from dspex_nb.clients.responses import ResponsesDialect
from dspex_nb.errors import LMInvalidRequestError

DIALECT = ResponsesDialect()
USER = [{"role": "user", "content": "Hi"}]
CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
HI = {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}


def written(messages=USER, streamed=False, **asked):
    return DIALECT.write("gpt-5", {"messages": messages, **asked}, streamed=streamed).body


def test_a_conversation_with_tools_and_media():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://x.org/a.jpg", "detail": "low"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ]},
        {"role": "assistant", "content": "Wait", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
    ]  # fmt: skip
    assert written(messages)["input"] == [
        {"role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"role": "user", "content": [
            {"type": "input_image", "image_url": "https://x.org/a.jpg", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"},
            {"type": "input_file", "file_id": "file-1"},
        ]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Wait"}]},
        {"type": "function_call", "call_id": "t1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "t1", "output": "rain"},
    ]  # fmt: skip


def test_options_have_the_names_of_this_api():
    schema = {"name": "X", "schema": {"type": "object"}, "strict": True}
    body = written(
        streamed=True, max_tokens=9, temperature=1, reasoning_effort="low", verbosity="low", parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": schema},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )  # fmt: skip
    assert body == {
        "model": "gpt-5", "input": [HI], "stream": True, "max_output_tokens": 9, "temperature": 1, "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"}, "text": {"format": {"type": "json_schema", **schema}, "verbosity": "low"},
        "tools": [{"type": "function", "name": "f", "parameters": {}}], "tool_choice": {"type": "function", "name": "f"},
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"stop": ["x"]}, {"seed": 0}, {"logit_bias": {}}])
def test_an_option_without_a_form_is_named(options):
    with pytest.raises(LMInvalidRequestError, match=next(iter(options))):
        written(**options)


def test_audio_is_refused_before_it_is_sent():
    with pytest.raises(LMInvalidRequestError, match="audio"):
        written([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}}]}])


ANSWER = {
    "status": "completed",
    "error": None,
    "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "t1", "name": "f", "arguments": '{"a": 1}'},
    ],
    "usage": {
        "input_tokens": 9, "output_tokens": 6, "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 3},
    },
}  # fmt: skip


def test_an_answer_with_reasoning_tools_and_counts():
    response = read_answer(DIALECT.answer(ANSWER), "m", lambda *_: None)
    output, usage = response.outputs[0], response.usage
    assert (output.text, output.reasoning, output.finish_reason, output.tool_calls) == ("Hi", "hm", "tool_calls", (CALL,))
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens, usage.reasoning_tokens) == (9, 4, 6, 3)


def test_how_answers_end():
    refusal = {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]}
    refused = read_answer(DIALECT.answer(refusal), "m", lambda *_: None).outputs[0]
    assert (refused.text, refused.finish_reason) == ("No.", "content_filter")
    cut = {"output": [], "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert DIALECT.answer(cut)["choices"][0]["finish_reason"] == "length"
    assert DIALECT.failure(ANSWER) is None
    assert DIALECT.failure({"status": "failed", "error": {"code": "rate_limit_exceeded"}}) == 429
    assert DIALECT.failure({"type": "response.failed", "response": {"error": {"code": "server_error"}}}) == 500


def test_a_stream_of_reasoning_text_and_a_tool_call():
    item = {"type": "function_call", "call_id": "t1", "name": "f", "arguments": ""}
    events = [
        {"type": "response.created", "response": {"status": "in_progress", "error": None}},
        {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.output_item.added", "output_index": 2, "item": item},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"a"'},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": ": 1}"},
        {"type": "response.completed", "response": ANSWER},
    ]
    reader, gathered = DIALECT.reader(), Gathered()
    for event in events:
        assert (reader.over, DIALECT.failure(event)) == (False, None)
        for piece in reader.read(event):
            gathered.add(piece)
    output = gathered.response("m", lambda *_: None).outputs[0]
    assert reader.over
    assert (output.text, output.reasoning, output.finish_reason, output.tool_calls) == ("Hi", "hm", "tool_calls", (CALL,))
