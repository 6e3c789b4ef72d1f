"""What Serve gets of a configuration; that it runs is tested where a server is."""

from __future__ import annotations

from ray.serve._private.config import DeploymentConfig

from deployments.app import routed_by


def test_a_router_of_ours_reaches_every_process_under_the_name_of_serves_own() -> None:
    sent = DeploymentConfig(request_router_config=routed_by("deployments.routing.LeastBusyRouter"))
    got = DeploymentConfig.from_proto_bytes(sent.to_proto_bytes()).request_router_config
    assert got.is_default_request_router()
    assert got.get_request_router_class().__name__ == "LeastBusyRouter"
