"""Machines of a fleet: `SshHive` and `UrlHive`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any
from urllib.parse import urlsplit

from .types import Step

__all__ = ["SshHive", "UrlHive"]

#: The port of a hive that listens on the network.
_HIVE_PORT = 7835


class SshHive:
    """A machine that is reached by SSH. Nothing is needed there but a login: no root, no package, no open port.

    rbee connects as `ssh` would, by the person's own configuration and keys, copies its programs there if they are not
    there yet, and starts them.

    Args:
        target: The machine as `ssh` takes it: `"gpu-box"`, `"ada@gpu-box"` or `"ssh://ada@gpu-box:2222"`.
        id: The name of the hive; by default that of the machine.
        accept_new: Accept and record the key of a host that has none recorded. A changed key is always refused.
        passphrase: The passphrase of the key file. Keys of an agent need none.
        config_file: The file to read instead of the person's `ssh_config`.
        directory: The directory there, absolute or beginning with `~/`.
        arguments: Arguments of `rbee-hive`, such as `["--models-budget", "200GiB"]`; nothing secret.
        labels: Labels for policies.
        lease: How long the hive goes on without a queen, in seconds.
        programs: Where the programs for that machine are, if it needs others than this one.
        progress: A function that is called with each `Step`.

    Example:
        >>> hive = rbee.SshHive("ada@gpu-box", labels={"region": "eu"})
        >>> hive
        SshHive('ada@gpu-box')
    """

    def __init__(
        self,
        target: str,
        *,
        id: str | None = None,
        accept_new: bool = False,
        passphrase: str | None = None,
        config_file: str | PathLike[str] | None = None,
        directory: str | None = None,
        arguments: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        lease: float | None = None,
        programs: str | PathLike[str] | None = None,
        progress: Callable[[Step], object] | None = None,
    ) -> None:
        self.target: str = target
        self.id: str = _name(target) if id is None else id
        self._given: dict[str, Any] = {
            "id": self.id,
            "target": target,
            "accept_new": accept_new,
            "passphrase": passphrase,
            "config_file": config_file,
            "directory": directory,
            "arguments": list(arguments),
            "labels": dict(labels or {}),
            "lease": lease,
            "programs": programs,
            "progress": progress,
        }

    def _options(self) -> dict[str, Any]:
        return self._given

    def __repr__(self) -> str:
        return f"SshHive({self.target!r})"


class UrlHive:
    """A machine whose hive listens on the network: `rbee-hive` was started there by hand.

    Args:
        url: `"http://192.168.1.7:7835"`. The connection is not encrypted: use it in a network that you trust.
        token: The token of the hive.

    Raises:
        ValueError: The URL is not of this form.

    Example:
        >>> rbee.UrlHive("http://192.168.1.7")
        UrlHive('http://192.168.1.7')
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"the URL is {url!r}; allowed is http://HOST or http://HOST:PORT")
        self.url: str = url
        self._given: dict[str, Any] = {"host": parts.hostname, "port": parts.port or _HIVE_PORT, "token": token}

    def _options(self) -> dict[str, Any]:
        return self._given

    def __repr__(self) -> str:
        return f"UrlHive({self.url!r})"


def _name(target: str) -> str:
    host = urlsplit(target).hostname if target.startswith("ssh://") else target.rpartition("@")[2].partition(":")[0]
    return re.sub(r"[^A-Za-z0-9._-]", "-", host or "")[:64]
