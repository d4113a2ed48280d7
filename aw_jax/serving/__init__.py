"""An endpoint for the world model: OpenAI's chat-completions API over continuous batching."""
