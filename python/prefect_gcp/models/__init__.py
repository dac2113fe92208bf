"""Types of job variables."""
