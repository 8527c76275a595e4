"""The table ``[plugins.psp]`` of the configuration.  It is checked when it is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from hsframework.errors import ConfigurationError
from hsframework_psp.versions import BY_LABEL, Version

DEVICES = ("auto", "kernel", "software")


@dataclass(frozen=True)
class Settings:
    """The settings of PSP.

    ``versions``: those that are offered and accepted, in order of preference.  ``device``: ``kernel`` (the PSP device
    of the connection's route), ``software``, or ``auto``: the kernel's where there is one, else software.  ``mutual``:
    clients prove who they are too.  ``rotate_every``: seconds until the software device rotates its device key.
    """

    versions: tuple[str, ...] = ("aes-gcm-256", "aes-gcm-128")
    device: str = "auto"
    mutual: bool = True
    rotate_every: int = 86400

    def __post_init__(self) -> None:
        names = self.versions
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
            raise ConfigurationError(f"versions is a list of one name or more, not {names!r}")
        if len(set(names)) != len(names):
            raise ConfigurationError("versions has a name twice")
        for name in names:
            if name not in BY_LABEL:
                raise ConfigurationError(f"versions: {name!r} is not known; use some of {_list(BY_LABEL)}")
        object.__setattr__(self, "versions", tuple(names))
        check_device("device", self.device)
        if not isinstance(self.mutual, bool):
            raise ConfigurationError(f"mutual is true or false, not {self.mutual!r}")
        seconds = self.rotate_every
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= 0xFFFFFFFF:
            raise ConfigurationError(f"rotate-every is a number of seconds from 1 up, not {seconds!r}")

    @cached_property
    def preference(self) -> tuple[Version, ...]:
        """``versions`` as versions."""
        return tuple(BY_LABEL[name] for name in self.versions)


def check_device(where: str, value: object) -> None:
    """Refuse a value that is no kind of device.  Raises ConfigurationError."""
    if value not in DEVICES:
        raise ConfigurationError(f"{where}: {value!r} is not known; use one of {_list(DEVICES)}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
