"""`gateway bench`: what this machine can do, measured with the gateway's own stack. Loopback only."""
