"""One page of all results, results/report.html, and a REPORT.md for each tier.

    python -m report [--tier smoke] [--results results]

Reads what the runs and figures have written; trains and draws nothing. Also updates README's figures and tables of
claims. With --tier: a page of only that tier, in its folder.
"""

from analysis.claims.fixed import Ancestry
from analysis.claims.judge import everything
from analysis.records import RESULTS, command, options
from runs.files import write_text

from .page import TIERS, page
from .readme import refreshed
from .text import text


def main() -> None:
    arguments = options(__doc__, None).parse_args()
    results = arguments.results
    tiers = [arguments.tier] if arguments.tier else [
        tier for tier in TIERS if tier != "smoke" and (results / tier / "archive").exists()]  # fmt: skip
    ancestry = Ancestry(results)
    verdicts = {tier: everything(results, tier, ancestry) for tier in tiers}
    ancestry.write()
    place = results / arguments.tier if arguments.tier else results
    print("report  ", write_text(place / "report.html", page(results, verdicts)))
    for tier in tiers:
        print("report  ", write_text(results / tier / "REPORT.md", text(results, tier, verdicts[tier])))
    if results == RESULTS and not arguments.tier:
        readme = RESULTS.parent / "README.md"
        print("report  ", write_text(readme, refreshed(readme.read_text(), results, verdicts)))


if __name__ == "__main__":
    command(main)
