"""Reader of tlshd's own configuration file (tlshd.conf(5) of ktls-utils), which is converted to ours.

Rules:

* The syntax is that of GLib's key files: ``[section]``, ``name = value``, comments on lines of their own that begin
  with ``#``, no quotes; a backslash begins ``\\s``, ``\\n``, ``\\t``, ``\\r``, ``\\\\``, and in lists ``\\;``.
  A section may be repeated; of a repeated name the last value counts.
* Unknown sections and options are ignored, as tlshd does, but with a warning, because a misspelt ``x509.crl`` would
  otherwise go unnoticed.  Any other line, and a value of the wrong type, is a ConfigurationError with file and line.
* A fault in a file that an option names is an error too.  tlshd goes on without the file, and uses the system's trust
  instead of a missing truststore.
* Messages contain names of known options, line numbers and absolute paths, and no other text of the file, so that a key
  in the wrong place does not appear in the logs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hsframework.configuration.runtime_dir import MOST_BYTES
from hsframework.configuration.session_tags import load_session_tags
from hsframework.configuration.settings import (
    Configuration,
    IdentitySettings,
    KernelSettings,
    LogSettings,
    Profile,
    TrustSettings,
)
from hsframework.credentials.files import read_public
from hsframework.credentials.regular import read_regular
from hsframework.credentials.trust import certificates_in
from hsframework.errors import ConfigurationError
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate, no_warnings

OLD_PATH, NEW_PATH = Path("/etc/tlshd.conf"), Path("/etc/tlshd/config")
TAGS = "tags.d"
"""Folder of the session tags, beside a file with the name of tlshd's own, else in ``/etc/tlshd``."""
KEYRINGS = (".nvme", ".nfs", ".nfsd")
"""Keyrings that tlshd always uses."""

