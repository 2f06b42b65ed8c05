"""API keys: made here, kept as hashes in a file, compared in constant time.

Owns the form of a key, the file and the comparison. Knows no HTTP beyond the words of an Authorization header.

A key carries 256 random bits, so its hash is one SHA-256 and not scrypt: slow hashes protect secrets that can be
guessed, and here they would only let anybody who sends wrong keys keep the server busy. Keys of another form are never
accepted, so no guessable one can stand behind a hash. The id is the salt, and lets the key be found without trying all.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError, nearest
from foveate.serve.safety.quotas import Caller, Clock, KeyLimits

_KEY = re.compile(r"fv_([0-9a-z]{10})_([A-Za-z0-9_-]{43})")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-z]{10}")
_LIMITS = tuple(entry.name for entry in fields(KeyLimits))
_NOBODY = "sha256:" + "0" * 64


class KeyFileError(FoveateError):
    """A file of keys that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key just made.

    Attributes:
        key: for the caller; not stored anywhere.
        entry: for the file, in TOML.
    """

    key: str
    entry: str

    def __repr__(self) -> str:
        return "NewKey(key=<secret>, ...)"  # so that no log or traceback shows it


def new_key(name: str) -> NewKey:
    """Makes a key for a caller of that name, and the lines for the key file that let it in."""
    identity = "".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(10))
    secret = secrets.token_urlsafe(32)
    # JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped.
    quoted = json.dumps(name, ensure_ascii=True).replace("\x7f", "\\u007f")
    lines = (
        "[[keys]]",
        f"name = {quoted}",
        f'id = "{identity}"',
        f'hash = "{_digest(identity, secret)}"',
        "",
    )
    return NewKey(key=f"fv_{identity}_{secret}", entry="\n".join(lines))


def _digest(identity: str, secret: str) -> str:
    return "sha256:" + hashlib.sha256(f"foveate key 1:{identity}:{secret}".encode()).hexdigest()


class KeyStore:
    """The callers that a file lets in; `load` it.

    Args:
        callers: id to (hash, caller).
    """

    def __init__(self, callers: Mapping[str, tuple[str, Caller]]) -> None:
        self._callers = dict(callers)

    @classmethod
    def load(cls, path: str | Path, *, clock: Clock = time.monotonic) -> KeyStore:
        """Reads a TOML or (by its suffix) JSON file.

        It has a list `keys` of `name`, `id`, `hash` and any of the limits of `KeyLimits` (0 lifts one), and optionally
        `defaults` with limits for all.

        Raises:
            KeyFileError: missing, unreadable, not of that form, or with the same id or name twice. Nothing of a hash or
                key is told.
        """
        document = _read(Path(path))
        _known(document, ("keys", "defaults"), str(path))
        defaults = document.get("defaults", {})
        if not isinstance(defaults, dict):
            raise _invalid(str(path), "`defaults` is not a table")
        _known(defaults, _LIMITS, f"{path}: defaults")
        entries = document.get("keys")
        if not isinstance(entries, list) or not entries:
            raise _invalid(str(path), "it has no list `keys`")
        callers: dict[str, tuple[str, Caller]] = {}
        for position, entry in enumerate(entries):
            where = f"{path}: keys[{position}]"
            identity, digest, name = _entry(entry, where)
            if identity in callers or any(caller.name == name for _, caller in callers.values()):
                raise _invalid(where, "its id or name stands there twice")
            limits = _key_limits(
                {**defaults, **{field: entry[field] for field in _LIMITS if field in entry}}, where
            )
            callers[identity] = (digest, Caller(name, limits, clock=clock))
        return cls(callers)

    def authenticate(self, header: str | None) -> Caller | None:
        """The caller behind an Authorization header (`Bearer KEY`), or None: no key, another form, or not known.

        Takes as long for an unknown id as for a wrong secret.
        """
        scheme, _, credentials = (header or "").partition(" ")
        found = _KEY.fullmatch(credentials.strip(" ")) if scheme.lower() == "bearer" else None
        if found is None:
            return None
        expected, caller = self._callers.get(found[1], (_NOBODY, None))
        matches = hmac.compare_digest(_digest(found[1], found[2]), expected)
        return caller if matches else None

    def __iter__(self) -> Iterator[Caller]:
        """All callers, for metrics."""
        return (caller for _, caller in self._callers.values())

    def __len__(self) -> int:
        return len(self._callers)

    def __repr__(self) -> str:
        return f"KeyStore({len(self)} keys)"


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise KeyFileError(
            f"cannot read the key file {path}", why=why, fix="Name a TOML or JSON file."
        ) from error
    try:
        document = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Without the parser's words: they may quote the line, and somebody may have put a key there.
        line = getattr(error, "lineno", None)
        raise _invalid(str(path), f"its form is broken{f' at line {line}' if line else ''}") from None
    if not isinstance(document, dict):
        raise _invalid(str(path), "it is not a table")
    return document


def _entry(entry: Any, where: str) -> tuple[str, str, str]:
    if not isinstance(entry, dict):
        raise _invalid(where, "it is not a table")
    _known(entry, ("name", "id", "hash", *_LIMITS), where)
    for field, form in (("name", None), ("id", _ID), ("hash", _HASH)):
        value = entry.get(field)
        if not isinstance(value, str) or not value or (form is not None and not form.fullmatch(value)):
            raise _invalid(where, f"`{field}` is missing or of another form")
    return entry["id"], entry["hash"], entry["name"]


def _key_limits(given: Mapping[str, Any], where: str) -> KeyLimits:
    for field, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _invalid(
                where, f"`{field}` is {value!r}, and must be a whole number of 0 (no limit) or more"
            )
    return KeyLimits(**{field: value or None for field, value in given.items()})


def _known(table: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in names:
            hint = nearest(name, names)
            raise KeyFileError(f"{where} has an unknown field {name[:40]!r}", fix=hint)


def _invalid(where: str, why: str) -> KeyFileError:
    fix = "Make an entry with foveate.serve.safety.keys.new_key, and keep its three lines as they are."
    return KeyFileError(f"{where} cannot be used", why=why, fix=fix)
