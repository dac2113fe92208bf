"""Values that job variables hold."""
