"""Chat templates come from strangers."""

from __future__ import annotations

import pytest

from ncode_search.agent.ranking.chat_template import ChatTemplate, ChatTemplateError

LOOP = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


def test_one_system_message_and_the_answer_begun() -> None:
    assert ChatTemplate("{{ bos_token }}" + LOOP, bos="<s>").render("01|1.0,10;") == "<s><system>01|1.0,10;<answer>"


def test_system_message_refused() -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    assert ChatTemplate(refusing + LOOP).render("10;") == "<user>10;<answer>"


def test_system_message_dropped_without_a_word() -> None:
    dropping = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    assert ChatTemplate(dropping).render("10;") == "10;"


@pytest.mark.parametrize(
    "source",
    [
        "{% for",
        "{{ raise_exception('never') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "nothing of the message",
    ],
)
def test_a_bad_template_is_refused(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source)


def test_a_template_cannot_change_the_messages() -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate("{{ messages.clear() }}" + LOOP)
