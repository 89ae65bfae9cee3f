"""The four convergence theorems of the paper (A.1, B.1, 3.1, 3.2) as programs: `python -m theory`.

problems, oracle  what assumptions 3.1 and 3.2 require: L, a lower bound of f, a variance, all with proofs
bounds            the right sides, with the best epsilon
iteration         the four algorithms, many repetitions at once
experiment        every cell of the grid, measured against its bound
remarks           the testable statements in the paper's remarks
steps, network    the proofs' step size against tuned constant ones
draw, report      the files in results/theory/
"""
