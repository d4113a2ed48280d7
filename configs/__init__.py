"""ml_collections config files, each with a `get_config()`."""
