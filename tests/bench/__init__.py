"""`make bench` measures what each kind of request costs the server: see docs/performance.md."""
