"""A schema registry: writers' schemas by their id, fetched once, waited for when it is gone."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from streamsketch.errors import ConfigError, SourceError

__all__ = ["Registered", "Registry", "RegistrySettings", "RegistryUnavailable", "Schemas"]

T = TypeVar("T")

log = logging.getLogger(__name__)

KEPT = 1000  # schemas, and ids that are not known
UNKNOWN_SECONDS = 30.0  # before an id that was not known is asked for again
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between attempts to reach a registry that is gone
DEPTH = 32  # of references from schema to schema
NOT_FOUND = 40403  # the registry's own code for a schema that it does not have
PASSING = {408, 429, 500, 502, 503, 504}


class RegistryUnavailable(Exception):
    """The registry does not answer: the same messages are to be decoded again, later."""


@dataclass(frozen=True)
class RegistrySettings:
    """How to reach a schema registry; secrets included, so never log it.

    Attributes:
        url: Its address; several are separated by commas.
        username: For basic authentication.
        password: For basic authentication.
        cafile: File of the authority's certificate.
        certfile: File of this client's certificate.
        keyfile: File of its key.
        key_password: Of that key.
        seconds: How long to wait for an answer.
    """

    url: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    key_password: str | None = field(default=None, repr=False)
    seconds: float = 5.0

    def client(self) -> dict[str, Any]:
        """The configuration of confluent-kafka's client."""
        optional = {
            "ssl.ca.location": self.cafile,
            "ssl.certificate.location": self.certfile,
            "ssl.key.location": self.keyfile,
            "ssl.key.password": self.key_password,
        }
        if self.username is not None:
            optional["basic.auth.user.info"] = f"{self.username}:{self.password or ''}"
        given = {name: value for name, value in optional.items() if value is not None}
        # attempts follow each other here, so that a process that is to end does
        return given | {"url": self.url, "timeout": self.seconds, "max.retries": 0}


@dataclass(frozen=True)
class Registered:
    """A registered schema.

    Attributes:
        kind: AVRO, PROTOBUF or JSON.
        text: The schema as the registry gives it.
        references: Those that it refers to, each before what refers to it, by name.
    """

    kind: str
    text: str
    references: dict[str, str]


