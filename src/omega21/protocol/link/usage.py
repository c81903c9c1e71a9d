"""A server's traffic in a calendar month, and what remains of its tunnel's limits."""

from pydantic import Field

from omega21.protocol.link.tunnels import LIMITS, TunnelKind
from omega21.protocol.messages import Reply


class MonthTraffic(Reply):
    """Requests and bytes of the current calendar month (UTC).

    Headers are estimated, bodies exact.
    """

    tunnel: TunnelKind
    month: str = Field(description="such as 2025-01")
    requests: int
    bytes_in: int = Field(description="to the server")
    bytes_out: int = Field(description="from the server")
    requests_left: int | None = Field(
        default=None, description="of what the tunnel's free plan allows; null without a limit"
    )
    bytes_left: int | None = Field(default=None, description="the same, in both directions")

    @property
    def bytes(self) -> int:
        """Bytes in both directions."""
        return self.bytes_in + self.bytes_out


def month_traffic(
    tunnel: TunnelKind, *, month: str, requests: int, bytes_in: int, bytes_out: int
) -> MonthTraffic:
    """Compare the counted traffic with the tunnel's limits."""
    limits = LIMITS[tunnel]
    return MonthTraffic(
        tunnel=tunnel,
        month=month,
        requests=requests,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        requests_left=_left(limits.requests_a_month, requests),
        bytes_left=_left(limits.bytes_a_month, bytes_in + bytes_out),
    )


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)
