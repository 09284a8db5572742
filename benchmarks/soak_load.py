"""The callers of a soak: threads and tasks that call as a web host does, and tenants that come, call once and go."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator

import httpx2

from soak_judge import Judge
from tokenvalet import ClientConfig, TokenValet, TokenValetError

__all__ = ["Load", "Program"]

PATH = "/api/v1/integration/health-records"
STREAM = "/stream?chunks=20&size=1024"
PAUSE = 0.15
TENANT_PAUSE = 1.0
# Longer than any interval of a renewer or a store that has met trouble.
PATIENCE = 45.0


class Program:
    """One valet, as one process would have it, and the names of its clients.

    Attributes:
        tenant: the configuration of those who come and go, but for what makes each of them another.
    """

    def __init__(self, label: str, valet: TokenValet, clients: tuple[str, ...], tenant: ClientConfig) -> None:
        self.label = label
        self.valet = valet
        self.clients = clients
        self.tenant = tenant


class Load:
    """Callers that call until they are parked, and go on again when they are told to."""

    def __init__(self, programs: list[Program], judge: Judge, seed: int) -> None:
        self._programs = programs
        self._judge = judge
        self._seed = seed
        self._go = threading.Event()
        self._over = False
        self._parked: set[str] = set()
        self._threads = [threading.Thread(target=self._tasks, name="soak-loop")]
        for program in programs:
            self._threads.append(threading.Thread(target=self._tenants, args=(program,)))
            for client in program.clients:
                self._threads.append(threading.Thread(target=self._caller, args=(program, client)))
        self._callers = len(self._threads) - 1 + sum(len(program.clients) for program in programs)

    def go(self) -> None:
        self._go.set()

    def park(self) -> bool:
        """Let every caller have one more good answer, and stand still. Returns False where some get none."""
        self._go.clear()
        deadline = time.monotonic() + PATIENCE
        while len(self._parked) < self._callers:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the callers, parked; they end with the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over = True
            self._go.set()
            for thread in self._threads:
                thread.join()

    def _is_parked(self, name: str, good: bool) -> bool:
        """Whether a caller whose last call was a good one, or not, has to stand still now."""
        if self._go.is_set():
            self._parked.discard(name)
            return False
        if good:
            self._parked.add(name)
        return name in self._parked

    def _caller(self, program: Program, client: str) -> None:
        rng = random.Random(f"caller {self._seed} {program.label} {client}")
        name, good = f"{program.label} {client} thread", True
        while not self._over:
            if self._is_parked(name, good):
                self._go.wait()
                continue
            good = self._call(program, client, stream=rng.random() < 0.1)
            time.sleep(rng.uniform(0.5, 1.5) * PAUSE)

    def _call(self, program: Program, client: str, *, stream: bool = False) -> bool:
        label, began = program.label, time.monotonic()
        try:
            with program.valet.client(client, timeout=30) as api:
                if not stream:
                    return self._judge.answered(label, client, began, api.get(PATH).status_code)
                with api.stream("GET", STREAM) as response:
                    next(response.iter_raw(), None)  # and leave before the end
                    return self._judge.answered(label, client, began, response.status_code)
        except TokenValetError as error:
            self._judge.refused(label, client, began, error)
        except httpx2.TransportError as error:
            self._judge.broke(label, client, began, error)
        return False

    def _tenants(self, program: Program) -> None:
        number, good, caller = 0, True, f"{program.label} tenants"
        while not self._over:
            if self._is_parked(caller, good):
                self._go.wait()
                continue
            number += 1
            name = f"tenant-{number}"
            config = program.tenant.model_copy(
                update={"parameters": {"tenant": f"{program.label} {number}"}, "dpop": number % 2 == 0}
            )
            program.valet.add_client(name, config)
            good = self._call(program, name)
            program.valet.remove_client(name)
            self._judge.forget(program.label, name)
            time.sleep(TENANT_PAUSE)

    def _tasks(self) -> None:
        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for program in self._programs:
                    for client in program.clients:
                        group.create_task(self._task(program, client))

        asyncio.run(all_of_them())

    async def _task(self, program: Program, client: str) -> None:
        rng = random.Random(f"task {self._seed} {program.label} {client}")
        name, good = f"{program.label} {client} task", True
        while not self._over:
            if self._is_parked(name, good):
                await asyncio.sleep(0.02)
                continue
            limit = rng.uniform(0.0, 0.02) if self._go.is_set() and rng.random() < 0.1 else None
            good = await self._async_call(program, client, limit, stream=rng.random() < 0.1)
            await asyncio.sleep(rng.uniform(0.5, 1.5) * PAUSE)

    async def _async_call(self, program: Program, client: str, limit: float | None, *, stream: bool) -> bool:
        label, began = program.label, time.monotonic()
        try:
            async with asyncio.timeout(limit), program.valet.async_client(client, timeout=30) as api:
                if not stream:
                    return self._judge.answered(label, client, began, (await api.get(PATH)).status_code)
                async with api.stream("GET", STREAM) as response:
                    await anext(response.aiter_raw(), None)
                    return self._judge.answered(label, client, began, response.status_code)
        except TimeoutError:
            self._judge.cancelled(label)
        except TokenValetError as error:
            self._judge.refused(label, client, began, error)
        except httpx2.TransportError as error:
            self._judge.broke(label, client, began, error)
        return False
