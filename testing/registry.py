"""A schema registry for tests: the published HTTP API of Confluent's, as far as it is asked for.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html: registering under a
subject, schemas by id, versions of subjects, their error codes, basic authentication. Schemas are
kept and given as they are sent, not checked for compatibility: whoever registers a Protobuf schema
as a serialized file descriptor has what `format=serialized` asks for, whether it is asked or not.
"""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from testing.broker.process import free_port

Answer = tuple[int, dict[str, Any]]


class RegistryServer:
    """Serves until closed; `stop` and `start` take it away and bring it back.

    Args:
        user: `name:password` that requests must carry, None for no authentication.
    """

    def __init__(self, user: str | None = None) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.user = user
        self.status = 200  # of all answers, where it is not 200
        self.asked: list[str] = []  # paths of the GET requests
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[str, list[int]] = {}
        self._server: ThreadingHTTPServer | None = None
        self.start()

    def start(self) -> None:
        """Listen."""
        handler = type("Bound", (Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    close = stop

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """The id of a schema, the same one for the same schema."""
        known = [number for number, kept in self.schemas.items() if kept == schema]
        number = known[0] if known else len(self.schemas) + 1
        self.schemas[number] = schema
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def by_id(self, number: int) -> Answer:
        """`GET /schemas/ids/{id}`."""
        if number >= 2**31:
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        if number not in self.schemas:
            return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
        return 200, self.schemas[number]

    def by_version(self, subject: str, version: str) -> Answer:
        """`GET /subjects/{subject}/versions/{version}`."""
        versions = self.subjects.get(subject)
        if versions is None:
            return 404, {"error_code": 40401, "message": f"Subject {subject!r} not found"}
        place = len(versions) if version == "latest" else int(version)
        if not 0 < place <= len(versions):
            return 404, {"error_code": 40402, "message": f"Version {version} not found"}
        number = versions[place - 1]
        status, schema = self.by_id(number)
        return status, {**schema, "subject": subject, "version": place, "id": number}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    registry: ClassVar[RegistryServer]

    def do_GET(self) -> None:
        """Schemas by id and by version."""
        url = urlsplit(self.path)
        self.registry.asked.append(url.path)
        match [unquote(part) for part in url.path.strip("/").split("/")]:
            case ["schemas", "ids", number]:
                self._answer(*self.registry.by_id(int(number)))
            case ["subjects", subject, "versions", version]:
                self._answer(*self.registry.by_version(subject, version))
            case _:
                self._answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def do_POST(self) -> None:
        """Register a schema."""
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]:
            case ["subjects", subject, "versions"]:
                kept = {k: sent[k] for k in ("schema", "schemaType", "references") if sent.get(k)}
                self._answer(200, {"id": self.registry.register(subject, kept)})
            case _:
                self._answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        user = self.registry.user
        if user is not None:
            expected = "Basic " + base64.b64encode(user.encode()).decode()
            if self.headers["Authorization"] != expected:
                status, body = 401, {"error_code": 401, "message": "Unauthorized"}
        if self.registry.status != 200:
            status, body = self.registry.status, {"error_code": 50001, "message": "down"}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing."""
