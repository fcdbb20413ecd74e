"""The runs of a whole fleet: one Parquet dataset in a folder or a bucket, to which any number of machines append."""
