"""Studies: arms that differ from one config in few values, each with several seeds."""
