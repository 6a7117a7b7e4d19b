"""`gateway watch`: follows tasks at a terminal, over the stream that the gateway pushes."""
