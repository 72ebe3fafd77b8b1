"""The broker as a running process: what is started in which order, what ends it, and how.

    main thread       data directory · core · asyncio loop: gRPC listeners, HTTP listener, event pump
    usher-clients-*   the native data plane; the first keeps the ledger's clock
    usher-ticker      the ledger's clock, with data_plane = "grpcio" only
    keyring-*         one a bus, one a key          grpc's own threads

The start, in order; nothing is granted before its line, and no line waits for one below it:

    what is tried without the directory     certificates, trust files, modules, memory
    data directory                          lock; generation grown and synced
    ports                                   all of them bound: a taken one is said before minutes of replay
    foundation                              snapshot and log replayed, the run resumed, the log begun
    core                                    committer (the run's beginning is on the disk) → keyring, keys tried all at once → clock
    data plane                              serves; a pool gives what is proven of it         ◄── first grant
    the keys have been tried, or a second   loading modules would take the interpreter from the proofs
    control plane                           its modules are imported; snapshots, history, verbs, admin port, HTTP port
    running.json, door, READY

With data_plane = "grpcio" the client port is served with the control plane; after a take-over the data plane waits for the keys, too.
Signals go through the loop; threads start with all signals blocked. SIGTERM and SIGINT stop, SIGHUP reloads. No fork. The end is the table in `_steps`;
a successor (takeover.py) ends the broker by the same table, and gets the data directory's lock behind it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import broker
from broker.app import durability
from broker.app.ballast import Ballast
from broker.app.config import Config
from broker.app.core import Core, build_core
from broker.app.data_directory import DataDirectory, opened
from broker.app.emulation import EmulatedFleet
from broker.app.foundation import Foundation, founded
from broker.app.logs import facts
from broker.app.native_clients import NativeClients, open_native_clients, require_data_plane
from broker.app.preflight import try_without_directory
from broker.app.process_rules import (
    DESCRIPTORS_BESIDE,
    connections_possible,
    prepare_process,
    signals_blocked,
)
from broker.app.reload_signal import ReloadSignal
from broker.app.service_manager import ServiceManager
from broker.app.shutdown import Step, at_once, in_thread, shut_down
from broker.app.socket_activation import bind_sockets
from broker.app.takeover import Inheritance, inherit
from broker.app.takeover_door import TakeoverDoor
from broker.errors import InternalFault
from broker.exit_codes import ExitCode
from broker.journal.state import generation_seen
from hwkey import Waits

if TYPE_CHECKING:
    from broker.app.listeners import Listeners
    from broker.app.parts import Parts

log = logging.getLogger("broker.app")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SERVING = "serving"
ADMIN_DRAIN_S = 0.5
STEP_S = 5.0
KEYS_TRIED_S = 5.0
"""How long client apps wait at the sockets of a predecessor for the keys to be tried, rather than be told to come again."""
QUIET_S = 1.0
"""How long the keys are left alone with the interpreter before the control plane is loaded: a slow one is not waited for."""
KEYRING_STOP_S = STEP_S + Waits().command_wait_ms / 1000
"""A key that does not answer is waited for as long as one command to it may take: its USB transfer cannot be cut short."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a serving broker is found: what running.json holds."""

    pid: int
    version: str
    generation: int
    clients: str
    admin: str
    http: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a broker lives in beside its configuration."""

    directory: DataDirectory
    sockets: Mapping[str, socket.socket]
    manager: ServiceManager
    is_takeover: bool
    are_ports_kept: bool
    """By systemd, over this broker's end."""


