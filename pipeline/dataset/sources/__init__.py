"""Sources of a region's species list: one file per source."""
