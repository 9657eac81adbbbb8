"""How HTTP and WebSockets are served: the server, the request handler and the thread pool."""

import sys

# Twisted can do without OpenSSL, which takes 9 MB: TLS is the proxy's task.
sys.modules.setdefault("OpenSSL", None)  # type: ignore[arg-type]