def run_broker(
    config: Config,
    announce: Callable[[Endpoints], None] = lambda _: None,
    *,
    is_takeover: bool = False,
    accepts_restored: bool = False,
) -> None:
    """Runs a broker until a signal stops it; `announce` is called once it serves. With `is_takeover` the one that runs ends for it;
    with `accepts_restored` it goes on from a backup. BrokerError's tree if it cannot."""
    require_data_plane(config)
    try_without_directory(config)  # before a running broker ends for this one, and before minutes of replay
    prepare_process()
    config = _within_descriptors(config)
    manager = ServiceManager()
    inheritance = inherit(config.data_dir, is_takeover=is_takeover)
    with _opened(config, inheritance.lock, accepts_restored) as directory:
        surroundings = _surroundings(config, directory, inheritance, manager)
        fleet = _fleet(config) if config.emulation.enabled else None
        config.licence_folder.mkdir(parents=True, exist_ok=True)
        with founded(config, directory, accepts_restored=accepts_restored) as foundation:
            failed_steps, failure, door = asyncio.run(_serve(config, surroundings, fleet, foundation, announce))
            if failed_steps:
                # A thread that cannot be ended would keep the process; what matters has been done by now.
                log.info("stopped")
                logging.shutdown()
                os._exit(ExitCode.OUR_BUG)
        door.hand_over(directory.lock)
    log.info("stopped")
    if failure is not None:
        raise failure


def _opened(config: Config, lock: int | None, accepts_restored: bool) -> AbstractContextManager[DataDirectory]:
    journal = config.journal
    if not journal.is_kept:
        return opened(config.data_dir, lock)
    ballast = Ballast(config.journal_folder, journal.ballast_size)
    seen = functools.partial(generation_seen, config.journal_folder, journal.state_file) if accepts_restored else None
    return opened(config.data_dir, lock, ballast.release, seen)


def _surroundings(
    config: Config, directory: DataDirectory, inheritance: Inheritance, manager: ServiceManager
) -> Surroundings:
    given = inheritance.sockets
    sockets = bind_sockets(config, given)
    is_takeover = bool(inheritance.predecessor)
    return Surroundings(directory, sockets, manager, is_takeover=is_takeover, are_ports_kept=given.is_kept)


def _within_descriptors(config: Config) -> Config:
    """No more connections than there are open files for: the rest of the broker must not run out of them."""
    wanted = config.clients.connections_max
    possible = connections_possible(wanted)
    if possible == wanted:
        return config
    log.log(
        logging.INFO if possible + DESCRIPTORS_BESIDE >= wanted else logging.WARNING,
        "fewer connections than clients.connections_max: the limit of open files is too low (LimitNOFILE, ulimit -n)",
        extra=facts(connections_max=wanted, possible=possible),
    )
    return dataclasses.replace(config, clients=dataclasses.replace(config.clients, connections_max=possible))


def _fleet(config: Config) -> EmulatedFleet:
    return EmulatedFleet.prepare(config.data_dir, config.licence_folder, config.emulation.keys, int(time.time()))


async def _serve(
    config: Config,
    around: Surroundings,
    fleet: EmulatedFleet | None,
    foundation: Foundation,
    announce: Callable[[Endpoints], None],
) -> tuple[tuple[str, ...], InternalFault | None, TakeoverDoor]:
    """One life of the broker; the names of the steps of its shutdown that failed, the part whose failure ended it, and the door where a
    successor may wait."""
    stop, directory, manager = StopRequest(asyncio.get_running_loop()), around.directory, around.manager
    with signals_blocked():
        # First, so that a signal that comes meanwhile stops the broker in order as soon as it serves.
        stop.on_signals()
        life = _begun_life(config, around, fleet, foundation, stop)
    door = TakeoverDoor(
        directory.path, around.sockets, functools.partial(_give_way, life, stop), life.core.durability.committed, _refusal(manager)
    )
    try:
        await _grant(config, life, is_takeover=around.is_takeover)
        listeners = await _show(config, around, life, stop)
        reload_signal = ReloadSignal(functools.partial(_reload, life.core, manager))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload_signal.request)
        endpoints = Endpoints(os.getpid(), broker.__version__, directory.generation, *listeners.addresses)
        directory.write_run_file(asdict(endpoints))
        door.open()
        watch_task = asyncio.create_task(manager.watch(listeners.is_moving), name="usher-watchdog")
        manager.say_ready(SERVING)
        log.info("serving", extra=facts(**asdict(endpoints), data_dir=str(directory.path)))
        announce(endpoints)
        cause = await stop.cause()
        watch_task.cancel()
        manager.say_stopping(cause)
        log.info("stopping", extra=facts(cause=cause))
    finally:
        failed = await shut_down(_steps(config, directory, life, door))
    return failed, stop.failure, door


