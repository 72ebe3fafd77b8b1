"""A ledger's last commands, done again by the model: what came of each must be what the ledger answered.

    python -m tests.ledger.replay FILE      shows a dump of `Ledger.recent_commands()`, and does it again if it is whole

Only a dump from the ledger's making on can be done again; of another one the state before its first command is not known. What the
model does not have, a bound of text, is told as a difference.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from broker.model.commands import Command, CommandDump, CommandKind, decode_commands
from broker.model.words import EventKind, Status
from tests.model.ledger_model import LedgerModel, session_id_of

VERBS = frozenset((CommandKind.OPEN, CommandKind.RENEW, CommandKind.ACQUIRE, CommandKind.RELEASE, CommandKind.CLOSE))


class NotWhole(ValueError):
    """The older commands were overwritten."""


class Replay:
    """A model that does the commands of a dump. `differences` grows as it goes."""

    def __init__(self, dump: CommandDump) -> None:
        if not dump.is_whole:
            first_ns = dump.commands[0].time_ns if dump.commands else -1
            raise NotWhole(f"the commands before the {len(dump.commands)} last ones (from {first_ns} ns on) were overwritten: they can only be shown")
        self._dump = dump
        self._names: list[str] = []
        self.model = LedgerModel(**dump.settings)  # type: ignore[arg-type]  # is_lossy is a bool, the others are numbers
        self.differences: list[str] = []

    def run(self) -> list[str]:
        """All commands; what was answered otherwise."""
        for index, command in enumerate(self._dump.commands):
            if command.kind in VERBS:
                self._ask(index, command)
            else:
                self._do(command)
        return self.differences

    def _ask(self, index: int, command: Command) -> None:
        if command.status is Status.INVALID:  # its body may be beyond the bounds of a record; nothing was changed by it
            self.model.totals["invalid_total"] += 1
            return
        status, fence = self._answer(command)
        is_same_session = command.kind is not CommandKind.OPEN or fence == command.fence
        if status is not command.status or not is_same_session:
            self.differences.append(f"number {index}, {shown(command)}\n  comes out as {status.name}, session {fence}")

    def _answer(self, command: Command) -> tuple[Status, int]:
        model, now_ns, session_id = self.model, command.time_ns, session_id_of(command.fence)
        request_id, salt, products = command.request_id, command.salt, command.products
        match command.kind:
            case CommandKind.OPEN:
                user, host, app, label, instance_id, identity = command.texts
                answer = model.open(
                    now_ns, request_id=request_id, user=user, host=host, app=app, label=label, instance_id=instance_id,
                    identity=identity, products=products, ttl_ns=command.ttl_ns, priority=command.priority, salt=salt,
                )  # fmt: skip
            case CommandKind.RENEW:
                answer = model.renew(now_ns, session_id, command.number)
            case CommandKind.ACQUIRE:
                answer = model.acquire(now_ns, session_id, request_id, products, salt)
            case CommandKind.RELEASE:
                answer = model.release(now_ns, session_id, request_id, products[0][0] if products else "")
            case _:
                answer = model.close(now_ns, session_id, request_id)
        return answer.status, answer.fence

    def _do(self, command: Command) -> None:
        model, now_ns = self.model, command.time_ns
        match command.kind:
            case CommandKind.TIME:
                model.pass_time(now_ns)
            case CommandKind.ADVANCE:
                model.advance(now_ns, command.number)
            case CommandKind.PRODUCT:
                self._names.append(command.texts[0].decode())
                model.declare_product(self._names[-1])
            case CommandKind.POOL:
                assert command.pool is not None
                model.declare_pool(self._names[command.pool.product], command.pool.terms, command.pool.is_emulated)
            case CommandKind.STARTING:
                model.set_starting(now_ns, command.number, command.is_on)
            case CommandKind.PROVE:
                proof = (command.seats, command.until_ns, command.grace_until_ns)
                model.prove_source(now_ns, command.number, command.pool_number, *proof)
            case CommandKind.LOSE:
                model.lose_source(now_ns, command.number, command.grace_until_ns, command.reason)
            case CommandKind.ADMITTING:
                model.set_admitting(now_ns, command.is_on)
            case CommandKind.REVOKE:
                model.revoke(now_ns, command.fence, command.reason)
            case CommandKind.DRAIN:
                model.drain(command.size)
            case CommandKind.WRITABLE:
                model.set_writable(now_ns, command.is_on)
            case CommandKind.LEARNING:
                model.set_learning(now_ns, command.until_ns)
            case CommandKind.CONTROL:
                model.log.add(EventKind(command.number), size=command.size)


def shown(command: Command) -> str:
    """A command on one line: what it has that is not its kind's default."""
    told = [f"{each.name}={getattr(command, each.name)!r}" for each in fields(command)[2:] if getattr(command, each.name) != each.default]
    return f"at {command.time_ns}: {command.kind.name} {', '.join(told)}"


def _report(dump: CommandDump) -> Iterator[str]:
    yield f"{len(dump.commands)} commands of a ledger with {dump.settings}"
    yield from map(shown, dump.commands)
    try:
        differences = Replay(dump).run()
    except NotWhole as reason:
        yield str(reason)
        return
    yield from differences
    yield f"the model answers {len(differences)} of them otherwise"


if __name__ == "__main__":
    for line in _report(decode_commands(Path(sys.argv[1]).read_bytes())):
        print(line)
