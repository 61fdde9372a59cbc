"""Google's generateContent: the wire JSON as documented, and answers and streams in recorded shape."""

from __future__ import annotations

import pytest

from dspex_nb.clients.answers import Gathered, read_answer
from dspex_nb.clients.google import UNSIGNED, GenerateContentDialect
from dspex_nb.errors import LMInvalidRequestError

DIALECT = GenerateContentDialect()
USER = [{"role": "user", "content": "Hi"}]
CALL = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def written(model="gemini-2.5-flash", messages=USER, streamed=False, **asked):
    return DIALECT.write(model, {"messages": messages, **asked}, streamed=streamed)


def test_a_conversation_with_system_tools_and_media():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "Look:"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "https://x.org/a.jpg"}},
            {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "mp3"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
        ]},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "So?"},
    ]  # fmt: skip
    made = written(messages=messages)
    assert made.path == "/models/gemini-2.5-flash:generateContent"
    assert made.body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "Look:"},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.org/a.jpg"}},
                {"inlineData": {"mimeType": "audio/mpeg", "data": "CCCC"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}},
            ]},
            {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "weather", "response": {"result": "rain"}}}, {"text": "So?"},
            ]},
        ],
    }  # fmt: skip


def test_options_have_googles_names():
    body = written(
        temperature=0.5, top_p=0.9, max_tokens=8, stop=["END"], seed=3, n=2, safety_settings=[{"category": "X"}],
        response_format={"type": "json_schema", "json_schema": {"name": "X", "schema": {"type": "object"}}},
    ).body  # fmt: skip
    assert body["safetySettings"] == [{"category": "X"}]
    assert body["generationConfig"] == {
        "temperature": 0.5, "topP": 0.9, "maxOutputTokens": 8, "stopSequences": ["END"], "seed": 3, "candidateCount": 2,
        "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
    }  # fmt: skip
    assert written(streamed=True).path.endswith(":streamGenerateContent?alt=sse")


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.5-pro", "low", {"thinkingBudget": 2048, "includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-3-pro-preview", "high", {"thinkingLevel": "high", "includeThoughts": True}),
    ],
)
def test_reasoning_effort_is_a_budget_or_a_level_by_the_model(model, effort, expected):
    assert written(model, reasoning_effort=effort).body["generationConfig"]["thinkingConfig"] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", {"mode": "AUTO"}),
        ("required", {"mode": "ANY"}),
        ("none", {"mode": "NONE"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tools_and_their_choice(given, expected):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    body = written(tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}], tool_choice=given).body
    assert body["tools"] == [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}]
    assert body["toolConfig"] == {"functionCallingConfig": expected}


@pytest.mark.parametrize("options", [{"logit_bias": {"1": 2}}, {"parallel_tool_calls": False}, {"drop_params": True}])
def test_an_option_without_a_form_is_named(options):
    with pytest.raises(LMInvalidRequestError, match=next(iter(options))):
        written(**options)


def test_what_google_has_no_form_for_is_refused():
    with pytest.raises(LMInvalidRequestError, match="tool result without its call"):
        written(messages=[*USER, {"role": "tool", "tool_call_id": "t9", "content": "x"}])
    with pytest.raises(LMInvalidRequestError, match="unknown type"):
        written(messages=[{"role": "user", "content": [{"type": "file", "file": {"file_data": "AAAA"}}]}])


ANSWER = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "Let me look."},
                    {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "sig"},
                ],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 12, "candidatesTokenCount": 3, "thoughtsTokenCount": 5, "cachedContentTokenCount": 4,
        "totalTokenCount": 20, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}],
    },
}  # fmt: skip


def test_an_answer_with_thinking_tools_and_counts():
    response = read_answer(DIALECT.answer(ANSWER), "m", lambda *_: None)
    output, usage = response.outputs[0], response.usage
    assert (output.text, output.reasoning, output.finish_reason) == ("Let me look.", "hm", "tool_calls")
    assert output.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.audio_tokens) == (12, 4, 2)
    assert (usage.completion_tokens, usage.reasoning_tokens) == (8, 5)
    assert response.raw == ANSWER


def test_the_signature_goes_back_with_the_tool_call():
    message = DIALECT.answer(ANSWER)["choices"][0]["message"]
    part = written("gemini-3-pro-preview", messages=[*USER, message]).body["contents"][1]["parts"][-1]
    assert part == {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "sig"}
    foreign = written("gemini-3-pro-preview", messages=[*USER, {"role": "assistant", "tool_calls": [CALL]}])
    assert foreign.body["contents"][1]["parts"][0]["thoughtSignature"] == UNSIGNED


def test_what_was_blocked_says_so():
    answer = read_answer(DIALECT.answer({"promptFeedback": {"blockReason": "SAFETY"}}), "m", lambda *_: None)
    assert (answer.text, answer.outputs[0].finish_reason) == ("Google refused the prompt: SAFETY", "content_filter")
    cut = DIALECT.answer({"candidates": [{"finishReason": "SAFETY"}]})["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("", "content_filter")


def test_a_stream_of_thinking_text_and_a_tool_call():
    parts = [[{"text": "hm", "thought": True}], [{"text": "Hi"}], [{"functionCall": {"name": "f", "args": {"a": 1}}}]]
    events = [{"candidates": [{"content": {"role": "model", "parts": part}}]} for part in parts]
    events.append({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}})
    reader, gathered = DIALECT.reader(), Gathered()
    for event in events:
        assert not reader.done
        for piece in reader.read(event):
            gathered.add(piece)
    response = gathered.response("m", lambda *_: None)
    output = response.outputs[0]
    assert reader.done
    assert (output.text, output.reasoning, output.finish_reason) == ("Hi", "hm", "tool_calls")
    assert output.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (5, 2)


def test_a_wrong_key_is_an_auth_error_though_google_says_400():
    assert DIALECT.refused(400, '{"error": {"details": [{"reason": "API_KEY_INVALID"}]}}') == 401
    assert DIALECT.refused(400, "{}") == 400
    assert DIALECT.failure({"error": {"code": 503, "message": "x"}}) == 503
