"""`omega21 status`: the state of a server and the statistics of a run."""

from typing import TYPE_CHECKING

from omega21.cli.options import OutputOptions, RunOrNewest, ServerArgument
from omega21.cli.ui.states import state_label
from omega21.language import _
from omega21.language.borrowed import translated
from omega21.language.figures import count, decimal, duration, number, size

if TYPE_CHECKING:
    from omega21.protocol.legacy import Status
    from omega21.protocol.link.tunnels import TunnelKind
    from omega21.protocol.link.usage import MonthTraffic


def status(*, run: RunOrNewest = None, server: ServerArgument, output: OutputOptions) -> None:
    """Show the state of a server and the statistics of a run."""
    from omega21.cli.connection import connect, run_to_show
    from omega21.cli.ui.output import key_values

    out = output.open()
    with connect(server, out) as client:
        found = client.status(run_to_show(client, run))
    out.result(found.model_dump(mode="json"), key_values(status_rows(found)))


def status_rows(status: "Status") -> list[tuple[str, str]]:
    """Return names and values of a run's status."""
    statistics = status.estadisticas
    feedback = statistics.feedback
    loss = _("{mean} on average, {recent} over the last 100 steps").format(
        mean=number(statistics.loss_promedio_global),
        recent=number(statistics.loss_promedio_ultimos_100),
    )
    trained = _("{samples} samples in {batches} batches").format(
        samples=count(statistics.total_muestras), batches=count(statistics.total_batches)
    )
    counted = _("{received} received, {validated} validated").format(
        received=count(feedback.recibido), validated=count(feedback.exitoso)
    )
    device = _("{device}, {memory} in use").format(
        device=statistics.dispositivo, memory=size(statistics.gpu_memoria_mb * 1e6)
    )
    cuda = _("CUDA yes") if status.cuda_available else _("CUDA no")
    return [
        (_("run"), _position(status)),
        (_("durable"), _("step {step}").format(step=count(status.durable_step))),
        (_("trained"), trained),
        (_("loss"), loss),
        (
            _("anomaly probability"),
            _("{mean} on average").format(mean=number(statistics.anomalia_media, 3)),
        ),
        (_("feedback"), counted),
        (_("model"), status.modelo),
        (_("device"), device),
        ("torch", f"{status.torch_version}, {cuda}"),
        (_("up for"), duration(statistics.tiempo_transcurrido_seg)),
        (_("restarts"), _restarts(status)),
        *([(_("traffic"), traffic_line(status.traffic))] if status.traffic else []),
    ]


def _position(status: "Status") -> str:
    return _("{run}: {state}, step {step} of {target}").format(
        run=status.run,
        state=state_label(status.state),
        step=count(status.step),
        target=count(status.target),
    )


def _restarts(status: "Status") -> str:
    if not status.last_death:
        return count(status.restarts)
    return _("{count}, last {reason}").format(
        count=count(status.restarts), reason=translated(status.last_death)
    )


def traffic_line(traffic: "MonthTraffic") -> str:
    """Describe this month's traffic, and what remains of the tunnel's limit."""
    used = _("{megabytes} MB and {requests} requests in {month}").format(
        megabytes=decimal(traffic.bytes / 1e6, 1),
        requests=count(traffic.requests),
        month=traffic.month,
    )
    if traffic.bytes_left is None or traffic.requests_left is None:
        return used + _at_a_time(traffic.tunnel)
    return _("{used}; {tunnel}'s free plan leaves {megabytes} MB and {requests} requests").format(
        used=used,
        tunnel=traffic.tunnel,
        megabytes=decimal(traffic.bytes_left / 1e6, 0),
        requests=count(traffic.requests_left),
    )


def _at_a_time(tunnel: "TunnelKind") -> str:
    """Describe the concurrency limit of a tunnel without a monthly limit; empty without one."""
    from omega21.protocol.link.tunnels import LIMITS

    limits = LIMITS[tunnel]
    if limits.requests_in_flight is None or limits.request_seconds is None:
        return ""
    return _(
        "; {tunnel} allows {requests} requests at a time, of {seconds} s at most, and has no "
        "monthly limit"
    ).format(
        tunnel=tunnel,
        requests=limits.requests_in_flight,
        seconds=decimal(limits.request_seconds, 0),
    )
