"""How HTTP and WebSockets are served: the server, the request handler and the thread pool."""
