"""The figures of a run's last segment, from the results that its server holds."""

from omega21.client.api.api import Api
from omega21.client.store.summary import Summary, summarise
from omega21.client.training.provenance import changed_at
from omega21.language import _
from omega21.protocol.errors import UnknownSegment


async def remote_summary(api: Api, run: str) -> Summary:
    """Return the figures of a run's last segment, from the results that the server holds.

    Its samples are evaluated by `evaluate` and `train` only. Raises UnknownSegment when the
    run has no plan or that segment has no results.
    """
    plan, state = await api.plans.get(run), await api.runs.state(run)
    first = state.plan_steps - plan.segments[-1].steps + 1 if plan.segments else 0
    rows = (await api.steps.read(run, after=first - 1, limit=1)).steps if first else []
    if not rows:
        raise UnknownSegment(
            _("run {run!r} has no results yet").format(run=run), hint=_("train it first")
        )
    last = (await api.steps.read(run, after=state.step - 1, limit=1)).steps
    non_finite = sum([row.non_finite async for row in api.steps.history(run, after=first - 1)])
    return summarise(
        run,
        plan.segments[-1],
        ends=(rows[0], last[0] if last else rows[0]),
        evaluation=None,
        seconds=0.0,
        weights_sha256=state.weights_sha256,
        non_finite_steps=non_finite,
        deterministic=state.config.deterministic,
        environment_changed_at=changed_at(state.environments, first=first, last=state.step),
        task=state.config.task.kind,
    )
