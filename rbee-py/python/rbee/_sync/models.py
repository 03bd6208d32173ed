"""`Models`: models for threads. Made by `tools/make_sync.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import _rbee
from .._done import waited as done
from ..types import ModelDescription, Progress, Pulled


class Models:
    """The models of a queen: their names, and the orders to download and load them."""

    def __init__(self, core: _rbee.ModelsCore) -> None:
        self._core = core

    @property
    def aliases(self) -> dict[str, str]:
        """The short names, each with its reference."""
        return self._core.aliases()

    def resolve(self, name: str) -> str:
        """Returns the reference that a name stands for.

        Raises:
            ModelNotFound: The name is not known.
        """
        return done(self._core.resolve(name))

    def describe(self, name: str) -> ModelDescription:
        """Returns what is known of a model.

        Raises:
            ModelNotFound: The model is not known.
        """
        return ModelDescription(**done(self._core.describe(name)))

    def pull(
        self,
        name: str,
        *,
        hive: str | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Pulled:
        """Puts a model on the disk of a machine, unless it is there.

        Args:
            name: An alias or a reference.
            hive: The machine; by default this one.
            progress: A function that is called with the progress, in a thread of its own.

        Raises:
            ModelNotFound: No source has the model.
            HubUnreachable: The hub does not answer.
        """
        return Pulled(**done(self._core.pull(name, hive, progress)))

    def remove(self, name: str, *, hive: str = "local") -> None:
        """Removes a model from the disk of a machine.

        Raises:
            Conflict: A worker there uses it.
            NotFound: There is no such hive.
        """
        done(self._core.remove(name, hive))

    def load(
        self,
        name: str,
        *,
        hive: str | None = None,
        devices: Sequence[int] | None = None,
        slots: int | None = None,
        pin: bool = False,
    ) -> str:
        """Starts a worker for a model, or finds the one that runs. It takes jobs when its state is `"ready"`.

        Args:
            name: An alias or a reference.
            hive: On this machine; by default where it fits best.
            devices: On one of these devices.
            slots: How many jobs it runs at once.
            pin: Never unload it for another model.

        Returns:
            The id of the worker.

        Raises:
            InsufficientVram: It fits nowhere.
            ModelNotFound: No source has the model.
        """
        numbers = None if devices is None else list(devices)
        return done(self._core.load(name, hive, numbers, slots, pin))
