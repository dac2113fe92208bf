"""Scripts for the repository itself."""
