"""A browser's session: a cookie that replaces the token after the login."""

from pydantic import Field

from omega21.protocol.messages import Reply, Request


class LogIn(Request):
    """The server's token, sent once to log in."""

    token: str = Field(min_length=1, max_length=512, repr=False)


class SessionState(Reply):
    """Whether the caller is logged in, or needs no login."""

    login_needed: bool = Field(description="false on a server without a token")
    logged_in: bool = Field(description="whether this request carries what opens the server")
