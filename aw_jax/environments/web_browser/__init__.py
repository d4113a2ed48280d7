"""What runs inside the sandbox of the web domain: Chromium, what drives it, what serves its pages."""
