"""Checks of everything that a training needs, from this machine to the server's GPU.

A check is ok, a warning, failed, or skipped because of an earlier one. No problem raises: it
becomes a check with what to do about it. The network traffic is a dozen small requests, and
LINK_BYTES in each direction.
"""

import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar

import httpx
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.diagnostics.checks import Check, Found, NotChecked, disk_found, make_check
from omega21.client.diagnostics.local_checks import look_at_disk, look_at_packages, look_at_python
from omega21.client.diagnostics.path_checks import look_at_name, look_at_tls
from omega21.client.http.address import check_encrypted, is_loopback, parse_address
from omega21.client.http.retry import RetryRules
from omega21.client.http.transport import Transport
from omega21.language import _
from omega21.language.figures import count, decimal
from omega21.protocol import PROTOCOL_VERSION
from omega21.protocol.errors import NotFound, OtherVersion, TunnelLimit
from omega21.protocol.legacy import Info, Machine, Status
from omega21.protocol.link.tunnels import tunnel_of

LINK_BYTES: Final = 2**20
"""Bytes for measuring the rate, in each direction: a thousandth of ngrok's free month."""

_ROUND_TRIPS: Final = 5
_CLOCK_SECONDS: Final = 30.0
_LITTLE_MEMORY: Final = 10**9
_LITTLE_QUOTA: Final = 0.1
_Told = TypeVar("_Told")


