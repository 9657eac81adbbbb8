"""What a request costs the server: `make bench`. How to read it: docs/performance.md."""
