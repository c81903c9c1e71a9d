"""What brings the server's port to the outside."""

from typing import Literal

TunnelKind = Literal["none", "ngrok", "cloudflared"]
"""`none`: the server's own address, `ssh -L`, or a proxy of the user's."""

TunnelAsked = Literal["auto", "none", "ngrok", "cloudflared"]
"""`auto`: ngrok where there is a token for it, else cloudflared where its program is."""
