"""What runs inside the sandbox of the textgame domain: three game engines behind one protocol."""
