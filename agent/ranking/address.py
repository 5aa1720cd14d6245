"""The address of a model server, as the user writes it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ncode_search.agent.errors import InputError

KEY_VARIABLE = "NCODE_API_KEY"
"""The environment variable that holds a server's API key, unless set otherwise."""


@dataclass(frozen=True)
class Address:
    """Where a server is."""

    scheme: str
    host: str
    port: int | None
    path: str
    """What comes before ``/v1``, without a slash at its end."""

    @property
    def url(self) -> str:
        """The address as text."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{f':{self.port}' if self.port else ''}{self.path}"


def is_url(text: str) -> bool:
    """Whether `text` is meant as the address of a server, not as the path of a file."""
    return text.lower().startswith(("http://", "https://"))


def parse_address(text: str) -> Address:
    """The server that `text` names, with or without ``/v1`` at its end. Raises `InputError` where it names none."""
    try:
        parts = urlsplit(text)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"model {text!r} is no address ({error}): write it as http://127.0.0.1:8080") from None
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"model {host} has a password in its address: put it into an environment variable (api_key_env)"
        )
    if scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InputError(f"model {text!r} is no server's address: write it as http://127.0.0.1:8080")
    return Address(scheme, host, port, parts.path.rstrip("/").removesuffix("/v1").rstrip("/"))
