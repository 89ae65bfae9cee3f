"""`python -m theory`: measure the theorems and remarks, and write tables, pictures and report to results/theory/."""

from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from runs import cli

from .settings import Theory, validate

cli.register()
ConfigStore.instance().store(group="schema", name="theory", node=Theory)


@hydra.main(config_path=str(cli.ROOT / "configs"), config_name="theory", version_base="1.3")
@cli.task
def main(config) -> None:
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, Theory)
    validate(settings)

    from . import report

    folder = Path(settings.results) / "theory"
    if settings.redraw:
        results = report.load(folder)
    else:
        from .run import compute

        tables, provenance = compute(settings)
        changes = [change for change in HydraConfig.get().overrides.task if not change.startswith(report.OPERATIONAL)]
        provenance["changes"] = [change for change in changes if not change.startswith("only=")]
        if settings.only:
            kept, before = report.load(folder)
            tables = kept | {name: tables[name] for name in settings.only}
            provenance["seconds"] += before["seconds"]
            provenance["changes"] = list(dict.fromkeys([*before["changes"], *provenance["changes"]]))
        results = report.store(folder, tables, provenance)
    for line in report.write(folder, *results):
        print(line)


if __name__ == "__main__":
    cli.run(main)
