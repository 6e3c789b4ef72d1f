"""`headrace k8s render` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import headrace

CONFIG = """
repository: models
models:
  encoder: {versions: ["3"], cache: true}
  resnet: {versions: ["1"], placement: replicas, num_gpus: 2.0}
"""


def render(folder: Path, *options: str, config: str = CONFIG) -> tuple[int, str]:
    (folder / "serve.yaml").write_text(config)
    out = str(folder / "k8s")
    done = headrace("k8s", "render", str(folder / "serve.yaml"), "--out", out, *options)
    return done.returncode, done.stdout + done.stderr


def test_it_tells_the_nodes_the_secrets_and_what_to_apply(tmp_path: Path) -> None:
    options = ["--gpus-per-node", "2", "--name", "ours", "--recipe", "encoder=/models/r.py"]
    code, told = render(tmp_path, *options, "--goal", "max_drop=0.01", "--monitor-label", "team=search")
    assert code == 0, told
    assert "2 to 3 nodes of 4 CPUs" in told
    assert "1 to 2 nodes of 2 GPUs and 4 CPUs" in told
    assert "ours-state (REDIS_PASSWORD) and ours-cache (HEADRACE_CACHE_PASSWORD)" in told
    assert f"kubectl apply -k {tmp_path}/k8s/overlays/gpu" in told
    jobs = (tmp_path / "k8s" / "base" / "jobs.yaml").read_text()
    assert "max_drop=0.01" in jobs
    assert "team: search" in (tmp_path / "k8s" / "base" / "monitoring.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], ["models.resnet.num_gpus is 2", "up to 1"]),
        (["--gpus-per-node", "2", "--name", "Ours"], ["--name is 'Ours'"]),
        (["--gpus-per-node", "2", "--goal", "max_dorp=1"], ["max_dorp"]),
        (["--gpus-per-node", "0"], ["--gpus-per-node"]),
        (["--monitor-label", "team"], ["--monitor-label 'team'", "NAME=VALUE"]),
        (["--gpus-per-node", "2", "--recipe", "other=/models/r.py"], ["--recipe is for 'other'"]),
    ],
)
def test_what_is_refused_writes_nothing(tmp_path: Path, options: list[str], told: list[str]) -> None:
    code, output = render(tmp_path, *options)
    assert code == 2, output
    for words in told:
        assert words in output
    assert not (tmp_path / "k8s").exists()


def test_bounds_that_cross_are_refused(tmp_path: Path) -> None:
    autoscaling = "autoscaling: {min_replicas: 3, max_replicas: 2}"
    config = f'models: {{m: {{versions: ["1"], placement: replicas, {autoscaling}}}}}'
    code, output = render(tmp_path, config=config)
    assert code == 2
    assert "min_replicas is 3 and max_replicas is 2" in output
