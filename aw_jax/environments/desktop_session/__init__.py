"""What runs inside a desktop's sandbox, by the system's own Python (see desktop_host.py)."""
