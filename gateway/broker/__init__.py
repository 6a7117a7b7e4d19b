"""Redis Streams as the broker: publishers near the folders, edges near the users, one order of events over all."""
