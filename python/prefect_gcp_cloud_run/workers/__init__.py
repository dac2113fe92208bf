"""The workers of this package."""
