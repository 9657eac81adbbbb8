"""How HTTP and sockets are served: the server, its request handler and the threads that work for it."""
