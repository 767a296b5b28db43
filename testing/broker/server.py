"""The TCP side: frames in, handler, frames out."""

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kafka.protocol import admin, consumer, metadata, producer

from testing.broker import data_api, group_api, topics_api, transactions_api
from testing.broker.state import Message, State
from testing.broker.storage import Storage

UNSUPPORTED_VERSION = 35
EXPIRE_EVERY = 0.1  # seconds
Handler = Callable[[State, Message, int], Message | None]


class Api(NamedTuple):
    """A request class, the versions that are advertised (none is "flexible"), its handler."""

    request: Any
    low: int
    high: int
    handle: Handler


def api_versions(state: State, request: Message, version: int) -> Message:
    """What this broker speaks."""
    return versions_response(version)


def versions_response(version: int, error: int = 0) -> Message:
    """The list of APIs, with ``error`` for a client that asked in a newer form."""
    response = metadata.ApiVersionsResponse
    keys = [
        response.ApiVersion(
            version=version, api_key=key, min_version=api.low, max_version=api.high
        )
        for key, api in APIS.items()
    ]
    return response(version=version, error_code=error, api_keys=keys, throttle_time_ms=0)


APIS: dict[int, Api] = {
    api.request.API_KEY: api
    for api in (
        Api(metadata.ApiVersionsRequest, 0, 3, api_versions),
        Api(metadata.MetadataRequest, 0, 8, topics_api.metadata),
        Api(metadata.FindCoordinatorRequest, 0, 2, topics_api.find_coordinator),
        Api(admin.CreateTopicsRequest, 0, 4, topics_api.create_topics),
        Api(admin.CreatePartitionsRequest, 0, 1, topics_api.create_partitions),
        Api(admin.DeleteRecordsRequest, 0, 1, topics_api.delete_records),
        Api(producer.InitProducerIdRequest, 0, 1, transactions_api.init_producer_id),
        Api(producer.AddPartitionsToTxnRequest, 0, 2, transactions_api.add_partitions),
        Api(producer.EndTxnRequest, 0, 2, transactions_api.end_transaction),
        Api(producer.ProduceRequest, 3, 8, data_api.produce),
        Api(consumer.FetchRequest, 4, 11, data_api.fetch),
        Api(consumer.ListOffsetsRequest, 1, 5, data_api.list_offsets),
        Api(consumer.JoinGroupRequest, 0, 5, group_api.join_group),
        Api(consumer.SyncGroupRequest, 0, 3, group_api.sync_group),
        Api(consumer.HeartbeatRequest, 0, 3, group_api.heartbeat),
        Api(consumer.LeaveGroupRequest, 0, 3, group_api.leave_group),
        Api(consumer.OffsetCommitRequest, 2, 7, group_api.offset_commit),
        Api(consumer.OffsetFetchRequest, 1, 5, group_api.offset_fetch),
    )
}


def answer(state: State, frame: bytes) -> bytes | None:
    """One request frame to its framed response; None when there is nothing to send."""
    key, version, correlation = struct.unpack_from(">hhi", frame)
    api = APIS[key]
    if version > api.high and api.request is metadata.ApiVersionsRequest:
        version, response = 0, versions_response(0, UNSUPPORTED_VERSION)
    else:
        request = api.request.decode(memoryview(frame), version=version, header=True)
        with state.changed:
            response = api.handle(state, request, version)
    if response is None:
        return None
    response.API_VERSION = version
    response.with_header(correlation_id=correlation)
    return bytes(response.encode(header=True, framed=True))


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64
    state: State


class Connection(socketserver.BaseRequestHandler):
    """Answers one client's requests in their order."""

    server: Server

    def handle(self) -> None:
        """Until the client goes, or sends something that is not known here."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self.request.makefile("rb", buffering=1 << 18)
        try:
            while len(prefix := stream.read(4)) == 4:
                frame = stream.read(struct.unpack(">i", prefix)[0])
                response = answer(self.server.state, frame)
                if response is not None:
                    self.request.sendall(response)
        except (OSError, KeyError):
            return


class Broker:
    """A single-node broker over a folder, serving on 127.0.0.1.

    Args:
        folder: keeps topics, records and offsets; a later broker over it finds them again.
        port: 0 takes a free one.
        partitions: of topics created by their first use.
        auto_create: whether topics are created by their first use.
        advertised: the port that clients are told, such as that of a proxy; its own by default.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        partitions: int = 4,
        auto_create: bool = False,
        advertised: int = 0,
    ) -> None:
        self._server = Server(("127.0.0.1", port), Connection)
        host, bound = str(self._server.server_address[0]), int(self._server.server_address[1])
        self.state = State(Storage(folder), host, advertised or bound, partitions, auto_create)
        self._server.state = self.state
        self._closing = threading.Event()
        for run in (self._server.serve_forever, self._expire):
            threading.Thread(target=run, daemon=True).start()

    @property
    def bootstrap(self) -> str:
        """The address for clients, host:port."""
        return f"{self.state.host}:{self.state.port}"

    def _expire(self) -> None:
        while not self._closing.wait(EXPIRE_EVERY):
            with self.state.changed:
                for group in self.state.groups.values():
                    group.expire(time.monotonic())

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