class Examination:
    """Checks everything that a training at `address` needs; without one, this machine only.

    `known_id` is the identity of the server that was at this address before.
    """

    def __init__(
        self,
        address: str | None,
        *,
        token: str | None = None,
        proof_needed: bool = False,
        ca: Path | None = None,
        known_id: str | None = None,
        folder: Path,
        timeout: float = 60.0,
    ) -> None:
        self._given = address
        self._address = address or ""
        self._token = token
        self._proof_needed = proof_needed
        self._ca = ca
        self._known_id = known_id
        self._folder = folder
        self._timeout = timeout
        self._trip = 0.0
        self._info: Info | None = None
        self._status: Status | None = None

    async def run(self) -> AsyncIterator[Check]:
        """Yield the checks, in the order of their dependencies."""
        blocked: dict[str, str] = {}
        for name, needs, look in self._checks():
            reason = next((blocked[need] for need in needs if need in blocked), None)
            if reason is None:
                check = await make_check(name, look)
            else:
                check = Check(name=name, state="not checked", found=reason)
            if check.state == "failed":
                blocked[name] = _("because of: {name}").format(name=name)
            elif reason is not None or (name == "address" and check.state == "not checked"):
                blocked[name] = check.found
            yield check

    def _checks(self) -> list[tuple[str, tuple[str, ...], Callable[[], Awaitable[Found]]]]:
        """Return each check with its name and the checks that it depends on."""
        return [
            ("python", (), look_at_python),
            ("packages", (), look_at_packages),
            ("disk", (), self._disk),
            ("address", (), self._look_at_address),
            ("name", ("address",), self._name),
            ("tls", ("address", "name"), self._tls),
            ("tunnel", ("tls",), self._tunnel),
            ("token", ("tunnel",), self._look_at_token),
            ("versions", ("token",), self._versions),
            ("identity", ("token",), self._identity),
            ("clock", ("token",), self._clock),
            ("gpu", ("token",), self._gpu),
            ("memory", ("token",), self._memory),
            ("self-test", ("token",), self._self_test),
            ("server disk", ("token",), self._server_disk),
            ("round trip", ("tunnel",), self._round_trip),
            ("rate", ("token",), self._rate),
            ("quota", ("token",), self._quota),
        ]

    # --- the path to the server
    # ----------------------------------------------------------------------------

    async def _look_at_address(self) -> Found:
        if self._given is None:
            raise NotChecked(_("no address is given, and no server was used yet"))
        self._address = parse_address(self._given)
        check_encrypted(self._address, self._token)
        if self._address.startswith("http:") and not is_loopback(self._address):
            return Found(self._address, _("the link is not encrypted: use https:// or `ssh -L`"))
        return Found(self._address)

    async def _disk(self) -> Found:
        return await run_sync(look_at_disk, self._folder)

    async def _name(self) -> Found:
        return await run_sync(look_at_name, self._address)

    async def _tls(self) -> Found:
        return await run_sync(look_at_tls, self._address, self._ca)

    async def _tunnel(self) -> Found:
        async with self._api(token=None) as api:
            health = await api.legacy.health()
        kind = tunnel_of(httpx.URL(self._address).host)
        up = _("the server answers, it has been up for {minutes} min").format(
            minutes=decimal(health.uptime_seconds / 60, 0)
        )
        return Found(up if kind == "none" else f"{kind}: {up}", figures={"tunnel": kind})

    # --- the server -------------------------------------------------------------------------------

    async def _look_at_token(self) -> Found:
        async with self._api() as api:
            self._info = await api.legacy.info()
            self._status = await api.legacy.status()
        return Found(_("accepted") if self._token else _("none, and none is required"))

    async def _versions(self) -> Found:
        info, ours = self._told(self._info), version("omega21")
        both = _("here {ours}, server {theirs}, protocol {protocol}").format(
            ours=ours, theirs=info.version, protocol=info.protocol
        )
        if info.protocol != PROTOCOL_VERSION:
            raise OtherVersion(both)
        same = info.version == ours
        return Found(both, "" if same else _("install the same version on both sides"))

    async def _identity(self) -> Found:
        found = self._told(self._info).server_id
        figures = {"server_id": found}
        if self._known_id is None:
            return Found(_("{id}, not used before").format(id=found[:8]), figures=figures)
        if found == self._known_id:
            text = _("{id}, the same as last time").format(id=found[:8])
            return Found(text, figures=figures)
        return Found(
            _("{id}, another server than last time").format(id=found[:8]),
            _("it does not have your runs: `omega21 resume` creates them there"),
            figures,
        )

    async def _clock(self) -> Found:
        machine = self._machine()
        async with self._api() as api:
            before = time.time()
            machine = (await api.legacy.status()).machine or machine
            after = time.time()
        ahead = machine.clock - (before + after) / 2
        far = abs(ahead) > _CLOCK_SECONDS + (after - before)
        return Found(
            _("the server's clock differs by {seconds} s").format(
                seconds=f"{'+' if ahead >= 0 else ''}{decimal(ahead, 1)}"
            ),
            _("set the clock that is wrong; certificates and times depend on it") if far else "",
            {"seconds": ahead},
        )

    async def _gpu(self) -> Found:
        machine = self._machine()
        if machine.device_memory_total is None:
            return Found(
                _("none: it computes on {device}, {cpus} cores").format(
                    device=machine.device, cpus=machine.cpus
                ),
                _("in Colab choose Runtime, Change runtime type, a GPU; then start the cell again"),
            )
        return Found(machine.device)

    async def _memory(self) -> Found:
        machine = self._machine()
        free, total = machine.device_memory_free, machine.device_memory_total
        if free is None or total is None:
            raise NotChecked(_("the server has no GPU"))
        little = free < _LITTLE_MEMORY
        return Found(
            _("{free} of {total} GB free").format(
                free=decimal(free / 1e9, 1), total=decimal(total / 1e9, 1)
            ),
            _("end other programs on the server's GPU (nvidia-smi shows them)") if little else "",
            {"free": free, "total": total},
        )

    async def _self_test(self) -> Found:
        async with self._api() as api:
            seconds = (await api.legacy.diagnose()).seconds
        text = _("it computed forward and backward in {seconds} s").format(
            seconds=decimal(seconds, 2)
        )
        return Found(text, figures={"seconds": seconds})

    async def _server_disk(self) -> Found:
        return disk_found(
            self._machine().disk_free,
            where=_("the server's data folder"),
            advice=_("make room there, or remove runs with `omega21 runs remove`"),
        )

    # --- the link ---------------------------------------------------------------------------------

    async def _round_trip(self) -> Found:
        seconds = []
        async with self._api(token=None) as api:
            await api.legacy.health()  # opens the connection
            for _count in range(_ROUND_TRIPS):
                start = time.perf_counter()
                await api.legacy.health()
                seconds.append(time.perf_counter() - start)
        self._trip = statistics.median(seconds)
        return Found(f"{decimal(1000 * self._trip, 0)} ms", figures={"seconds": self._trip})

    async def _rate(self) -> Found:
        async with self._api() as api:
            try:
                up = await self._measure(api, body=os.urandom(LINK_BYTES))
                down = await self._measure(api, down=LINK_BYTES)
            except NotFound as error:
                raise NotChecked(_("the server is older and cannot measure it")) from error
        return Found(
            _("{up} MB/s up, {down} MB/s down").format(
                up=decimal(up / 1e6, 2), down=decimal(down / 1e6, 2)
            ),
            figures={"up_bytes_per_second": up, "down_bytes_per_second": down},
        )

    async def _measure(self, api: Api, *, body: bytes = b"", down: int = 0) -> float:
        """Return the bytes per second of one transfer, without the round trip of a call."""
        start = time.perf_counter()
        await api.server.probe_link(body=body, down=down)
        seconds = time.perf_counter() - start
        return (len(body) + down) / max(seconds - self._trip, 1e-3)

    async def _quota(self) -> Found:
        traffic = self._told(self._status).traffic
        if traffic is None:
            raise NotChecked(_("the server is older and does not count"))
        limited = [
            (left, left + used)
            for left, used in (
                (traffic.bytes_left, traffic.bytes),
                (traffic.requests_left, traffic.requests),
            )
            if left is not None
        ]
        if not limited:
            return Found(_("no limit known for this kind of link"))
        text = _("{megabytes} MB and {requests} requests left this month").format(
            megabytes=decimal((traffic.bytes_left or 0) / 1e6, 0),
            requests=count(traffic.requests_left or 0),
        )
        figures = {"bytes_left": traffic.bytes_left, "requests_left": traffic.requests_left}
        if any(left == 0 for left, _all in limited):
            raise TunnelLimit(text)
        little = any(left < _LITTLE_QUOTA * everything for left, everything in limited)
        advice = _("it may not be enough: `ssh -L` or the server's own address has no limit")
        return Found(text, advice if little else "", figures)

    # --- how --------------------------------------------------------------------------------------

    def _api(self, token: str | None = "") -> Api:
        transport = Transport(
            self._address,
            token=self._token if token == "" else token,
            proof_needed=self._proof_needed,
            timeout=self._timeout,
            rules=RetryRules(attempts=1),
            ca=self._ca,
        )
        return Api(transport)

    def _told(self, told: _Told | None) -> _Told:
        if told is None:
            raise NotChecked(_("the server did not report it"))
        return told

    def _machine(self) -> Machine:
        machine = self._told(self._status).machine
        if machine is None:
            raise NotChecked(_("the server is older and does not report it"))
        return machine
