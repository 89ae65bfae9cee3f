"""The config of a run, its identity and its folder on disk; the archive. The contract between training and reading."""
