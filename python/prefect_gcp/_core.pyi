"""The Rust core, as Python sees it."""

__version__: str
