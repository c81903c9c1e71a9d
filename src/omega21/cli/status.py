"""`omega21 status`: what a server does, and a run's statistics."""

from typing import TYPE_CHECKING

from omega21.cli.options import (
    Address,
    Ca,
    Json,
    Quiet,
    Run,
    Timeout,
    Token,
    TokenFile,
    Verbose,
)
from omega21.language import _

if TYPE_CHECKING:
    from omega21.protocol.classic import Status
    from omega21.protocol.traffic import MonthTraffic
    from omega21.protocol.tunnels import TunnelKind


def status(
    address: Address = None,
    *,
    run: Run = "default",
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 60,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show the state of a server and the statistics of a run."""
    from omega21.cli.connection import connect
    from omega21.cli.output import Output, facts

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with connect(
        address, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
    ) as client:
        found = client.status(run)
    output.result(found.model_dump(mode="json"), facts(status_rows(found)))


def status_rows(status: "Status") -> list[tuple[str, str]]:
    """Name the figures of a run's status."""
    figures = status.estadisticas
    feedback = figures.feedback
    restarts = f"{status.restarts}" + (f", last {status.last_death}" if status.last_death else "")
    return [
        ("run", f"{status.run}: {status.state}, step {status.step} of {status.target}"),
        ("durable", f"step {status.durable_step}"),
        ("trained", f"{figures.total_muestras} samples in {figures.total_batches} batches"),
        (
            "loss",
            f"{figures.loss_promedio_global:.4f} on average, "
            f"{figures.loss_promedio_ultimos_100:.4f} over the last 100 steps",
        ),
        ("anomaly probability", f"{figures.anomalia_media:.3f} on average"),
        ("feedback", f"{feedback.recibido} received, {feedback.exitoso} validated"),
        ("model", status.modelo),
        ("device", f"{figures.dispositivo}, {figures.gpu_memoria_mb:.0f} MB in use"),
        ("torch", f"{status.torch_version}, CUDA {'yes' if status.cuda_available else 'no'}"),
        ("up for", f"{figures.tiempo_transcurrido_seg:.0f} s"),
        ("restarts", restarts),
        *([("traffic", traffic_line(status.traffic))] if status.traffic else []),
    ]


def traffic_line(traffic: "MonthTraffic") -> str:
    """Say what this month's traffic is, and what the tunnel leaves."""
    used = _("{megabytes:.1f} MB and {requests} requests in {month}").format(
        megabytes=traffic.bytes / 1e6, requests=traffic.requests, month=traffic.month
    )
    if traffic.bytes_left is None or traffic.requests_left is None:
        return used + _at_a_time(traffic.tunnel)
    return _(
        "{used}; {tunnel}'s free plan leaves {megabytes:.0f} MB and {requests} requests"
    ).format(
        used=used,
        tunnel=traffic.tunnel,
        megabytes=traffic.bytes_left / 1e6,
        requests=traffic.requests_left,
    )


def _at_a_time(tunnel: "TunnelKind") -> str:
    """Say what a tunnel without a monthly limit allows at a time; empty where it allows all."""
    from omega21.protocol.tunnels import LIMITS

    limits = LIMITS[tunnel]
    if limits.requests_in_flight is None or limits.request_seconds is None:
        return ""
    return _(
        "; {tunnel} carries {requests} requests at a time, of {seconds:.0f} s at most, "
        "and has no limit a month"
    ).format(tunnel=tunnel, requests=limits.requests_in_flight, seconds=limits.request_seconds)