class Registry:
    """Asks a registry, by the client of confluent-kafka.

    Args:
        settings: How to reach it.

    Raises:
        ConfigError: The client is not installed, or cannot be made of the settings.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._url = settings.url
        for url in settings.url.split(","):
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigError("registry must be the http:// or https:// address of a registry")
            if parts.username or parts.password:
                raise ConfigError(
                    "registry must not hold a user or password; use registry_username and "
                    "registry_password"
                )
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
            from confluent_kafka.schema_registry.error import SchemaRegistryError
        except ImportError as e:
            raise ConfigError(
                f"a schema registry needs {e.name}; install it with pip install "
                "'streamsketch[registry]'"
            ) from None
        self._error = SchemaRegistryError
        try:
            self._client = SchemaRegistryClient(settings.client())
        except (OSError, ValueError, TypeError) as e:
            raise ConfigError(
                f"the registry's TLS settings do not fit ({type(e).__name__}: {e}); correct "
                "registry_cafile, registry_certfile and registry_keyfile"
            ) from None
        self._wait = FIRST_WAIT
        self._retry_at = 0.0
        self._gone_since: float | None = None

    def schema(self, number: int, form: str | None = None) -> Registered | None:
        """The schema of an id with all that it refers to, None where the registry has none.

        Args:
            number: The id.
            form: The registry's `format` of its answer.

        Raises:
            RegistryUnavailable: It does not answer, or did not just now.
            SourceError: It answers what waiting does not help against.
        """
        found = self._ask(partial(self._client.get_schema, number, fmt=form))
        if found is None:
            return None
        references: dict[str, str] = {}
        self._follow(found.references, references, form, 0)
        return Registered(found.schema_type or "AVRO", found.schema_str or "", references)

    def _follow(self, named: Any, found: dict[str, str], form: str | None, depth: int) -> None:
        if depth > DEPTH:
            raise SourceError(
                f"the registry {self._url} has schemas that refer to each other more than {DEPTH} "
                "levels deep; register a flat one"
            )
        for reference in named or ():
            name, subject, version = reference.name, reference.subject, reference.version
            if name in found:
                continue
            other = self._ask(partial(self._client.get_version, subject, version, fmt=form))
            if other is None:
                raise SourceError(
                    f"the registry {self._url} lacks the schema {name!r} that another one refers "
                    "to; register it"
                )
            self._follow(other.schema.references, found, form, depth + 1)
            found[name] = other.schema.schema_str or ""

    def _ask(self, call: Callable[[], T]) -> T | None:
        if time.monotonic() < self._retry_at:
            raise RegistryUnavailable
        try:
            answer = call()
        except self._error as e:
            if e.http_status_code == 404 and e.error_code in (NOT_FOUND, 40401, 40402):
                self._answered()
                return None
            if e.http_status_code in PASSING:
                raise self._failed(e) from None
            raise SourceError(
                f"the schema registry {self._url} refuses with HTTP status {e.http_status_code}; "
                "correct registry, registry_username and registry_password"
            ) from None
        except Exception as e:  # the client's HTTP library has its own tree of errors
            raise self._failed(e) from None
        self._answered()
        return answer

    def _failed(self, error: Exception) -> RegistryUnavailable:
        self._retry_at = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        if self._gone_since is None:
            self._gone_since = time.monotonic()
            log.warning(
                "the schema registry %s does not answer (%s: %s); reading goes on when it is back",
                self._url,
                type(error).__name__,
                error,
            )
        return RegistryUnavailable()

    def _answered(self) -> None:
        self._wait, self._retry_at = FIRST_WAIT, 0.0
        if self._gone_since is not None:
            gone = time.monotonic() - self._gone_since
            log.warning("the schema registry answers again after %.0f s", gone)
            self._gone_since = None


class Schemas(Generic[T]):
    """What is made of the schemas of a registry, by id; the latest used ones are kept.

    Args:
        registry: Where they are.
        kind: What a schema must be: AVRO, PROTOBUF or JSON.
        build: Makes what is wanted; raises ValueError with the reason if it cannot.
        form: The registry's `format` of its answer.
    """

    def __init__(
        self,
        registry: Registry,
        kind: str,
        build: Callable[[Registered], T],
        form: str | None = None,
    ) -> None:
        self._registry = registry
        self._kind = kind
        self._build = build
        self._form = form
        self._kept: OrderedDict[int, T | ValueError] = OrderedDict()
        self._asked: dict[int, float] = {}

    def __getitem__(self, number: int) -> T:
        """What was made of a schema.

        Raises:
            ValueError: There is no such schema, or nothing can be made of it.
            RegistryUnavailable: It is not known now.
        """
        found = self._kept.get(number)
        if found is None or time.monotonic() > self._asked.get(number, float("inf")):
            found = self._fetch(number)
        self._kept.move_to_end(number)
        if isinstance(found, ValueError):
            raise ValueError(*found.args)
        return found

    def _fetch(self, number: int) -> T | ValueError:
        known = number < 2**31  # ids are positive and 32 bits wide
        schema = self._registry.schema(number, self._form) if known else None
        self._asked.pop(number, None)
        found: T | ValueError
        if schema is None:
            found = ValueError(f"the schema registry has no schema {number}")
            self._asked[number] = time.monotonic() + UNKNOWN_SECONDS
        elif schema.kind != self._kind:
            found = ValueError(
                f"schema {number} of the registry is of type {schema.kind}, not {self._kind}"
            )
        else:
            try:
                found = self._build(schema)
            except ValueError as e:
                found = ValueError(f"schema {number} of the registry: {e}")
        self._kept[number] = found
        while len(self._kept) > KEPT:
            old, _ = self._kept.popitem(last=False)
            self._asked.pop(old, None)
        return found
