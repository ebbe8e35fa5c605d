"""The sections of a configuration, a module per stage of the work: the types are the schema, with a help text by each field."""
