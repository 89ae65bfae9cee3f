"""The data sets of the paper's Table 2: downloaded, verified and served for training."""
