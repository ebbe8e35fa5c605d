"""Classify any number of photos: a sorted list on disk, split into parts, with a Parquet file of answers per part."""
