"""The real worlds: one interface, one sandbox, one registry, one file a domain."""
