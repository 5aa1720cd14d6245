"""A model server that has moods."""

from __future__ import annotations

import re

from tests.ranking.http_stub import Answer, Seen, chat


class MoodyServer:
    """An OpenAI-compatible server in one of several moods."""

    mood = "well"

    def __call__(self, seen: Seen) -> Answer:
        if seen.path == "/v1/models":
            return Answer({"object": "list", "data": [{"id": "m"}]})
        if self.mood == "500":
            return Answer({"error": {"message": "out of memory"}}, 500)
        if seen.path != "/v1/chat/completions":
            return Answer({"error": {"message": "Not Found"}}, 404)
        if self.mood == "garbage":
            return Answer(b"<html>\xff\xfe it works")
        if self.mood == "half":
            return Answer(chat("0000"), drip=1.0)
        return Answer(chat(re.findall(r"(\w+);", seen.body["messages"][0]["content"])[0]))
