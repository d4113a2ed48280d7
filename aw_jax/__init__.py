"""aw_jax: language world models of agent environments, and agents trained inside them."""
