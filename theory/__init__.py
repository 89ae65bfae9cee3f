"""The four convergence theorems of the paper (A.1, B.1, 3.1, 3.2) as programs: `python -m theory`.

problems, oracle  what the assumptions 3.1 and 3.2 ask for: L, a lower bound of f, a variance, all proved
bounds            the right sides, epsilon optimised
iteration         the four algorithms, many repetitions at once
experiment        every cell of the grid, measured against its bound
remarks           what the paper's remarks say that can be tested
steps, network    the proofs' step size against tuned constant ones
draw, report      what is written to results/theory/
"""
