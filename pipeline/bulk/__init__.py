"""Any number of photos through one model or cascade: a sorted list on disk, parts of it, a Parquet file per part."""
