"""What runs inside the sandbox of the mcp domain: the launcher and the shop server."""
