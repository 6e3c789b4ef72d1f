"""A configuration as Kubernetes manifests for KubeRay: pure functions that give plain documents."""
