"""The networks of the paper's Table 2, one file each; none of them knows the rest of the suite."""
