"""What is passed on to a backend, and how."""
