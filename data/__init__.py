"""The data sets of the paper's Table 2: fetched, verified and held ready for training."""
