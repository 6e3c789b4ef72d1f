"""Which answers belong together: the names of entries, and what a purge is about (pure)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import lru_cache

from headrace.config import check_name
from headrace.errors import CallerError

_NOBODY = "-"  # no tenant
_KEY = re.compile(r"[0-9a-f]{64}")


def name_of(model: str, version: str, tenant: str, key: bytes) -> bytes:
    """The name of an entry, `model:version:tenant:key`: the tenant as a digest, since it may be a secret and
    hold any character, the key in hex."""
    return _head(model, version, tenant) + key.hex().encode()


@lru_cache(maxsize=4096)
def _head(model: str, version: str, tenant: str) -> bytes:
    return f"{model}:{version}:{_tenant(tenant)}:".encode()


def _tenant(tenant: str) -> str:
    if not tenant:
        return _NOBODY
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Scope:
    """Entries of a model, of one of its versions, of a tenant (a digest), with a key (in hex), of all that is
    given together.

    Nothing given is every entry. Every name and digest is safe in a pattern of Redis.
    """

    model: str = ""
    version: str = ""
    tenant: str = ""
    key: str = ""

    @classmethod
    def of(cls, model: str | None, version: str | None, tenant: str | None, key: str | None = None) -> Scope:
        """CallerError unless the names can be those of a model and its version and the key is one; tenant ""
        is that of requests without one."""
        if version and not model:
            raise CallerError("a version is one of a model: give both, or only the model")
        try:
            model, version = (check_name(name) if name else "" for name in (model, version))
        except ValueError as err:
            raise CallerError(str(err)) from err
        if key and not _KEY.fullmatch(key):
            raise CallerError("a key is the 64 hexadecimal digits that headrace cache record writes")
        return cls(model, version, "" if tenant is None else _tenant(tenant), key or "")

    def matches(self, name: bytes) -> bool:
        if self.model and not name.startswith(f"{self.model}:{self.version}".encode()):
            return False
        parts = name.split(b":", 3)
        wanted = (self.model, self.version, self.tenant, self.key)
        return all(not want or part == want.encode() for part, want in zip(parts, wanted, strict=True))

    def pattern(self) -> str:
        return f"{self.model or '*'}:{self.version or '*'}:{self.tenant or '*'}:{self.key or '*'}"

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: bytes) -> Scope | None:
        """None when it is no scope."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
