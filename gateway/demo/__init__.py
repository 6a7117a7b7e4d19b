"""What `gateway demo` plays: a backend, and front ends that keep it busy."""
