"""The suite's results on W&B.

    python -m dashboards [publish|sync|watch] [--results results] [--project P] [--entity E]

publish: the archive's runs, the summaries, the dashboard and the report, in your project. sync: upload what was logged
offline or left behind by a lost server. watch: curves of local runs in the terminal, without an account.
"""

import sys
from pathlib import Path

from analysis.records import Parser
from dashboards import sync


def main() -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="publish", choices=["publish", "sync", "watch"])
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parent.parent / "results")
    parser.add_argument("--project")
    parser.add_argument("--entity")
    arguments = parser.parse_args()
    if arguments.what == "watch":
        return sync.watch(arguments.results / "runs")
    if arguments.what == "sync":
        return min(1, sync.sync(arguments.results / "runs"))
    from dashboards.publish import publish

    return publish(arguments.results, arguments.project, arguments.entity)


if __name__ == "__main__":
    sys.exit(main())