@dataclass(slots=True)
class Life:
    """What of a broker has been built so far. `native` is None with data_plane = "grpcio"; `parts` and `listeners` come with the control plane."""

    core: Core
    native: NativeClients | None
    parts: Parts | None = None
    listeners: Listeners | None = None
    tasks: tuple[asyncio.Task[None], ...] = ()

    def say_failed(self) -> None:
        """The log has failed, and the process is about to end. From any thread, waits for nothing."""
        if self.native is not None:
            self.native.say_failed()
        if self.listeners is not None:
            self.listeners.say_failed()

    def keep_ports(self) -> None:
        """Somebody else has the listening sockets, too: connections to come wait there from the moment that these listeners stop."""
        if self.native is not None:
            self.native.keep_port()


def _begun_life(
    config: Config, around: Surroundings, fleet: EmulatedFleet | None, foundation: Foundation, stop: StopRequest
) -> Life:
    """Core and data plane, built and not started."""
    core = build_core(config, around.directory, fleet, foundation, functools.partial(stop.fail, "the clock thread"))
    life = Life(core, _native(config, core, stop, around.sockets["clients"]) if config.clients.is_native else None)
    if around.are_ports_kept:
        life.keep_ports()
    return life


def _native(config: Config, core: Core, stop: StopRequest, listening: socket.socket) -> NativeClients:
    kept = core.durability
    native = open_native_clients(
        config, core.ledger, core.certificates.native, stop.fail, listening, journal=kept.port, is_holding=kept.is_holding
    )
    core.waker.lead_to(native.wake)
    return native


async def _grant(config: Config, life: Life, *, is_takeover: bool) -> None:
    """Starts all that a seat needs."""
    core = life.core
    with signals_blocked():
        core.durability.start(life.say_failed)
        _begin_keyring(config, core)
        if core.ticker is not None:
            core.ticker.start()
    if is_takeover:
        await _keys_tried(core, KEYS_TRIED_S)
    if life.native is not None:
        with signals_blocked():
            await life.native.start()
        await _keys_tried(core, QUIET_S)


async def _keys_tried(core: Core, wait_s: float) -> None:
    """Returns when every key that was found has been proven or has failed, or after so long."""
    with signals_blocked():  # the thread begins here
        tried = asyncio.get_running_loop().run_in_executor(None, core.keyring.await_started, wait_s)
    await tried


async def _show(config: Config, around: Surroundings, life: Life, stop: StopRequest) -> Listeners:
    """Imports, builds and starts all that people and programs look at, and the client port on grpcio."""
    from broker.app.listeners import open_listeners
    from broker.app.parts import build_parts

    with signals_blocked():
        life.core.durability.follow()
        life.parts = build_parts(config, around.directory, life.core)
        life.listeners = open_listeners(config, around.directory, life.parts, life.native, around.sockets)
        life.tasks = _tasks(life.parts, stop)
    await life.listeners.start(functools.partial(stop.ended, "the HTTP listener"))
    return life.listeners


def _give_way(life: Life, stop: StopRequest, cause: str) -> None:
    """Ends for a successor, which has the sockets by now."""
    life.keep_ports()
    stop.ask(cause)


def _refusal(manager: ServiceManager) -> str:
    """Why this broker is not taken over from outside: systemd would believe its service ended. Its sockets keep clients waiting anyway."""
    return "it is a service of systemd: `systemctl restart usher`" if manager.is_there else ""


def _reload(core: Core, manager: ServiceManager) -> Sequence[str]:
    manager.say_reloading()
    try:
        return core.reloader.reload()
    finally:
        manager.say_ready(SERVING)


def _tasks(parts: Parts, stop: StopRequest) -> tuple[asyncio.Task[None], ...]:
    """What goes on in the event loop beside the listeners; each is missed when it ends."""

    def wall_ns() -> int:
        # Never behind what licences were judged by: the mark that is journaled must not go back.
        return max(time.time_ns(), parts.core.keyring.wall_unix_s() * 10**9)

    works = {"the event pump": parts.pump.run(), "the chores of durability": parts.core.durability.run_chores(wall_ns)}
    tasks = []
    for name, work in works.items():
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(functools.partial(stop.ended, name))
        tasks.append(task)
    return tuple(tasks)


