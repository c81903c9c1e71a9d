"""A browser's session: the token is given once, and a cookie stands for it from then on."""

from pydantic import Field

from omega21.protocol.messages import Reply, Request


class LogIn(Request):
    """The token of the server, to be shown once."""

    token: str = Field(min_length=1, max_length=512, repr=False)


class SessionState(Reply):
    """Whether this browser, or whoever asks, may call."""

    login_needed: bool = Field(description="false on a server without a token")
    logged_in: bool = Field(description="whether this request carries what opens the server")
