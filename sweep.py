"""Train all runs that an experiment asks for: `python sweep.py experiment=fig2 tier=smoke launcher=local`."""

import sys

import hydra

from training import cli

cli.register()


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
@cli.task
def main(config) -> None:
    from sweeps.plan import make_plan

    plan = make_plan(config)
    missing = plan.missing()
    print(plan.summary(), flush=True)
    path = plan.write()
    failures = []
    if missing:
        from sweeps.launch import launch

        failures = launch(missing)
    for line in failures:
        print(f"not finished: {line}", file=sys.stderr)
    print(f"{len(plan.jobs) - len(plan.missing())} of {len(plan.jobs)} runs finished; {path}")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