def _begin_keyring(config: Config, core: Core) -> None:
    reading = core.keyring.start()
    core.reloader.begin(reading)
    counts = {"accepted": len(reading.accepted), "refused": len(reading.refused)}
    log.info("licences read", extra=facts(folder=str(config.licence_folder), **counts))
    if not any(path.exists() for path in config.trust_files) and not config.emulation.enabled:
        files = ", ".join(str(path) for path in config.trust_files)
        log.warning("no trust file: no vendor is believed and there will be no seats", extra=facts(files=files))


def _steps(config: Config, directory: DataDirectory, life: Life, door: TakeoverDoor) -> tuple[Step, ...]:
    """The shutdown, in order. What was not built is not ended."""
    drain_s = config.broker.drain_s
    core, listeners = life.core, life.listeners
    clients = listeners.clients if listeners is not None else life.native
    steps = (
        Step("door", door.close, STEP_S),
        Step("health", listeners.say_stopping, STEP_S) if listeners else None,
        Step("run file", at_once(directory.remove_run_file), STEP_S),
        # Not before a successor: it has every session that is granted now.
        None if door.has_successor else Step("no new sessions", at_once(functools.partial(core.drain.set, True)), STEP_S),
        Step("client listener", functools.partial(clients.stop, drain_s), drain_s + STEP_S) if clients else None,
        Step("HTTP listener", listeners.http.stop, drain_s + STEP_S) if listeners else None,
        Step("keyring", in_thread(core.keyring.stop), KEYRING_STOP_S),
        Step("clock thread", in_thread(core.ticker.stop), STEP_S) if core.ticker else None,
        Step("last events", functools.partial(_end_events, life), STEP_S),
        Step("admin listener", functools.partial(listeners.admin.stop, ADMIN_DRAIN_S), STEP_S) if listeners else None,
        Step("gate", at_once(core.durability.close_gate), STEP_S),
        Step("journal", in_thread(core.durability.stop), durability.STOP_S),
    )
    return tuple(step for step in steps if step is not None)


async def _end_events(life: Life) -> None:
    for task in life.tasks:
        task.cancel()
    if life.tasks:
        await asyncio.wait(life.tasks)
    while life.parts is not None and life.parts.pump.pump():
        pass  # bounded: nobody makes events any more
    log.info("last counts", extra=facts(**_last_counts(life.core)))


def _last_counts(core: Core) -> dict[str, int]:
    """What this life of the broker has done, for the log: nobody can scrape it any more."""
    now = core.ledger.counters()
    return {
        "opened": now.opened_total,
        "renewed": now.renewed_total,
        "denied": now.denied_total,
        "replayed": now.replayed_total,
        "ended": sum(now.ended_totals),
        "sessions": now.session_count,
    }


class StopRequest:
    """Why the broker is to stop: a signal, or a part that failed. The first cause counts. `fail` may come from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cause: asyncio.Future[str] = loop.create_future()
        self._failure: InternalFault | None = None

    def on_signals(self) -> None:
        """Takes the signals that end a process."""
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, self._stop, number.name)

    def ask(self, cause: str) -> None:
        """Somebody who may wants it to end, in order. Event loop's thread."""
        self._stop(cause)

    def fail(self, part: str, error: BaseException) -> None:
        """A part that the broker cannot do without has failed."""
        self._loop.call_soon_threadsafe(self._take_failure, part, error)

    def ended(self, part: str, task: asyncio.Task[None]) -> None:
        """A task ended that should not, unless the broker is stopping already."""
        if not task.cancelled() and not self._cause.done():
            self._take_failure(part, task.exception() or RuntimeError("it ended by itself"))

    async def cause(self) -> str:
        """Waits for the first cause."""
        return await self._cause

    @property
    def failure(self) -> InternalFault | None:
        """The first part that failed, if one did."""
        return self._failure

    def _take_failure(self, part: str, error: BaseException) -> None:
        log.critical("a part of the broker failed", extra=facts(part=part), exc_info=error)
        self._failure = self._failure or InternalFault(part, error)
        self._stop(f"{part} failed")

    def _stop(self, cause: str) -> None:
        if not self._cause.done():
            self._cause.set_result(cause)
