"""`Server`: an HTTP API for threads. Made by `tools/make_sync.py`."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from .. import _rbee
from .._done import waited as done

if TYPE_CHECKING:
    from typing_extensions import Self


class Server:
    """The HTTP API of a queen, served from this process."""

    def __init__(self, core: _rbee.Serving) -> None:
        self._core = core

    @property
    def url(self) -> str:
        """Its URL: `http://127.0.0.1:41234`. OpenAI's clients take it with `/v1` as their `base_url`."""
        return self._core.url

    def close(self) -> None:
        """Ends it. Answers that are under way have some seconds."""
        done(self._core.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<rbee.{type(self).__name__} {self.url}>"
