"""The suite's results on W&B.

    python -m dashboards [publish|sync|watch|views] [--results results] [--project P] [--entity E]

publish: put the archive's runs, the summaries, the dashboard and the report into your project. sync: upload what was
logged offline or not received because a server failed. watch: show curves of local runs in the terminal, without an
account. views: write the dashboard as W&B gets it to docs/wandb-views.json.
"""

import sys
from pathlib import Path

from analysis.records import Parser, command
from dashboards import sync
from runs.files import write_text

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", default="publish", choices=["publish", "sync", "watch", "views"])
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--project")
    parser.add_argument("--entity")
    arguments = parser.parse_args()
    if arguments.what == "watch":
        return sync.watch(arguments.results / "runs")
    if arguments.what == "sync":
        return min(1, sync.sync(arguments.results / "runs"))
    if arguments.what == "views":
        from dashboards.views import example

        write_text(ROOT / "docs" / "wandb-views.json", example())
        return 0
    from dashboards.publish import publish

    return publish(arguments.results, arguments.project, arguments.entity)


if __name__ == "__main__":
    command(lambda: sys.exit(main()))
