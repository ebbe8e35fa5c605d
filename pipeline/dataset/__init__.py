"""Build a data set: from a folder of photos and a list of species to a manifest, in stages."""
