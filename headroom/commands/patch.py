"""``headroom patch``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headroom.options import policy_option, store_option

if TYPE_CHECKING:
    from headroom.patching import Patches


@click.command("patch")
@store_option()
@policy_option()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the patches.")
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="kubectl get -o yaml of the workloads: patches and rollbacks then start from it. May be repeated.",
)
@click.option(
    "--kind",
    type=click.Choice(["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"], case_sensitive=False),
    default="Deployment",
    show_default=True,
    help="Kind to patch where no manifest tells.",
)
@click.option("--namespace", default="default", show_default=True, help="Namespace where no manifest tells.")
@click.option("--in-place", is_flag=True, help="Also patches that resize the running pods, without a restart.")
@click.option(
    "--helm-map",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Also values for Helm: a YAML file with a line per container, as  shop/web/app: web.resources",
)
def command(
    store: Path,
    policy_name: str,
    out: Path,
    manifests: tuple[Path, ...],
    kind: str,
    namespace: str,
    in_place: bool,
    helm_map: Path | None,
) -> None:
    """Write a strategic-merge patch per workload, its rollback, and print the kubectl lines.

    Nothing is applied. A patch names what changes, so sidecars stay as they are. Where an autoscaler follows
    the requests, its target changes with them. The folder is a kustomize component, too.

    \b
    Example:
      headroom patch --store host.db --out patches
      kubectl get deploy -n shop -o yaml > shop.yaml
      headroom patch --store shop.db --out patches --manifest shop.yaml
    """
    from headroom.keep import Keep
    from headroom.patching import patches_of, write_patches, write_values
    from headroom.sizing import size_store
    from reports.helm_values import read_mapping

    mapping = read_mapping(helm_map) if helm_map is not None else None
    _, rows = size_store(store, policy_name, keep=Keep.SIZES)
    patches = patches_of(rows, manifests, kind, namespace)
    removed = write_patches(patches, out)
    for patch in patches.in_order:
        file = f"{patch.name}.{patch.suffix}"
        click.echo(patch.command.replace(file, shlex.quote(str(out / file))))
    for container, reason in patches.without.items():
        click.echo(f"no patch for {container.name}: {reason}", err=True)
    if in_place:
        _resize(store, patches, out)
    if mapping is not None:
        for name in write_values(patches, mapping, out):
            click.echo(f"no Helm values for {name}: --helm-map does not name it", err=True)
    if removed:
        click.echo(f"removed {len(removed)} files of an earlier run", err=True)
    if any(row.declared is None for row in rows) and patches.by_container and not manifests:
        click.echo(
            "without --manifest a rollback can only restore what the cgroups showed, not your manifests", err=True
        )
    made = len(set(patches.by_container.values()))
    click.echo(f"{made} patches in {out}, their rollbacks in {out / 'rollback'}", err=True)


def _resize(store: Path, patches: Patches, out: Path) -> None:
    """Write what resizes running pods, and print the line for each."""
    from headroom.resizing import write_resizes
    from profiles.errors import UsageError
    from recommender.inputs.inventory_file import read_inventories

    inventories = read_inventories(store) if store.is_dir() else []
    if not inventories:
        raise UsageError("Which pods run is not known.", "Pull a store from a cluster first: headroom pull.")
    for inventory in inventories:
        made = write_resizes(patches, inventory, out)
        for line in made.lines:
            click.echo(line)
        for each in made.left_out:
            click.echo(f"note: {each}", err=True)
