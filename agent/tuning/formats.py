"""The shapes in which training samples are written, a JSON object a line.

- ``published``: the fields `history`, `candidates` and `answer` (and `description`, where one is asked for).
- ``sharegpt``, ``alpaca``: what LLaMA-Factory reads. The whole prompt is the *system* message, as in the published
  recipe and in this product; LLaMA-Factory wants a turn of the user's between it and the answer, which stays empty.
- ``trl``: TRL's conversational prompt and completion; its `SFTTrainer` learns the completion only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.prompt import messages
from ncode_search.agent.tuning.published import Sample

Row = dict[str, Any]


def to_line(sample: Sample, form: str) -> str:
    """`sample` as a line of the format `form`, with its line feed."""
    return json.dumps(FORMATS[form](sample), ensure_ascii=False) + "\n"


def from_line(line: str, where: str = "") -> Sample:
    """The sample of a ``published`` line. Raises `InputError`, which names `where`, for anything else."""
    try:
        row = json.loads(line)
        texts = [row["history"], row["candidates"], row["answer"], row.get("description", "")]
    except (ValueError, KeyError, TypeError, AttributeError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: no sample: each line needs the texts history, candidates and answer")
    sample = Sample(*texts)
    if sample.answer not in sample.candidates.split(";")[:-1]:
        raise InputError(f"{where}: the answer {sample.answer!r} is none of the candidates")
    return sample


def _published(sample: Sample) -> Row:
    row = {"history": sample.history, "candidates": sample.candidates, "answer": sample.answer}
    return {"description": sample.description, **row} if sample.description else row


def _sharegpt(sample: Sample) -> Row:
    turns = (("system", sample.prompt), ("human", ""), ("gpt", sample.answer))
    return {"conversations": [{"from": who, "value": text} for who, text in turns]}


def _alpaca(sample: Sample) -> Row:
    return {"instruction": "", "input": "", "output": sample.answer, "system": sample.prompt}


def _trl(sample: Sample) -> Row:
    return {"prompt": messages(sample.prompt), "completion": messages(sample.answer, "assistant")}


FORMATS: dict[str, Callable[[Sample], Row]] = {
    "published": _published,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "trl": _trl,
}
"""Names of the formats, and how a sample becomes a row of each."""
