"""Runs a job: the supervisor, the child that runs the user code, and what they need."""
