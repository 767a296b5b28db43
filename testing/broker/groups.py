"""Consumer groups by the classic protocol: join, sync, heartbeat, leave, expire.

The broker only passes the members' assignment along (the leader computes it), so eager and
cooperative groups look the same from here.
"""

import time
import uuid
from dataclasses import dataclass, field
from threading import Condition

UNKNOWN_MEMBER, ILLEGAL_GENERATION, REBALANCING, MEMBER_ID_REQUIRED = 25, 22, 27, 79
SETTLE = 0.05  # seconds a join phase waits for more members before it is closed
SYNC_LIMIT = 10.0  # seconds that followers wait for their leader's assignment


@dataclass
class Member:
    """One consumer of a group."""

    protocols: dict[str, bytes]
    session: float
    rebalance: float
    instance: str | None = None
    seen: float = field(default_factory=time.monotonic)
    joined: bool = False
    waiting: bool = False  # inside a JoinGroup request now, hence alive


@dataclass
class Joined:
    """The answer to a JoinGroup request."""

    error: int
    member: str
    generation: int = -1
    protocol: str = ""
    leader: str = ""
    members: list[tuple[str, str | None, bytes]] = field(default_factory=list)


class Group:
    """One group's state machine: empty -> joining -> syncing -> stable."""

    def __init__(self, changed: Condition) -> None:
        self._changed = changed
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.state = "empty"
        self._leader = ""
        self._protocol = ""
        self._assignment: dict[str, bytes] = {}
        self._since = 0.0

    def _rebalance(self) -> None:
        self.state = "joining" if self.members else "empty"
        self._since = time.monotonic()
        for member in self.members.values():
            member.joined = member.waiting
        self._changed.notify_all()

    def remove(self, ids: list[str]) -> None:
        """Members leave or are expired; the others rebalance."""
        gone = [self.members.pop(name) for name in ids if name in self.members]
        if gone:
            self._rebalance()

    def expire(self, now: float) -> None:
        """Remove the members whose session has run out."""
        self.remove(
            [
                name
                for name, member in self.members.items()
                if not member.waiting and now - member.seen > member.session
            ]
        )

    def check(self, member: str, generation: int) -> int:
        """The error code for a member's request, 0 when it may speak; counts as a sign of life."""
        if member not in self.members:
            return UNKNOWN_MEMBER
        if generation != self.generation:
            return ILLEGAL_GENERATION
        self.members[member].seen = time.monotonic()
        return 0

    def join(self, name: str, joining: Member, needs_id: bool) -> Joined:
        """Take part in the next generation; returns when it has begun."""
        if not name:
            name = f"member-{uuid.uuid4()}"
            if needs_id and joining.instance is None:
                return Joined(MEMBER_ID_REQUIRED, name)
        self._replace_instance(name, joining)
        joining.joined = joining.waiting = True
        self.members[name] = joining
        if self.state != "joining":
            self._rebalance()
        before = self.generation
        while self.generation == before and self.members.get(name) is joining:
            if not self._try_begin():
                self._changed.wait(SETTLE)
        joining.waiting = False
        joining.seen = time.monotonic()
        if self.members.get(name) is not joining:
            return Joined(UNKNOWN_MEMBER, name)
        members = []
        if name == self._leader:
            members = [
                (other, member.instance, member.protocols[self._protocol])
                for other, member in self.members.items()
            ]
        return Joined(0, name, self.generation, self._protocol, self._leader, members)

    def _replace_instance(self, name: str, joining: Member) -> None:
        """A static member that comes back takes the place of its former self."""
        if joining.instance is None:
            return
        for other, member in list(self.members.items()):
            if member.instance == joining.instance and other != name:
                del self.members[other]

    def _try_begin(self) -> bool:
        """Begin the next generation if everybody is here, or has had its time."""
        elapsed = time.monotonic() - self._since
        everybody = all(member.joined for member in self.members.values())
        limit = max(member.rebalance for member in self.members.values())
        if not (everybody and elapsed >= SETTLE) and elapsed <= limit:
            return False
        self.members = {name: m for name, m in self.members.items() if m.joined}
        first = next(iter(self.members.values()))
        self._protocol = next(
            name
            for name in first.protocols
            if all(name in member.protocols for member in self.members.values())
        )
        if self._leader not in self.members:
            self._leader = next(iter(self.members))
        self.generation += 1
        self.state = "syncing"
        self._assignment = {}
        for member in self.members.values():
            member.seen = time.monotonic()
        self._changed.notify_all()
        return True

    def sync(self, name: str, generation: int, given: dict[str, bytes]) -> tuple[int, bytes]:
        """Hand in the assignment (leader), wait for one's own part of it (everybody)."""
        error = self.check(name, generation)
        if error:
            return error, b""
        if given and self.state == "syncing":
            self._assignment = given
            self.state = "stable"
            self._changed.notify_all()
        limit = time.monotonic() + SYNC_LIMIT
        while (
            self.state == "syncing"
            and self.generation == generation
            and name in self.members
            and time.monotonic() < limit
        ):
            self.members[name].seen = time.monotonic()
            self._changed.wait(0.1)
        if self.state != "stable" or self.generation != generation:
            return REBALANCING, b""
        return self.check(name, generation), self._assignment.get(name, b"")

    def heartbeat(self, name: str, generation: int) -> int:
        """The error code for a heartbeat: 0, or why the member must act."""
        error = self.check(name, generation)
        return REBALANCING if not error and self.state == "joining" else error