_X509 = ("truststore", "crl", "certificate", "private_key", "pq.certificate", "pq.private_key")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "debug": ("loglevel", "tls", "nl"),
    "authenticate": ("keyrings",),
    "authenticate.client": tuple(f"x509.{name}" for name in _X509),
    "authenticate.server": tuple(f"x509.{name}" for name in _X509),
}
_ML_DSA = frozenset(f"2.16.840.1.101.3.4.3.{number}" for number in (17, 18, 19))
_BLANK = " \t\r\v\f"
_SECTION = re.compile(r"\[([^\[\]]+)\]")
_HARMLESS_NAME = re.compile(r"[a-z]{1,16}([._][a-z]{1,16}){0,3}|x509(\.[a-z_]{1,16}){1,3}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
_SERIAL = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LIST_TOKEN = re.compile(r"\\.?|;|[^\\;]+", re.DOTALL)
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class _Value:
    """A value as written in the file, and its place for messages: ``FILE:LINE: NAME``."""

    text: str
    where: str


_Sections = Mapping[str, Mapping[str, _Value]]


@dataclass(frozen=True, slots=True)
class TlshdConfiguration:
    """The contents of a file of tlshd's.

    ``configuration``: a profile ``kernel-client`` or ``kernel-server`` for each section with an option, with its
    identities and trust; ``kernel.keyrings``; ``log.level``.  ``warnings``: texts for the log about ignored lines.
    """

    path: Path
    configuration: Configuration
    warnings: tuple[str, ...]

    def onto(self, base: Configuration) -> Configuration:
        """Return ``base`` with the file's settings added.  Raises ConfigurationError if both set the same key."""
        own = self.configuration
        self._refuse_conflicts(base)
        keyrings = tuple(dict.fromkeys((*base.kernel.keyrings, *own.kernel.keyrings)))
        return replace(
            base,
            log=replace(base.log, level="debug") if own.log.level == "debug" else base.log,
            kernel=replace(base.kernel, keyrings=keyrings),
            identities={**base.identities, **own.identities},
            trust={**base.trust, **own.trust},
            profiles={**base.profiles, **own.profiles},
            places={**base.places, **own.places},
            session_tags=own.session_tags,
            further_files=(*base.further_files, self.path.absolute(), _tags_of(self.path)),
        )

    def _refuse_conflicts(self, base: Configuration) -> None:
        own = self.configuration
        clashes = [
            f"{kind}.{name}"
            for kind in ("profiles", "identities", "trust")
            for name in getattr(own, kind)
            if name in getattr(base, kind)
        ]
        for role in ("client", "server"):
            if f"kernel-{role}" in own.profiles and getattr(base.kernel, f"{role}_profile") is not None:
                clashes.append(f"kernel.{role}-profile")
        if own.log.level == "debug" and base.log.level not in (LogSettings().level, "debug"):
            clashes.append("log.level")
        if clashes:
            raise ConfigurationError(
                f"{self.path} and the service's own configuration both set {', '.join(clashes)}: "
                "take it out of one of the two"
            )


def load_tlshd_configuration(path: Path | str | None = None) -> TlshdConfiguration:
    """Read a file of tlshd's.

    ``path`` None: ``/etc/tlshd.conf`` if it exists, else ``/etc/tlshd/config``, which is tlshd's own order.  Raises
    ConfigurationError, which names the file and, if there is one, the line.
    """
    warnings: list[str] = []
    if path is None:
        path = OLD_PATH if OLD_PATH.exists() else NEW_PATH
        if path == OLD_PATH:
            warnings.append(f"{OLD_PATH} is a deprecated place and is read instead of {NEW_PATH}: move it there")
    path = Path(path)
    sections = _parse(path, warnings)
    identities: dict[str, IdentitySettings] = {}
    trust: dict[str, TrustSettings] = {}
    profiles: dict[str, Profile] = {}
    for role in ("client", "server"):
        section = sections.get(f"authenticate.{role}", {})
        if section:
            name = f"kernel-{role}"
            own = _identities(name, section)
            identities |= own
            trust[name] = _trust(section)
            demand = "request" if role == "server" else "none"
            profiles[name] = Profile(identities=tuple(own), trust=name, client_certificate=demand)
    configuration = Configuration(
        log=LogSettings(level="debug" if _debugging(sections) else "info"),
        kernel=KernelSettings(keyrings=_keyrings(sections)),
        identities=identities,
        trust=trust,
        profiles=profiles,
        places=_places(sections),
        session_tags=load_session_tags(_tags_of(path)),
    )
    return TlshdConfiguration(path, configuration, tuple(warnings))


def _tags_of(path: Path) -> Path:
    """Return the folder of the session tags that goes with a file of tlshd's."""
    return (path.absolute().parent if path.name == NEW_PATH.name else NEW_PATH.parent) / TAGS


# Options


def _debugging(sections: _Sections) -> bool:
    """Return True if one of tlshd's three levels is above 0; the service has one level for all."""
    levels = [_integer(value) for value in sections.get("debug", {}).values()]
    return max(levels, default=0) > 0


def _keyrings(sections: _Sections) -> tuple[str, ...]:
    """Return tlshd's own keyrings and the file's: names, and serial numbers in decimal."""
    value = sections.get("authenticate", {}).get("keyrings")
    listed = _list(value) if value is not None else ()
    return tuple(dict.fromkeys((*KEYRINGS, *(_keyring(item) for item in listed))))


def _keyring(item: str) -> str:
    return str(int(item, 16 if item[:2] in ("0x", "0X") else 10)) if _SERIAL.fullmatch(item) else item


def _places(sections: _Sections) -> dict[str, str]:
    """Return the places of the options by the keys that they become, for messages about files that they name."""
    places: dict[str, str] = {}
    for role in ("client", "server"):
        section, name = sections.get(f"authenticate.{role}", {}), f"kernel-{role}"
        for value in section.values():
            places.setdefault(f"profiles.{name}", value.where)
        for key, option in (
            (f"identities.{name}", "x509.certificate"),
            (f"identities.{name}-pq", "x509.pq.certificate"),
            (f"trust.{name}", "x509.crl"),
            (f"trust.{name}", "x509.truststore"),
        ):
            if option in section:
                places[key] = section[option].where
    return places


def _trust(section: Mapping[str, _Value]) -> TrustSettings:
    bundle, crl = ((_path(section[name]),) if name in section else () for name in ("x509.truststore", "x509.crl"))
    return TrustSettings(bundle=bundle, crl=crl, system=not bundle)


def _identities(name: str, section: Mapping[str, _Value]) -> dict[str, IdentitySettings]:
    """Return the identities of a section, the post-quantum one first, so that peers with ML-DSA get that one."""
    found = {}
    for identity, prefix in ((f"{name}-pq", "x509.pq."), (name, "x509.")):
        certificate, private_key = section.get(f"{prefix}certificate"), section.get(f"{prefix}private_key")
        if certificate is not None and private_key is not None:
            found[identity] = IdentitySettings(certificate=_path(certificate), private_key=_key_path(private_key))
            if prefix == "x509.pq.":
                _require_ml_dsa(found[identity].certificate, certificate.where)
        elif certificate is not None:
            raise ConfigurationError(f"{certificate.where}: there is no {prefix}private_key for it: add one")
        elif private_key is not None:
            raise ConfigurationError(f"{private_key.where}: there is no {prefix}certificate for it: add one")
    return found


def _require_ml_dsa(path: Path, where: str) -> None:
    try:
        chain = certificates_in(read_public(path), str(path))
        with no_warnings():
            algorithm = load_certificate(chain[0]).public_key_algorithm_oid if chain else None
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    except PARSE_ERRORS:
        algorithm = None
    if algorithm is None or algorithm.dotted_string not in _ML_DSA:
        raise ConfigurationError(
            f"{where}: {path} holds no certificate for an ML-DSA key: name it as x509.certificate instead"
        )


# Values


def _integer(value: _Value) -> int:
    if not _INTEGER.fullmatch(value.text):
        raise ConfigurationError(f"{value.where}: a whole number is wanted")
    return int(value.text)


def _key_path(value: _Value) -> Path:
    url = _URL.match(value.text)
    if url:
        raise ConfigurationError(f"{value.where}: keys behind a URL are not supported: name a file")
    return _path(value)


def _path(value: _Value) -> Path:
    """Return the path of an existing file.  It must be absolute, to be independent of the current folder."""
    text = _unescape(value, value.text)
    if not text.startswith("/"):
        raise ConfigurationError(f"{value.where}: an absolute path is wanted, without quotes")
    path = Path(text)
    try:
        path.stat()
    except OSError as error:
        raise ConfigurationError(f"{value.where}: {path} cannot be opened: {error.strerror}") from None
    return path


def _list(value: _Value) -> tuple[str, ...]:
    items = [""]
    for token in _LIST_TOKEN.findall(value.text):
        if token == ";":
            items.append("")
        else:
            items[-1] += ";" if token == "\\;" else _unescape(value, token)
    return tuple(item.strip(_BLANK) for item in items if item.strip(_BLANK))


def _unescape(value: _Value, text: str) -> str:
    def replacement(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise ConfigurationError(f"{value.where}: a backslash is written twice, or as one of \\s \\n \\t \\r")
        return _ESCAPES[match[1]]

    return _ESCAPE.sub(replacement, text)


# The file


def _parse(path: Path, warnings: list[str]) -> _Sections:
    sections: dict[str, dict[str, _Value]] = {}
    section: str | None = None
    for number, raw in enumerate(_read(path).split("\n"), start=1):
        line, where = raw.strip(_BLANK), f"{path}:{number}"
        if not line or line.startswith("#"):
            continue
        header = _SECTION.fullmatch(line)
        if header:
            section = header[1]
            if section not in _OPTIONS:
                warnings.append(f"{where}: {_unknown('section', section, _OPTIONS)}")
            continue
        name, equals, text = (part.strip(_BLANK) for part in line.partition("="))
        if not name or not equals:
            raise ConfigurationError(f"{where}: neither a [section], nor NAME = VALUE, nor a comment")
        if section is None:
            raise ConfigurationError(f"{where}: it stands before the first [section]")
        if section not in _OPTIONS:
            continue
        if name not in _OPTIONS[section]:
            warnings.append(f"{where}: [{section}] {_unknown('option', name, _OPTIONS[section])}")
            continue
        sections.setdefault(section, {})[name] = _Value(_checked(text, where), f"{where}: {name}")
    return sections


def _read(path: Path) -> str:
    try:
        return read_regular(path, MOST_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file; name another with --tlshd-config") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _checked(text: str, where: str) -> str:
    """Check that a value is UTF-8; comments may have any encoding."""
    if "\0" in text or any("\udc80" <= item <= "\udcff" for item in text):
        raise ConfigurationError(f"{where}: the value is not text in UTF-8")
    return text


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the warning for an unknown name, which is shown only if it cannot be part of a key."""
    shown = f" {name!r}" if _HARMLESS_NAME.fullmatch(name) else ""
    close = difflib.get_close_matches(name, list(known), n=1)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind}{shown}, passed over{suggestion}"
