"""How a request is read, and how an answer or a stream goes out."""
