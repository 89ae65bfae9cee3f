"""The claims of the paper, and the tests that judge them."""
