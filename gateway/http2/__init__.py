"""HTTP/2 beside HTTP/1.1, on the same ports."""
