"""What runs inside the sandbox of the web domain: Chromium, and what drives and serves it."""
