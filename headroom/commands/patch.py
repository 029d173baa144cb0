"""``headroom patch``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from headroom.options import policy_option, store_option


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
def command(store: Path, policy_name: str, out: Path, manifests: tuple[Path, ...], kind: str, namespace: str) -> None:
    """Write a strategic-merge patch per workload, its rollback, and print the kubectl lines.

    Nothing is applied. A patch names one container, so sidecars stay as they are.

    \b
    Example:
      headroom patch --store host.db --out patches
      kubectl get deploy -n shop -o yaml > shop.yaml
      headroom patch --store shop.db --out patches --manifest shop.yaml
    """
    from headroom.keep import Keep
    from headroom.sizing import patches_of, size_store, write_patches

    _, rows = size_store(store, policy_name, keep=Keep.SIZES)
    patches, without = patches_of(rows, manifests, kind, namespace)
    removed = write_patches(patches, out)
    for patch in patches.values():
        click.echo(patch.command.replace(f"{patch.name}.yaml", shlex.quote(str(out / f"{patch.name}.yaml"))))
    for name, reason in without.items():
        click.echo(f"no patch for {name}: {reason}", err=True)
    if removed:
        click.echo(f"removed {len(removed)} files of an earlier run", err=True)
    if patches and not manifests:
        click.echo(
            "without --manifest a rollback can only restore what the cgroups showed, not your manifests", err=True
        )
    click.echo(f"{len(patches)} patches in {out}, their rollbacks in {out / 'rollback'}", err=True)
