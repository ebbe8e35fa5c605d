"""From a folder of photos and a list of species to a manifest: the stages, in the order in which data flows."""
