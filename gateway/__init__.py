"""Push instead of poll: a gateway between a folder of task files and whoever waits for them."""

__version__ = "0.1.0"
