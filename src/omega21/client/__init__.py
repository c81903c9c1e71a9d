"""The client, on the user's own machine; imports neither torch nor a web framework."""

import sys
from types import ModuleType

# httpx loads what its own command needs (click, rich, pygments) wherever that is installed, which
# is a sixth of what importing the client takes; where it is not, it goes on without.
sys.modules.setdefault("httpx._main", ModuleType("httpx._main"))
