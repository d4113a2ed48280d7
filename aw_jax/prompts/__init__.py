"""System prompts per domain and template, chat rendering, strict tag parsing."""
