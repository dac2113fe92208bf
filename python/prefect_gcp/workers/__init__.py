"""Workers of this integration."""
